#pragma once

#include <cstdint>

#include "core/dtype.h"

namespace vilg {

// out = (x - mean) * rstd * gamma + beta over the last dimension; two-pass variance in float32.
struct LayerNormForwardParams {
  void* out = nullptr;    // (rows, C)
  float* mean = nullptr;  // (rows), may be null together with rstd
  float* rstd = nullptr;  // (rows)
  const void* x = nullptr;
  const float* gamma = nullptr;  // (C)
  const float* beta = nullptr;   // (C)
  DType dtype = DType::kFloat32;
  int64_t rows = 0, channels = 0;
  float epsilon = 1e-5f;
};
void validate(const LayerNormForwardParams& params);

// Data gradient = (or += with `accumulate`), parameter gradients always +=.
struct LayerNormBackwardParams {
  void* dx = nullptr;
  float *dgamma = nullptr, *dbeta = nullptr;
  const void* dout = nullptr;
  const void* x = nullptr;
  const float *gamma = nullptr, *mean = nullptr, *rstd = nullptr;
  DType dtype = DType::kFloat32;
  int64_t rows = 0, channels = 0;
  bool accumulate = false;
};
void validate(const LayerNormBackwardParams& params);

// GroupNorm over NHWC, then swish where asked: y = s(norm(x)), s(t) = t * sigmoid(t).
struct GroupNormForwardParams {
  void* out = nullptr;    // (B, P, C), P pixels; null: only the statistics
  float* mean = nullptr;  // (B, groups)
  float* rstd = nullptr;  // (B, groups)
  const void* x = nullptr;
  const float *gamma = nullptr, *beta = nullptr;  // (C)
  DType dtype = DType::kFloat32;
  int64_t batch = 0, pixels = 0, channels = 0, groups = 32;
  float epsilon = 1e-6f;
  bool swish = false;
};

struct GroupNormBackwardParams {
  void* dx = nullptr;
  float *dgamma = nullptr, *dbeta = nullptr;
  const void* dout = nullptr;
  const void* x = nullptr;
  const float *gamma = nullptr, *beta = nullptr, *mean = nullptr, *rstd = nullptr;
  DType dtype = DType::kFloat32;
  int64_t batch = 0, pixels = 0, channels = 0, groups = 32;
  bool swish = false;
  bool accumulate = false;
};

void validate(const GroupNormForwardParams& params);
void validate(const GroupNormBackwardParams& params);

// Softmax over the last dimension of scale * x.
struct SoftmaxForwardParams {
  float* out = nullptr;  // (rows, n); may be x
  const float* x = nullptr;
  int64_t rows = 0, n = 0;
  float scale = 1.0f;
};
struct SoftmaxBackwardParams {
  float* dx = nullptr;  // (rows, n); may be dout
  const float* dout = nullptr;
  const float* out = nullptr;
  int64_t rows = 0, n = 0;
  float scale = 1.0f;
};
void validate(const SoftmaxForwardParams& params);
void validate(const SoftmaxBackwardParams& params);

}  // namespace vilg
