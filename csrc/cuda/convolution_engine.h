#pragma once

#include <cstdint>

#include "core/dtype.h"
#include "cuda/queue.h"

namespace vilg::cuda {

// One axis of a convolution. Result c * step + r, for every class 0 <= r < step, is the sum over
// 0 <= tap < taps of
//   weight class mod(r + shift, step), tap  times  input c * stride + origin(r) + tap
// with origin(r) = floor((r + shift) / step) + extra. Weight classes from weight_classes on have no
// weights: those results get no products.
struct ConvolutionAxis {
  int in = 0, out = 0;  // pixels
  int taps = 1;
  int stride = 1;
  int step = 1, shift = 0, extra = 0;
  int weight_classes = 1;

  static ConvolutionAxis plain(int64_t in, int64_t out, int64_t kernel, int64_t stride,
                               int64_t pad) {
    return {.in = static_cast<int>(in),
            .out = static_cast<int>(out),
            .taps = static_cast<int>(kernel),
            .stride = static_cast<int>(stride),
            .shift = static_cast<int>(-pad)};
  }
  // After nearest upsampling by two, result o reads floor((o + tap - pad) / 2): the taps that read
  // the same input are summed first, once for even results and once for odd ones.
  static ConvolutionAxis upsampled(int64_t in, int64_t out, int64_t kernel, int64_t pad) {
    return {.in = static_cast<int>(in),
            .out = static_cast<int>(out),
            .taps = static_cast<int>(kernel / 2 + 1),
            .step = 2,
            .shift = static_cast<int>(-pad),
            .weight_classes = 2};
  }
  // The gradient by the input: the sum over o * stride + tap - pad = i of weight `tap` and dout[o].
  // Inputs i = c * stride + r have the taps k0 + stride * m with k0 = mod(r + pad, stride), which
  // read c + floor((r + pad) / stride) - m: in reverse, so that they ascend.
  static ConvolutionAxis gradient(int64_t in, int64_t out, int64_t kernel, int64_t stride,
                                  int64_t pad) {
    const int64_t taps = (kernel + stride - 1) / stride;
    return {.in = static_cast<int>(out),
            .out = static_cast<int>(in),
            .taps = static_cast<int>(taps),
            .step = static_cast<int>(stride),
            .shift = static_cast<int>(pad),
            .extra = static_cast<int>(1 - taps),
            .weight_classes = static_cast<int>(stride < kernel ? stride : kernel)};
  }
};

// What the forward convolution and the gradient by its input have in common.
struct Convolution {
  void* out = nullptr;             // (batch, y.out, x.out, out_channels)
  const void* in = nullptr;        // (batch, y.in >> fold, x.in >> fold, in_channels)
  const void* residual = nullptr;  // like out, may be out; null: none
  const float* bias = nullptr;     // (out_channels), may be null
  const float *norm_mean = nullptr, *norm_rstd = nullptr;   // (batch, norm_groups); null: no
  const float *norm_gamma = nullptr, *norm_beta = nullptr;  // norm and swish. (in_channels)
  const void* weight = nullptr;   // of the type `compute`: (y.weight_classes, x.weight_classes,
                                  // out_channels, y.taps, x.taps, weight_pitch), 16-byte aligned
  int64_t weight_pitch = 0;       // in_channels and zeros up to a multiple of 16 bytes
  DType dtype = DType::kFloat32;  // out, in, residual
  DType compute = DType::kFloat32;
  ConvolutionAxis y, x;
  int batch = 0, in_channels = 0, out_channels = 0, norm_groups = 1;
  int fold = 0;  // 1: the input is upsampled by two as it is read
};

// The result's bits depend on one picture's shape, not on their number nor on the device.
void run_convolution(const Convolution& convolution, Queue& queue);

}  // namespace vilg::cuda
