// GroupNorm and softmax. Statistics of a group are spread over its channels, so that every loop
// runs over whole pixels.
#pragma once

#include <stdint.h>

#include "cpu/simd/gemm.h"

extern "C" {

// dt, the gradient of t = (x - mean) * rstd * gamma + beta, is dout * s'(t) with swish.
struct VilgGroupNormBackward {
  void* dx;
  const void *dout, *x;
  VilgStorage storage;
  int64_t pixels, channels;
  const float *mean, *rstd, *gamma, *beta;  // (channels)
  const float *average, *slope;  // (channels): means of dt * gamma and dt * gamma * normalised x
  float *sum, *sum_normalized;   // (channels): of dt and dt * normalised x
  int32_t swish, accumulate;
};

struct VilgGroupNormKernels {
  // sums[c] = sum of x[.][c] over the pixels
  void (*sums)(float* sums, const void* x, VilgStorage storage, int64_t pixels, int64_t channels);
  // d = x[.][c] - shift[c]: sums[c] of d, squares[c] of d * d
  void (*moments)(float* sums, float* squares, const void* x, VilgStorage storage, int64_t pixels,
                  int64_t channels, const float* shift);
  // out = s((x - mean) * scale + shift), s swish or nothing
  void (*normalize)(void* out, const void* x, VilgStorage storage, int64_t pixels, int64_t channels,
                    const float* mean, const float* scale, const float* shift, int32_t swish);
  void (*backward_sums)(const VilgGroupNormBackward*);
  void (*backward_apply)(const VilgGroupNormBackward*);
  void (*softmax)(float* out, const float* x, int64_t n, float scale);
  void (*softmax_backward)(float* dx, const float* dout, const float* out, int64_t n, float scale);
};

VILG_DECLARE_SIMD(VilgGroupNormKernels, group_norm)
}
