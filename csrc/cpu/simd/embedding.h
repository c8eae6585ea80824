#pragma once

#include <stdint.h>

#include "cpu/simd/variant.h"

namespace vilg::cpu {

// Arrays of two: [0] float32, [1] bfloat16.
struct EmbeddingSimd {
  // out = a + b + c + d in that order, d may be null; [dtype of the tables][dtype of out]
  void (*sum[2][2])(void* out, const void* a, const void* b, const void* c, const void* d,
                    int64_t n);
  // out = start + row; [dtype of row][dtype of out]
  void (*add_start[2][2])(void* out, const float* start, const void* row, int64_t n);
  // a += x, b += x, c += x; b and c may be null. [dtype of x]
  void (*accumulate[2])(float* a, float* b, float* c, const void* x, int64_t n);
};
VILG_DECLARE_SIMD(EmbeddingSimd, embedding)

}  // namespace vilg::cpu
