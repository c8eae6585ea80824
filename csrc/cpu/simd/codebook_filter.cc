#include "cpu/simd/codebook_filter.h"

#include "cpu/simd/lanes.h"
#include "cpu/simd/register_tile.h"

// What is bounded: S = fl(norm - 2 chain), the score of a code e for a vector z (both float32, n
// elements; kernels/codebook.h). The filter has z' and e', rounded to bfloat16, and t, the float32
// sum of z'[k] e'[k]. With u = 2^-24, |.| the Euclidean length, and
//   D >= |z - z'|,  d >= |e - e'|,  Z >= |z|, |z'|, D,  E >= |e|, |e'|, d:
//
// 1. z.e - z'.e' = (z - z').e + z'.(e - e'), at most D E + Z d (Cauchy-Schwarz). D and d are
//    measured, not estimated: the worst case is 2^-8 of Z and E (half a unit of 8 bits), 0.4 of
//    that is usual. Subnormal numbers round to zero (vcvtneps2bf16; vdpbf16ps would read them so).
// 2. The chain rounds n times: |chain - z.e| <= 1.01 n u Z E + n 2^-149.
// 3. vdpbf16ps: products of 8 bits are exact, at most n sums of them round, by less than 2 u even
//    if not to nearest; a product or a sum below 2^-126 becomes zero:
//    |t - z'.e'| <= 2.02 n u Z E + 2.02 n 2^-126.
// 4. So |chain - t| <= D E + Z d + n 2^-22 Z E + n 2^-123, for n <= 2^14 (n u <= 2^-10).
// 5. S uses the same norm, and L = ((norm - rest) - 2 t) - D p - Z q with
//      p = 2 E,  q = 2 d + (n 2^-21 + 2^-17) E,  rest = 2^-19 E^2 + n 2^-120
//    is at most S when the roundings of S, L, q and rest are covered by
//      2^-17 Z E + 2^-19 E^2 + (n 2^-120 - n 2^-122).
//    There are at most 12, each at most 2^-150 or u of 2 E^2 + 8 Z E + n 2^-119, of which norm (up
//    to 1.01 E^2), 2 t (2.1 Z E), D p (2 Z E), Z q (2.1 Z E), rest and their sums stay below:
//    24 u E^2 < 2^-19 E^2, 96 u Z E < 2^-17 Z E and n 2^-139 < n 2^-121.
// 6. Nothing overflows while Z and E are below 2^60; beyond (or NaN) they become infinity, and L
//    -infinity or NaN, which is made -infinity.
//
// Lengths: a sum of n squares, each step rounded by u and 2^-150, so |x|^2 <= (1 + n 2^-22) (sum +
// n 2^-149), and a factor of 1 + 2^-20 for the roundings after it. n 2^-126 takes the place of
// n 2^-149, so that nothing depends on subnormal numbers: elements below 1e-17 or so are left to
// the exact scores.

