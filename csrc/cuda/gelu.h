#pragma once

#include "cuda/device.h"

// GELU, tanh form: x / (1 + exp(-2 sqrt(2 / pi) (x + 0.044715 x^3))). Every operation is written
// out, so that two kernels that compute the same element agree in its bits.
namespace vilg::cuda {

// 1 / (1 + exp(-2 u)) = (1 + tanh u) / 2
__device__ __forceinline__ float gelu_gate(float x) {
  constexpr float kLinear = -2.302208198144325f, kCubic = -0.1029432395800235f;  // times log2(e)
  const float exponent = __fmul_rn(x, fmaf(kCubic, __fmul_rn(x, x), kLinear));
  return __fdiv_rn(1.0f, __fadd_rn(1.0f, exp2_fast(exponent)));
}

__device__ __forceinline__ float gelu(float x) { return __fmul_rn(x, gelu_gate(x)); }

// d gelu / dx
__device__ __forceinline__ float gelu_slope(float x) {
  constexpr float kLinear = 1.5957691216057308f, kCubic = 0.21406444881780076f;
  const float gate = gelu_gate(x);
  const float bend = __fmul_rn(gate, __fadd_rn(1.0f, -gate));
  // far out the bend is 0, and its factor may be infinite
  if (!(bend > 0.0f)) return gate;
  return fmaf(__fmul_rn(x, bend), fmaf(kCubic, __fmul_rn(x, x), kLinear), gate);
}

}  // namespace vilg::cuda
