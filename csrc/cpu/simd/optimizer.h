#pragma once

#include <stdint.h>

#include "cpu/simd/variant.h"

namespace vilg::cpu {

struct AdamWStep {
  float learning_rate, beta1, beta2, epsilon, weight_decay, grad_scale;
  float correction1, correction2;  // 1 / (1 - beta^t)
};

struct OptimizerSimd {
  // low_precision may be null
  void (*adamw)(float* parameter, uint16_t* low_precision, float* m, float* v, const float* grad,
                int64_t n, const AdamWStep* step);
};
VILG_DECLARE_SIMD(OptimizerSimd, optimizer)

}  // namespace vilg::cpu
