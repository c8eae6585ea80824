#pragma once

#include <stdint.h>

#include "cpu/simd/variant.h"

namespace vilg::cpu {

struct LossSimd {
  // one row of kernels/loss.h's cross_entropy with target >= 0; dlogits may be null or logits
  void (*cross_entropy)(float* loss, float* dlogits, const float* logits, int64_t vocab,
                        int64_t target, float row_scale, float label_smoothing, float z_loss);
  // sum of (x - y)^2 in double; y may be null and is 0 then
  double (*squared_sum)(const float* x, const float* y, int64_t n);
  // dx = scale (x - y), or +=; dx may be x or y
  void (*difference)(float* dx, const float* x, const float* y, int64_t n, float scale,
                     bool accumulate);
  // one row of kernels/image_losses.h's uniform_divergence; dlogits may be null
  void (*uniform_divergence)(float* divergence, float* dlogits, const float* logits, int64_t vocab,
                             float scale, bool accumulate);
  // one row of feature_distance, whose weighted squares it returns; dx may be null
  double (*feature_distance)(float* dx, const float* x, const float* y, const float* weights,
                             int64_t channels, float epsilon, float scale, bool accumulate);
};
VILG_DECLARE_SIMD(LossSimd, loss)

}  // namespace vilg::cpu
