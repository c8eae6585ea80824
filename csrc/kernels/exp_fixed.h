#pragma once

#include <cstdint>
#include <cstring>

#include "core/host_device.h"

// Exponential to 64-bit fixed point and logarithm back, for the draw (kernels/draw.h): the same
// bits on every machine and backend. Integers where it can be, and float32 products and sums
// rounded one by one where integers would be slow (a pure integer polynomial took 45 us for 8192
// logits, this 9 us: SSE has no 64-bit multiplication).

namespace vilg {

inline constexpr int kMassBits = 40;  // a mass of 1 is 2^40, so up to 2^23 of them fit 64 bits

// A product that nothing is fused with: everything but the SIMD variants is compiled with
// -ffp-contract=off (CMakeLists.txt), and nvcc never fuses this function.
VILG_HOST_DEVICE inline float exp_fixed_product(float a, float b) {
#if defined(__CUDA_ARCH__)
  return __fmul_rn(a, b);
#else
  return a * b;
#endif
}
// a b + c with two roundings.
VILG_HOST_DEVICE inline float exp_fixed_step(float a, float b, float c) {
#if defined(__CUDA_ARCH__)
  return __fadd_rn(exp_fixed_product(a, b), c);
#else
  return a * b + c;
#endif
}

// 2^40 e^y for y <= 0, rounded down; 0 from -28 on (e^-28 < 2^-40) and for NaN. The relative error
// before that rounding is below 1e-7 (1 + |y|): 9.5e-8 from the polynomial, the rest from rounding
// y log2(e). In two steps, because the first vectorises on every machine and a 64-bit shift by
// varying counts does not: mass = (numerator << 16) >> halvings.
VILG_HOST_DEVICE inline void exp_fixed_parts(float y, uint32_t* numerator, uint32_t* halvings) {
  // min(-y, 28) by bits: non-negative floats order as their bits do, and NaN is above them
  uint32_t bits;
  memcpy(&bits, &y, 4);
  bits &= 0x7fffffffu;
  bits = bits < 0x41e00000u ? bits : 0x41e00000u;
  float magnitude;
  memcpy(&magnitude, &bits, 4);
  const float t = exp_fixed_product(magnitude, -0x1.715476p+0f);  // log2(e)
  const auto n = static_cast<int32_t>(t - 0.5f);                  // t - n in [-0.5, 0.5], exact
  const float r = t - static_cast<float>(n);
  // 2^r, interpolated at the six Chebyshev nodes and with 2^0 = 1 exact
  float p = exp_fixed_step(0x1.44138ap-13f, r, 0x1.5f0890p-10f);
  p = exp_fixed_step(p, r, 0x1.3b2a54p-7f);
  p = exp_fixed_step(p, r, 0x1.c6af6cp-5f);
  p = exp_fixed_step(p, r, 0x1.ebfbe0p-3f);
  p = exp_fixed_step(p, r, 0x1.62e430p-1f);
  p = exp_fixed_step(p, r, 1.0f);
  *numerator = static_cast<uint32_t>(static_cast<int32_t>(p * 0x1p24f));  // exact, below 2^25
  *halvings = static_cast<uint32_t>(-n);                                  // at most 40
}
VILG_HOST_DEVICE inline uint64_t exp_fixed_join(uint32_t numerator, uint32_t halvings) {
  return uint64_t{numerator} << (kMassBits - 24) >> halvings;
}
VILG_HOST_DEVICE inline uint64_t exp_fixed(float y) {
  uint32_t numerator, halvings;
  exp_fixed_parts(y, &numerator, &halvings);
  return exp_fixed_join(numerator, halvings);
}

// ln(mass / 2^40) in units of 2^-32, for mass >= 2^40; error below 2^-29.
VILG_HOST_DEVICE inline uint64_t log_fixed(uint64_t mass) {
  int exponent = 63;
  while (!(mass >> 63)) {
    mass <<= 1;
    --exponent;
  }
  // the bits of log2 of the mantissa, one squaring each
  uint64_t mantissa = mass >> 32;  // [1, 2) in units of 2^-31
  uint64_t bits = 0;
  for (int i = 0; i < 32; ++i) {
    mantissa *= mantissa;
    const uint64_t bit = mantissa >> 63;
    mantissa >>= 31 + bit;
    bits = bits << 1 | bit;
  }
  constexpr uint64_t kLn2 = 2977044472u;  // ln 2 * 2^32
  return static_cast<uint64_t>(exponent - kMassBits) * kLn2 + (bits * kLn2 >> 32);
}

// The upper and the lower half of the 128-bit product.
VILG_HOST_DEVICE inline uint64_t multiply_high(uint64_t a, uint64_t b, uint64_t* low = nullptr) {
  const uint64_t a0 = a & 0xffffffffu, a1 = a >> 32, b0 = b & 0xffffffffu, b1 = b >> 32;
  const uint64_t middle = a1 * b0 + (a0 * b0 >> 32);
  const uint64_t middle2 = a0 * b1 + (middle & 0xffffffffu);
  if (low) *low = a * b;
  return a1 * b1 + (middle >> 32) + (middle2 >> 32);
}

// The smallest mass that is at least p times the total, and at least 1; 0 < p < 1.
VILG_HOST_DEVICE inline uint64_t top_p_target(uint64_t total, float p) {
  const auto fraction = static_cast<uint64_t>(p * 0x1p64f);  // exact for p >= 2^-40
  uint64_t low;
  const uint64_t high = multiply_high(total, fraction, &low);
  const uint64_t target = high + (low != 0);
  return target ? target : 1;
}

// Keys that order as floats do, with -0 = 0.
VILG_HOST_DEVICE inline uint32_t order_key(float x) {
  uint32_t bits;
  memcpy(&bits, &x, 4);
  if (bits == 0x80000000u) bits = 0;
  return bits ^ (static_cast<uint32_t>(static_cast<int32_t>(bits) >> 31) | 0x80000000u);
}
VILG_HOST_DEVICE inline float order_value(uint32_t key) {
  const uint32_t bits = key & 0x80000000u ? key ^ 0x80000000u : ~key;
  float x;
  memcpy(&x, &bits, 4);
  return x;
}
inline constexpr uint32_t kMinusInfinityKey = 0x007fffffu;  // NaN with a sign is below
inline constexpr uint32_t kInfinityKey = 0xff800000u;       // NaN without is above

// log(p) of a token: its logit less the largest one less log(sum), sum being the masses at
// temperature 1. The product is exact, so fusing it changes nothing; 0 first, so that the sign of a
// zero, which ties do not agree on, is lost.
VILG_HOST_DEVICE inline float log_probability(float logit, float largest, uint64_t sum) {
  const double below = 0.0 + static_cast<double>(logit) - static_cast<double>(largest);
  return static_cast<float>(below - static_cast<double>(log_fixed(sum)) * 0x1p-32);
}

}  // namespace vilg
