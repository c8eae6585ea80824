#pragma once

#include <cstdint>

#include "core/dtype.h"

namespace vilg {

// 2-D convolution over NHWC with weights [Cout, Ky, Kx, Cin] (PyTorch's [Cout, Cin, Ky, Kx]
// permuted at the file's edge).
//   out[b, y, x, co] = bias[co] + residual[b, y, x, co] + sum w[co, ky, kx, ci] * in'[b, y*stride +
//   ky - pad_top, ...]
// where in' is the input after the prologue: GroupNorm by saved statistics and swish where
// norm_mean is given, then nearest upsampling by `upsample`. Padding is zero after the prologue, as
// in PyTorch where pad follows norm and swish.
struct Conv2dForwardParams {
  void* out = nullptr;             // (B, out_height, out_width, Cout)
  const void* x = nullptr;         // (B, height, width, Cin)
  const void* weight = nullptr;    // (Cout, Ky, Kx, Cin)
  const float* bias = nullptr;     // (Cout), may be null
  const void* residual = nullptr;  // like out, may be null
  const float *norm_mean = nullptr,
              *norm_rstd = nullptr;  // (B, groups): fused GroupNorm + swish; null: none
  const float *norm_gamma = nullptr, *norm_beta = nullptr;  // (Cin)
  int64_t norm_groups = 0;
  DType dtype = DType::kFloat32;         // x, out, residual
  DType weight_dtype = DType::kFloat32;  // weight
  DType compute = DType::kFloat32;
  int64_t batch = 0, height = 0, width = 0, in_channels = 0, out_channels = 0;
  int64_t kernel_y = 1, kernel_x = 1, stride = 1;
  int64_t pad_top = 0, pad_left = 0, pad_bottom = 0, pad_right = 0;
  int64_t upsample = 1;  // 1 or 2
  int64_t out_height() const {
    return (height * upsample + pad_top + pad_bottom - kernel_y) / stride + 1;
  }
  int64_t out_width() const {
    return (width * upsample + pad_left + pad_right - kernel_x) / stride + 1;
  }
};

// Gradients of the plain convolution (no prologue, upsample = 1): dx = (or +=), dweight and dbias
// always +=. Any of the three outputs may be null.
struct Conv2dBackwardParams {
  void* dx = nullptr;
  float* dweight = nullptr;  // (Cout, Ky, Kx, Cin)
  float* dbias = nullptr;    // (Cout)
  const void* dout = nullptr;
  const void* x = nullptr;
  const void* weight = nullptr;
  DType dtype = DType::kFloat32;
  DType weight_dtype = DType::kFloat32;
  DType compute = DType::kFloat32;
  int64_t batch = 0, height = 0, width = 0, in_channels = 0, out_channels = 0;
  int64_t kernel_y = 1, kernel_x = 1, stride = 1;
  int64_t pad_top = 0, pad_left = 0, pad_bottom = 0, pad_right = 0;
  bool accumulate = false;
  int64_t out_height() const { return (height + pad_top + pad_bottom - kernel_y) / stride + 1; }
  int64_t out_width() const { return (width + pad_left + pad_right - kernel_x) / stride + 1; }
};

// Nearest-neighbour upsampling by two over NHWC, and its gradient (sums of 2 x 2).
struct UpsampleForwardParams {
  void* out = nullptr;      // (B, 2H, 2W, C)
  const void* x = nullptr;  // (B, H, W, C)
  DType dtype = DType::kFloat32;
  int64_t batch = 0, height = 0, width = 0, channels = 0;  // of x
};
struct UpsampleBackwardParams {
  void* dx = nullptr;
  const void* dout = nullptr;
  DType dtype = DType::kFloat32;
  int64_t batch = 0, height = 0, width = 0, channels = 0;  // of dx
};

// NCHW float32 <-> NHWC of any dtype.
struct TransposeParams {
  void* out = nullptr;
  const void* x = nullptr;
  DType x_dtype = DType::kFloat32, out_dtype = DType::kFloat32;
  int64_t batch = 0, rows = 0, columns = 0;  // out[b, c, r] = x[b, r, c]
};

// What every backend refuses: null pointers, sizes below one, types other than float32 and
// bfloat16, channels that the groups do not divide, kernels beyond 63 or larger than the padded
// picture.
void validate(const Conv2dForwardParams& params);
void validate(const Conv2dBackwardParams& params);
void validate(const UpsampleForwardParams& params);
void validate(const UpsampleBackwardParams& params);
void validate(const TransposeParams& params);

}  // namespace vilg
