// GELU, tanh form, and its slope on a vector: shared by the gelu and gemm families.
#pragma once

#include "cpu/simd/vec.h"

namespace {

// 0.5 (1 + tanh u) = 1 / (1 + e^(-2u)), u = sqrt(2 / pi) (x + 0.044715 x^3): one exp, and no
// cancellation where x is very negative. This is the exponent -2u.
[[maybe_unused]] inline vf gelu_exponent(vf x) {
  return x * (-1.5957691216f + -0.07135481282f * (x * x));
}

[[maybe_unused]] inline vf gelu(vf x) { return x / (1.0f + exp(gelu_exponent(x))); }

[[maybe_unused]] inline vf gelu_slope(vf x) {
  // beyond +-16 the slope is 1 or 0 to the last bit, and x^2 cannot overflow
  const vf a = min(max(x, splat(-16.0f)), splat(16.0f));
  const vf s = 1.0f / (1.0f + exp(gelu_exponent(a)));
  const vf slope = s + a * s * (1.0f - s) * (1.5957691216f + 0.2140644385f * (a * a));
  return select(x == x, slope, x);  // NaN stays
}

}  // namespace
