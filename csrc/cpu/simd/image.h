// Moving pixels about: matrix transposition with conversion, sums of 2 x 2.
#pragma once

#include <stdint.h>

#include "cpu/simd/gemm.h"

extern "C" {

struct VilgImageKernels {
  int32_t vector_width;
  // dst[c * dst_stride + r] = src[r * src_stride + c]
  void (*transpose)(void* dst, VilgStorage dst_storage, int64_t dst_stride, const void* src,
                    VilgStorage src_storage, int64_t src_stride, int64_t rows, int64_t columns);
  // One row of `width` pixels, each the sum of 2 x 2 of the two rows of twice the width.
  void (*sum_quads)(void* dst, const void* upper, const void* lower, VilgStorage storage,
                    int64_t width, int64_t channels);
};

VILG_DECLARE_SIMD(VilgImageKernels, image)
}
