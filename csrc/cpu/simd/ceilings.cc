#include "cpu/simd/ceilings.h"

#include "cpu/simd/vec.h"

namespace {

// Enough independent sums to hide the latency of a product (4 cycles, two or, on Arm, four a cycle:
// 8 to 16), few enough to stay in the registers beside two factors: 16 registers below AVX-512 on
// x86.
#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int kSums = 24;
#else
constexpr int kSums = 12;
#endif

float multiply_add(int64_t iterations) {
  vf sums[kSums];
  for (int i = 0; i < kSums; ++i) sums[i] = splat(1.0f + 0.01f * (float)i);
  // x = 0.999 x + 0.001 tends to 1, never to what is slow (subnormal) or wrong (infinite)
  const vf factor = splat(0.999f), addend = splat(0.001f);
  for (int64_t n = 0; n < iterations; ++n) {
#pragma GCC unroll 24
    for (int i = 0; i < kSums; ++i) sums[i] = fma(sums[i], factor, addend);
  }
  vf sum = sums[0];
  for (int i = 1; i < kSums; ++i) sum += sums[i];
  return hsum(sum);
}

#if defined(__AVX512BF16__)
float multiply_pairs(int64_t iterations) {
  vf sums[kSums];
  for (int i = 0; i < kSums; ++i) sums[i] = splat(0.01f * (float)i);
  const vi a = splat_i(0x3f803f80), b = splat_i(0x33803380);  // pairs of 1 and of 2^-24
  for (int64_t n = 0; n < iterations; ++n) {
#pragma GCC unroll 24
    for (int i = 0; i < kSums; ++i) {
      sums[i] = (vf)_mm512_dpbf16_ps((__m512)sums[i], (__m512bh)a, (__m512bh)b);
    }
  }
  vf sum = sums[0];
  for (int i = 1; i < kSums; ++i) sum += sums[i];
  return hsum(sum);
}
#endif

float read(const float* data, int64_t count) {
  // asking ahead (512 B to 4 KB) and reading two or four places at once made no difference on Zen 4
  constexpr int kStreams = 8;
  vf sums[kStreams] = {};
  for (int64_t at = 0; at < count; at += kStreams * kWidth) {
#pragma GCC unroll 8
    for (int i = 0; i < kStreams; ++i) {
      sums[i] += load(data + at + i * kWidth);
    }
  }
  vf sum = sums[0];
  for (int i = 1; i < kStreams; ++i) sum += sums[i];
  return hsum(sum);
}

}  // namespace

VILG_SIMD_ENTRY(CeilingsSimd, ceilings) {
#if defined(__AVX512BF16__)
  static const CeilingsSimd table = {multiply_add, kSums * kWidth * 2, multiply_pairs,
                                     kSums * kWidth * 4, read};
#else
  static const CeilingsSimd table = {multiply_add, kSums * kWidth * 2, nullptr, 0, read};
#endif
  return &table;
}
