#pragma once

#include <cstdint>

namespace vilg {

// Fused softmax cross-entropy. A row with target < 0 counts nothing: its loss is 0, its gradient 0.
//   loss_r = -sum_v q_v log p_v + z_loss * logsumexp^2,   q = (1 - s) one_hot(target) + s / V,   s
//   = label_smoothing
struct CrossEntropyParams {
  float* loss = nullptr;  // (rows)
  float* dlogits =
      nullptr;  // (rows, V): row_scale * d loss_r / d logits; may be logits; null: forward only
  const float* logits = nullptr;  // (rows, V)
  const int32_t* targets = nullptr;
  int64_t rows = 0, vocab = 0;
  float row_scale = 1.0f;  // for example weight / number of targets
  float label_smoothing = 0.0f;
  float z_loss = 0.0f;
};
void validate(const CrossEntropyParams& params);

// sum (x - y)^2 as a double, in fixed blocks; dx = (or +=) scale * 2 (x - y). dx or sum may be
// null.
struct SquaredErrorParams {
  double* sum = nullptr;
  float* dx = nullptr;
  const float* x = nullptr;
  const float* y = nullptr;
  int64_t num_elements = 0;
  float scale = 1.0f;
  bool accumulate = false;
};
void validate(const SquaredErrorParams& params);

}  // namespace vilg
