#pragma once

#include <stdint.h>

#include "cpu/simd/gemm.h"

struct GeluSimd {
  void (*forward)(void* out, const void* x, VilgStorage storage, int64_t n);
  // dx = dout * gelu'(x), or += when accumulate
  void (*backward)(void* dx, const void* dout, const void* x, VilgStorage storage, int64_t n,
                   bool accumulate);
  // sums[j] = sum over rows of x[i * ld + j], rows in order
  void (*column_sums)(float* sums, const void* x, VilgStorage storage, int64_t ld, int64_t rows,
                      int64_t n);
};
VILG_DECLARE_SIMD(GeluSimd, gelu)
