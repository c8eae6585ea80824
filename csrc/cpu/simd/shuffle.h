// Square transposes of vectors in registers (see variant.h for who may include this).
#pragma once

#include "cpu/simd/vec.h"

namespace {

// Exchanges the lanes of `a` whose index has bit `half` with those of `b` that lack it: one step of
// a transpose by halves.
template <int half>
[[maybe_unused]] inline void exchange(vf& a, vf& b) {
#define VILG_LOW(l) ((l)&half) ? kWidth + (l)-half : (l)
#define VILG_HIGH(l) ((l)&half) ? kWidth + (l) : (l) + half
#if defined(__AVX512F__)
#define VILG_LANES(f)                                                                            \
  f(0), f(1), f(2), f(3), f(4), f(5), f(6), f(7), f(8), f(9), f(10), f(11), f(12), f(13), f(14), \
      f(15)
#elif defined(__AVX__)
#define VILG_LANES(f) f(0), f(1), f(2), f(3), f(4), f(5), f(6), f(7)
#else
#define VILG_LANES(f) f(0), f(1), f(2), f(3)
#endif
  const vf low = __builtin_shufflevector(a, b, VILG_LANES(VILG_LOW));
  const vf high = __builtin_shufflevector(a, b, VILG_LANES(VILG_HIGH));
#undef VILG_LANES
#undef VILG_HIGH
#undef VILG_LOW
  a = low;
  b = high;
}

template <int half>
[[maybe_unused]] inline void transpose_step(vf (&rows)[kWidth]) {
#pragma GCC unroll 16
  for (int i = 0; i < kWidth; ++i) {
    if (!(i & half)) exchange<half>(rows[i], rows[i + half]);
  }
}

// rows[i][j] becomes rows[j][i]
[[maybe_unused]] inline void transpose(vf (&rows)[kWidth]) {
  if constexpr (kWidth > 8) transpose_step<kWidth / 2>(rows);
  if constexpr (kWidth > 4) transpose_step<4>(rows);
  transpose_step<2>(rows);
  transpose_step<1>(rows);
}

// Lane i of the result is the sum of the lanes of rows[i]. A transpose that adds as it goes, so
// half the work of one: lanes are added pairwise in a fixed order.
template <int half>
[[maybe_unused]] inline void sum_step(vf (&rows)[kWidth]) {
#pragma GCC unroll 16
  for (int i = 0; i < half; ++i) {
    exchange<half>(rows[i], rows[i + half]);
    rows[i] += rows[i + half];
  }
}
[[maybe_unused]] inline vf sum_rows(vf (&rows)[kWidth]) {
  if constexpr (kWidth > 8) sum_step<kWidth / 2>(rows);
  if constexpr (kWidth > 4) sum_step<4>(rows);
  sum_step<2>(rows);
  sum_step<1>(rows);
  return rows[0];
}

}  // namespace
