// The tightest loops that the instruction set allows, as ceilings for what kernels reach: products
// of registers, and reads of memory that goes no further than a sum.
#pragma once

#include <stdint.h>

#include "cpu/simd/variant.h"

struct CeilingsSimd {
  // Each runs `iterations` rounds of independent fused multiply-adds on registers and returns a sum
  // that depends on all of them.
  float (*multiply_add)(int64_t iterations);
  int64_t multiply_add_flops;  // of one iteration, a fused multiply-add counting as two

  // The same of products of pairs of bfloat16 (vdpbf16ps); null where there is no such instruction.
  float (*multiply_pairs)(int64_t iterations);
  int64_t multiply_pairs_flops;

  // Reads `count` floats, a multiple of 256.
  float (*read)(const float* data, int64_t count);
};
VILG_DECLARE_SIMD(CeilingsSimd, ceilings)
