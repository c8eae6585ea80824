// The one loop behind conv2d_forward and the input gradient of conv2d_backward: several small
// stride-s convolutions ("phases") that read one padded, normalised input and interleave their
// outputs. A plain convolution is one phase; after nearest upsampling by two the four output
// parities are four convolutions of the small input with summed taps; the input gradient of a
// stride-s convolution is s * s convolutions of dout.
#pragma once

#include <vector>

#include "kernels/context.h"
#include "kernels/convolution.h"

namespace vilg::cpu {

// out[out_y + i * out_step, out_x + j * out_step] = sum over taps of
//   w[tap] . in[in_y + i * stride + tap_y, in_x + j * stride + tap_x]
struct ConvPhase {
  int64_t taps_y = 0, taps_x = 0;  // 0: the sum is empty
  int64_t in_y = 0, in_x = 0;      // negative: in the padding
  int64_t out_y = 0, out_x = 0;
  int64_t out_height = 0, out_width = 0;  // outputs of this phase
  // weight of (output channel n, input channel k, tap) at weights[n * n_stride + k * k_stride +
  // tap_base + tap_y * tap_y_stride + tap_x * tap_x_stride]
  const void* weights = nullptr;
  DType weight_dtype = DType::kFloat32;
  int64_t n_stride = 0, k_stride = 0;  // one of them is 1
  int64_t tap_base = 0, tap_y_stride = 0, tap_x_stride = 0;
};

struct ConvProblem {
  void* out = nullptr;
  const void* x = nullptr;
  const float* bias = nullptr;
  const void* residual = nullptr;
  const float *norm_mean = nullptr, *norm_rstd = nullptr, *norm_gamma = nullptr,
              *norm_beta = nullptr;
  int64_t norm_groups = 0;
  DType dtype = DType::kFloat32, compute = DType::kFloat32;
  int64_t batch = 0, height = 0, width = 0, in_channels = 0;
  int64_t out_height = 0, out_width = 0, out_channels = 0, out_step = 1;
  int64_t stride = 1;
  int64_t upsample = 1;  // of x, by repeating pixels as they are read
};

void run_convolution(const ConvProblem& problem, const std::vector<ConvPhase>& phases,
                     OpContext& ctx);

}  // namespace vilg::cpu
