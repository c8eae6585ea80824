#pragma once

#include <stdint.h>

#include "cpu/simd/variant.h"

namespace vilg::cpu {

// Arrays of two: [0] float32, [1] bfloat16.
struct LayerNormSimd {
  // one row; mean and rstd may be null
  void (*forward[2])(void* out, float* mean, float* rstd, const void* x, const float* gamma,
                     const float* beta, int64_t channels, float epsilon);
  // one row; dgamma and dbeta +=
  void (*backward[2])(void* dx, float* dgamma, float* dbeta, const void* dout, const void* x,
                      const float* gamma, float mean, float rstd, int64_t channels,
                      bool accumulate);
  // out[i] += partial[0][i] + partial[1][i] + ..., rows of the partials `stride` apart
  void (*add_partials)(float* out, const float* partials, int64_t num_partials, int64_t stride,
                       int64_t num_elements);
};
VILG_DECLARE_SIMD(LayerNormSimd, layer_norm)

}  // namespace vilg::cpu