#if defined(__AVX512BF16__)
namespace {

constexpr int64_t kMaxDim = 1 << 14;
constexpr float kLargest = 0x1p60f, kSmallestNormal = 0x1p-126f;

struct Rounded {
  vu bits;  // bfloat16 in the lower halves; subnormal numbers are zero
  vf value;
};
inline Rounded round_lanes(vf x) {
  const vu bits = widen((__m256i)_mm512_cvtneps_pbh((__m512)x));
  return {bits, (vf)(bits << 16)};
}

inline vf length(vf sum, int64_t dim) {
  const float n = (float)dim;
  return sqrt(sum * (1 + n * 0x1p-22f) + n * kSmallestNormal) * (1 + 0x1p-20f);
}
inline vf or_infinity(vf x) { return select(x < kLargest, x, splat(__builtin_inff())); }

// rows end at a whole vector
inline int64_t padded(int64_t dim) { return (dim + kWidth - 1) / kWidth * kWidth; }
inline int64_t num_units(int64_t dim) { return (dim + 1) / 2; }

int64_t vector_bytes(int64_t dim) { return padded(dim) * 2; }
// the units, then norm - rest, p and q
int64_t panel_bytes(int64_t dim) { return (num_units(dim) + 3) * kTileColumns * 4; }

void round_vectors(void* to, float* bounds, const float* vectors, int64_t rows, int64_t dim) {
  auto* bits = static_cast<uint16_t*>(to);
  for (int64_t i = 0; i < rows; ++i, bits += padded(dim)) {
    vf sum = {}, lost = {};
    for (int64_t k = 0; k < dim; k += kWidth) {
      const vf z = load_up_to(vectors + i * dim + k, dim - k);
      const Rounded rounded = round_lanes(z);
      const vf difference = z - rounded.value;
      sum += z * z;
      lost += difference * difference;
      *reinterpret_cast<vh_unaligned*>(bits + k) = __builtin_convertvector(rounded.bits, vh);
    }
    const vf difference = length(splat(hsum(lost)), dim);
    const vf whole = or_infinity(length(splat(hsum(sum)), dim) + difference);
    bounds[2 * i] = whole[0];
    bounds[2 * i + 1] = whole[0] < kLargest ? difference[0] : whole[0];
  }
}

void round_codes(void* to, const float* panel, const float* norms, int64_t dim, int64_t columns) {
  float* units = static_cast<float*>(to);
  const float n = (float)dim;
  for (int v = 0; v < kTileVectors; ++v) {
    vf lost = {};
    float* at = units + v * kWidth;
    for (int64_t k = 0; k < dim; k += 2, at += kTileColumns) {
      const float* e = panel + k * kTileColumns + v * kWidth;
      const vf even = load(e), odd = k + 1 < dim ? load(e + kTileColumns) : vf{};
      const Rounded low = round_lanes(even), high = round_lanes(odd);
      lost += (even - low.value) * (even - low.value) + (odd - high.value) * (odd - high.value);
      *reinterpret_cast<vi_unaligned*>(at) = (vi)(low.bits | high.bits << 16);
    }
    const vf norm = load(norms + v * kWidth);
    const vf difference = length(lost, dim);
    const vf whole = or_infinity(length(norm, dim) + difference);
    const vi exists = first_lanes(columns - v * kWidth);
    const vf rest = whole * whole * 0x1p-19f + n * 0x1p-120f;
    store(at, select(exists, norm - rest, splat(__builtin_inff())));
    store(at + kTileColumns, whole * 2.0f);
    store(at + 2 * kTileColumns, difference * 2.0f + whole * (n * 0x1p-21f + 0x1p-17f));
  }
}

template <int Rows>
void lowest_rows(float* lowest, const void* vectors, const float* bounds, const void* codes,
                 int64_t dim) {
  vf t[Rows][kTileVectors];
#pragma GCC unroll 16
  for (int i = 0; i < Rows; ++i) {
#pragma GCC unroll 4
    for (int v = 0; v < kTileVectors; ++v) t[i][v] = vf{};
  }
  const float* of_code =
      multiply_run<PairStep>(t, static_cast<const char*>(vectors), vector_bytes(dim),
                             static_cast<const float*>(codes), num_units(dim));
  const vf nothing = splat(-__builtin_inff());
#pragma GCC unroll 16
  for (int i = 0; i < Rows; ++i) {
    const vf whole = splat(bounds[2 * i]), difference = splat(bounds[2 * i + 1]);
    vf least = -nothing;
#pragma GCC unroll 4
    for (int v = 0; v < kTileVectors; ++v) {
      const float* at = of_code + v * kWidth;
      vf bound = load(at) - 2.0f * t[i][v];
      bound = bound - difference * load(at + kTileColumns);
      bound = bound - whole * load(at + 2 * kTileColumns);
      least = min(least, max(bound, nothing));  // NaN to -infinity
    }
    lowest[i] = hmin(least);
  }
}

template <int Rows>
void lowest_some(float* lowest, const void* vectors, const float* bounds, int64_t rows,
                 const void* codes, int64_t dim) {
  if (rows == Rows) {
    lowest_rows<Rows>(lowest, vectors, bounds, codes, dim);
  } else if constexpr (Rows > 1) {
    lowest_some<Rows - 1>(lowest, vectors, bounds, rows, codes, dim);
  }
}

}  // namespace

VILG_SIMD_ENTRY(VilgCodebookFilter, codebook_filter) {
  static const VilgCodebookFilter table = {kMaxDim,       vector_bytes, panel_bytes,
                                           round_vectors, round_codes,  lowest_some<kTileRows>};
  return &table;
}
#else
VILG_SIMD_ENTRY(VilgCodebookFilter, codebook_filter) { return nullptr; }
#endif
