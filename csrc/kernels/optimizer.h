#pragma once

#include <cstdint>

#include "core/dtype.h"

namespace vilg {

// AdamW (Loshchilov & Hutter 2019), bias corrections included: with g = grad_scale * grad
//   m = beta1 m + (1 - beta1) g;  v = beta2 v + (1 - beta2) g^2
//   p = p - lr * (weight_decay * p + (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + epsilon))
struct AdamWParams {
  float* parameter = nullptr;     // (n)
  bf16* low_precision = nullptr;  // (n): the rounded copy that the model reads; may be null
  float* m = nullptr;
  float* v = nullptr;
  const float* grad = nullptr;
  int64_t num_elements = 0;
  float learning_rate = 0, beta1 = 0.9f, beta2 = 0.95f, epsilon = 1e-8f, weight_decay = 0;
  float grad_scale = 1.0f;
  int64_t step = 1;  // t, from 1
};
void validate(const AdamWParams& params);

// Sum of squares as a double, in fixed blocks.
struct SquaredNormParams {
  double* sum = nullptr;
  const float* x = nullptr;
  int64_t num_elements = 0;
};
void validate(const SquaredNormParams& params);

}  // namespace vilg
