// The inner loop of a product whose left side is read in place: rows of A lie `row_stride` bytes
// apart (neighbouring pixels of a picture, rows of a matrix), B is a panel of gemm.h. Unlike
// gemm.h's tile_rows, whose rows may lie anywhere, the even distance needs 6 general registers for
// 14 rows, so that reading in place is as fast as a packed A. One unit of k is four bytes: a float,
// or a pair of bfloat16 where the instruction set multiplies pairs.
#pragma once

#include "cpu/simd/vec.h"

namespace {

// the tile of gemm.cc: kTileRows x kTileVectors accumulators
#if defined(__AVX512F__)
constexpr int kTileRows = 14, kTileVectors = 2;
#elif defined(__AVX__)
constexpr int kTileRows = 6, kTileVectors = 2;
#elif defined(__aarch64__)
constexpr int kTileRows = 8, kTileVectors = 3;
#else
constexpr int kTileRows = 4, kTileVectors = 2;
#endif
constexpr int kTileColumns = kTileVectors * kWidth;

// c + a * b, fused where the compiler can
struct FloatStep {
  [[gnu::always_inline]] static inline vf apply(vf a, vf b, vf c) { return fma(a, b, c); }
};

#if defined(__AVX512BF16__)
// c + a.lo * b.lo + a.hi * b.hi over pairs of bfloat16
struct PairStep {
  [[gnu::always_inline]] static inline vf apply(vf a, vf b, vf c) {
    return (vf)_mm512_dpbf16_ps((__m512)c, (__m512bh)a, (__m512bh)b);
  }
};
#endif

[[maybe_unused, gnu::always_inline]] inline vf broadcast_unit(const char* p) {
  int32_t bits;
  __builtin_memcpy(&bits, p, 4);
  return (vf)splat_i(bits);  // integer on purpose: bits of a pair must not pass through arithmetic
}

// c += A[Rows, length] . B[length, Vectors * kWidth]; returns the end of b, whose units are
// kTileColumns wide whatever Vectors is.
template <typename Step, int Rows, int Vectors>
[[maybe_unused, gnu::always_inline]] inline const float* multiply_run(
    vf (&c)[Rows][Vectors], const char* a, int64_t row_stride, const float* b, int64_t length) {
  constexpr int kBases = (Rows + 2) / 3;
  const char* base[kBases];
  for (int j = 0; j < kBases; ++j) base[j] = a + 3 * j * row_stride;
  for (; length > 0; --length) {
    vf bv[Vectors];
#pragma GCC unroll 4
    for (int v = 0; v < Vectors; ++v) bv[v] = load(b + v * kWidth);
    b += kTileColumns;
#pragma GCC unroll 16
    for (int i = 0; i < Rows; ++i) {
      const vf av = broadcast_unit(base[i / 3] + (i % 3) * row_stride);
#pragma GCC unroll 4
      for (int v = 0; v < Vectors; ++v) c[i][v] = Step::apply(av, bv[v], c[i][v]);
    }
#pragma GCC unroll 8
    for (int j = 0; j < kBases; ++j) base[j] += 4;
  }
  return b;
}

}  // namespace
