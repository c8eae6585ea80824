#pragma once

#include "kernels/context.h"

namespace vilg {

// What no kernel can exceed on this machine, measured with all threads of a pool: the rates of
// loops that do nothing but multiply registers, or read memory larger than any cache. Of the
// instruction set in use (cpu_isa.h).
struct CpuCeilings {
  double float32_flops;   // per second, of fused multiply-adds counted as two
  double bfloat16_flops;  // of products of bfloat16 pairs; 0 where there is no instruction for them
  double read_bytes;      // per second
  double sustained_read_bytes;  // the same over the whole time instead of the best slice
};

// Runs each loop in slices of a few milliseconds for about `milliseconds` and takes the best slice:
// a ceiling is what the machine does undisturbed. Memory is shared with whatever else runs on the
// machine, virtual ones' neighbours included: what can be had for seconds may be far below.
CpuCeilings measure_cpu_ceilings(double milliseconds, OpContext& ctx);

}  // namespace vilg
