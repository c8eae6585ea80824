// One vector of floats of the variant's width, by GCC/Clang vector extensions (see variant.h for
// who may include this).
#pragma once

#include <stdint.h>
#include <string.h>
#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

namespace {

#if defined(__AVX512F__)
constexpr int kWidth = 16;
#elif defined(__AVX__)
constexpr int kWidth = 8;
#else
constexpr int kWidth = 4;
#endif

typedef float vf __attribute__((vector_size(kWidth * 4)));
typedef int32_t vi __attribute__((vector_size(kWidth * 4)));
typedef uint32_t vu __attribute__((vector_size(kWidth * 4)));
typedef float vf_unaligned __attribute__((vector_size(kWidth * 4), aligned(4), may_alias));
typedef int32_t vi_unaligned __attribute__((vector_size(kWidth * 4), aligned(4), may_alias));
typedef uint16_t vh __attribute__((vector_size(kWidth * 2)));
typedef uint16_t vh_unaligned __attribute__((vector_size(kWidth * 2), aligned(2), may_alias));

[[maybe_unused]] inline vf load(const float* p) {
  return *reinterpret_cast<const vf_unaligned*>(p);
}
[[maybe_unused]] inline void store(float* p, vf x) { *reinterpret_cast<vf_unaligned*>(p) = x; }
[[maybe_unused]] inline vf splat(float x) { return x - vf{}; }
[[maybe_unused]] inline vi splat_i(int32_t x) { return x - vi{}; }
[[maybe_unused]] inline vf bits_to_float(vi x) { return (vf)x; }
[[maybe_unused]] inline vi float_to_bits(vf x) { return (vi)x; }
[[maybe_unused]] inline vf select(vi mask, vf a, vf b) { return mask ? a : b; }
// one instruction on x86; where either is NaN the result is b
[[maybe_unused]] inline vf max(vf a, vf b) { return a > b ? a : b; }
[[maybe_unused]] inline vf min(vf a, vf b) { return a < b ? a : b; }
// contracted to one fused multiply-add where the instruction set has it
[[maybe_unused]] inline vf fma(vf a, vf b, vf c) { return a * b + c; }

// bfloat16 is stored as its upper 16 bits
[[maybe_unused]] inline vf load(const uint16_t* p) {
  const vh half = *reinterpret_cast<const vh_unaligned*>(p);
  return (vf)(__builtin_convertvector(half, vu) << 16);
}
[[maybe_unused]] inline void store(uint16_t* p, vf x) {
  const vu bits = (vu)x;
  const vu rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  const vu quiet = (bits >> 16) | 0x40u;  // NaN must not round to infinity
  const vi is_nan = x != x;
  const vu result = ((vu)is_nan & quiet) | (~(vu)is_nan & rounded);
  *reinterpret_cast<vh_unaligned*>(p) = __builtin_convertvector(result, vh);
}

// the first n < kWidth elements; the rest reads as `fill`
template <typename T>
[[maybe_unused]] inline vf load_partial(const T* p, int64_t n, T fill = 0) {
  T buffer[kWidth];
  for (int i = 0; i < kWidth; ++i) buffer[i] = i < n ? p[i] : fill;
  return load(buffer);
}
template <typename T>
[[maybe_unused]] inline void store_partial(T* p, vf x, int64_t n) {
  T buffer[kWidth];
  store(buffer, x);
  for (int i = 0; i < n; ++i) p[i] = buffer[i];
}

// all ones in the first n lanes
[[maybe_unused]] inline vi first_lanes(int64_t n) {
  vi lane;
  for (int i = 0; i < kWidth; ++i) lane[i] = i;
  return lane < splat_i(n < kWidth ? (int32_t)n : kWidth);
}

[[maybe_unused]] inline vf sqrt(vf x) {
#if defined(__AVX512F__)
  // masked, because GCC 12 warns of the unmasked form's own undefined operand
  return (vf)_mm512_maskz_sqrt_ps((__mmask16)0xffff, (__m512)x);
#elif defined(__AVX__)
  return (vf)_mm256_sqrt_ps((__m256)x);
#elif defined(__x86_64__)
  return (vf)_mm_sqrt_ps((__m128)x);
#else
  return (vf)vsqrtq_f32((float32x4_t)x);
#endif
}

// Lanes moved down by `half`; what comes in at the top does not matter to the reductions below.
template <int half>
[[maybe_unused]] inline vf lanes_down(vf x) {
#if defined(__AVX512F__)
  return __builtin_shufflevector(x, x, half, half + 1, half + 2, half + 3, half + 4, half + 5,
                                 half + 6, half + 7, half + 8, half + 9, half + 10, half + 11,
                                 half + 12, half + 13, half + 14, half + 15);
#elif defined(__AVX__)
  return __builtin_shufflevector(x, x, half, half + 1, half + 2, half + 3, half + 4, half + 5,
                                 half + 6, half + 7);
#else
  return __builtin_shufflevector(x, x, half, half + 1, half + 2, half + 3);
#endif
}

// horizontal, in a fixed order: lane i with lane i + width/2, and so on
[[maybe_unused]] inline float hsum(vf x) {
  if constexpr (kWidth > 8) x += lanes_down<kWidth / 2>(x);
  if constexpr (kWidth > 4) x += lanes_down<4>(x);
  x += lanes_down<2>(x);
  return x[0] + x[1];
}
[[maybe_unused]] inline float hmax(vf x) {
  if constexpr (kWidth > 8) x = max(x, lanes_down<kWidth / 2>(x));
  if constexpr (kWidth > 4) x = max(x, lanes_down<4>(x));
  x = max(x, lanes_down<2>(x));
  return x[0] > x[1] ? x[0] : x[1];
}
[[maybe_unused]] inline float hmin(vf x) { return -hmax(-x); }

// e^x to 2 ulp for x in [-87.3, 88.7]; clamped outside, so e^-inf is 1.2e-38 and not 0: mask by
// select where 0 matters; NaN stays NaN. Range reduction to |r| <= ln2 / 2 in two parts
// (Cody-Waite), then a degree 6 Taylor-like polynomial (Cephes expf).
[[maybe_unused]] inline vf exp(vf x) {
  x = min(splat(88.7f), max(splat(-87.3f), x));
  const vf shifted =
      x * 1.44269504088896341f + 12582912.0f;  // 1.5 * 2^23: rounds to nearest in the low bits
  const vf n = shifted - 12582912.0f;
  vf r = x - n * 0.693359375f;
  r = r - n * -2.12194440e-4f;
  vf p = splat(1.9875691500e-4f);
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  const vi scale = (float_to_bits(shifted) - 0x4b400000 + 127) << 23;
  return p * bits_to_float(scale);
}

// tanh(x) = sign * (1 - e) / (1 + e), e = exp(-2|x|); a short odd polynomial below 0.1 where that
// would cancel
[[maybe_unused]] inline vf tanh(vf x) {
  const vf a = max(x, -x);
  const vf e = exp(a * -2.0f);
  const vf large = (1.0f - e) / (1.0f + e);
  const vf x2 = x * x;
  const vf small = x + x * x2 * (-0.333333333f + x2 * (0.133333333f + x2 * -0.0539682540f));
  const vi sign = float_to_bits(x) & (int32_t)0x80000000;
  return select(a < 0.1f, small, bits_to_float(float_to_bits(large) | sign));
}

}  // namespace
