#include "cpu/simd/gemm.h"

#include "cpu/simd/gelu_math.h"
#include "cpu/simd/lanes.h"
#include "cpu/simd/vec.h"

namespace {

// mr x nr / width accumulators, nr / width vectors of B and a broadcast element of A fit the
// registers: 14 x 2 of 32 (AVX-512), 6 x 2 of 16 (AVX2), 8 x 3 of 32 (NEON), 4 x 2 of 16 (SSE).
#if defined(__AVX512F__)
constexpr int kRows = 14, kVectors = 2;
#elif defined(__AVX__)
constexpr int kRows = 6, kVectors = 2;
#elif defined(__aarch64__)
constexpr int kRows = 8, kVectors = 3;
#else
constexpr int kRows = 4, kVectors = 2;
#endif
constexpr int kColumns = kVectors * kWidth;
constexpr int kMaxPanel = kRows > kColumns ? kRows : kColumns;

#if defined(__AVX512BF16__)
constexpr bool kPairs = true;
#else
constexpr bool kPairs = false;
#endif

// --- packing
// -------------------------------------------------------------------------------------- A panel is
// a matrix of 32-bit units: a float, or a pair of bfloat16. A source says how to read `kWidth`
// units along k of one row (Units) or along the rows at one unit of k (Lane).

// One float a unit. Round: to bfloat16 (which bfloat16 in memory is already).
template <typename T, bool Round>
struct Singles {
  typedef T Element;
  static constexpr int kStep = 1;
  static inline vf finish(vf x) { return Round && sizeof(T) == 4 ? round_to_bf16(x) : x; }
  // n units from element k of a row
  static inline vf units(const T* row, int64_t n) { return finish(load_up_to(row, n)); }
  // n rows at element k; `next` (k + 1) is not used
  static inline vf lane(const T* at, const T*, int64_t n) { return finish(load_up_to(at, n)); }
};

#if defined(__AVX512BF16__)
inline vf pair_up(vf even, vf odd) {  // lane i: bfloat16(even[i]) | bfloat16(odd[i]) << 16
  const vu low = widen((__m256i)_mm512_cvtneps_pbh((__m512)even));
  const vu high = widen((__m256i)_mm512_cvtneps_pbh((__m512)odd));
  return (vf)(low | (high << 16));
}
template <typename T>
struct Pairs;
template <>
struct Pairs<uint16_t> {
  typedef uint16_t Element;
  static constexpr int kStep = 2;
  static inline vf units(const uint16_t* row, int64_t elements) {
    if (elements >= 2 * kWidth) return (vf)_mm512_loadu_si512(row);
    return (vf)_mm512_maskz_loadu_epi16((__mmask32)((1u << elements) - 1), row);
  }
  static inline vf lane(const uint16_t* even, const uint16_t* odd, int64_t n) {
    const __mmask16 mask = n >= kWidth ? (__mmask16)-1 : (__mmask16)((1u << n) - 1);
    const vu low = widen(_mm256_maskz_loadu_epi16(mask, even));
    if (!odd) return (vf)low;
    return (vf)(low | (widen(_mm256_maskz_loadu_epi16(mask, odd)) << 16));
  }
};
template <>
struct Pairs<float> {
  typedef float Element;
  static constexpr int kStep = 2;
  static inline vf units(const float* row, int64_t elements) {
    const vf low = load_up_to(row, elements);
    const vf high = elements > kWidth ? load_up_to(row + kWidth, elements - kWidth) : vf{};
    return (vf)_mm512_cvtne2ps_pbh((__m512)high, (__m512)low);
  }
  static inline vf lane(const float* even, const float* odd, int64_t n) {
    return pair_up(load_up_to(even, n), odd ? load_up_to(odd, n) : vf{});
  }
};
#endif

// log2(width) perfect shuffles of the rows transpose
inline void transpose(vf (&rows)[kWidth]) {
  vf other[kWidth];
#pragma GCC unroll 4
  for (int step = 1; step < kWidth; step *= 2) {
#pragma GCC unroll 16
    for (int i = 0; i < kWidth / 2; ++i) {
      other[2 * i] = interleave_low(rows[i], rows[i + kWidth / 2]);
      other[2 * i + 1] = interleave_high(rows[i], rows[i + kWidth / 2]);
    }
#pragma GCC unroll 16
    for (int i = 0; i < kWidth; ++i) rows[i] = other[i];
  }
}

// Unit u of a panel begins at panel + u * Panel. A whole vector may be stored over the start of the
// next unit, which is written later, but not past the last one.
template <int Panel>
inline void store_unit(float* panel, int64_t unit, int64_t first, int64_t num_units, vf x) {
  float* to = panel + unit * Panel + first;
  if (Panel % kWidth == 0 || unit + 1 < num_units) {
    store(to, x);
  } else {
    store_partial(to, x, Panel - first < kWidth ? Panel - first : kWidth);
  }
}

template <class Source, int Panel>
void pack_rows(void* to, const void* const* rows, int64_t count, int64_t k) {
  typedef typename Source::Element T;
  constexpr int kStep = Source::kStep;
  float* panel = static_cast<float*>(to);
  const int64_t num_units = (k + kStep - 1) / kStep;
  for (int64_t u = 0; u < num_units; u += kWidth) {
    const int64_t n = num_units - u < kWidth ? num_units - u : kWidth;
    const int64_t elements = k - u * kStep;
    for (int64_t first = 0; first < Panel; first += kWidth) {
      vf block[kWidth];
#pragma GCC unroll 16
      for (int i = 0; i < kWidth; ++i) {
        block[i] = first + i < count
                       ? Source::units(static_cast<const T*>(rows[first + i]) + u * kStep,
                                       elements < kWidth * kStep ? elements : kWidth * kStep)
                       : vf{};
      }
      transpose(block);
      // ascending over units inside each column of vectors; panels wider than a vector are
      // multiples of it, so that vectors of different columns do not overlap
      for (int64_t i = 0; i < n; ++i) store_unit<Panel>(panel, u + i, first, num_units, block[i]);
    }
  }
}

template <class Source, int Panel>
void pack_lanes(void* to, const void* source, int64_t ld, int64_t count, int64_t k) {
  typedef typename Source::Element T;
  constexpr int kStep = Source::kStep;
  float* panel = static_cast<float*>(to);
  const int64_t num_units = (k + kStep - 1) / kStep;
  for (int64_t u = 0; u < num_units; ++u) {
    const T* even = static_cast<const T*>(source) + u * kStep * ld;
    const T* odd = kStep == 2 && u * kStep + 1 < k ? even + ld : nullptr;
    for (int64_t first = 0; first < Panel; first += kWidth) {
      const int64_t n = count - first < kWidth ? count - first : kWidth;
      const vf x = n > 0 ? Source::lane(even + first, odd ? odd + first : nullptr, n) : vf{};
      store_unit<Panel>(panel, u, first, num_units, x);
    }
  }
}

template <class Source, int Panel>
void pack_from(void* panel, const void* source, int64_t ld, bool k_contiguous, int64_t count,
               int64_t k) {
  if (!k_contiguous) return pack_lanes<Source, Panel>(panel, source, ld, count, k);
  const void* rows[kMaxPanel];
  for (int64_t i = 0; i < count; ++i) {
    rows[i] = static_cast<const typename Source::Element*>(source) + i * ld;
  }
  pack_rows<Source, Panel>(panel, rows, count, k);
}

template <int Panel>
void pack_f32(void* panel, const void* source, VilgStorage storage, int64_t ld, bool k_contiguous,
              int64_t count, int64_t k) {
  if (storage == kVilgFloat32) {
    pack_from<Singles<float, false>, Panel>(panel, source, ld, k_contiguous, count, k);
  } else {
    pack_from<Singles<uint16_t, false>, Panel>(panel, source, ld, k_contiguous, count, k);
  }
}

#if defined(__AVX512BF16__)
typedef Pairs<float> RoundedFromFloat;
typedef Pairs<uint16_t> RoundedFromBf16;
#else
typedef Singles<float, true> RoundedFromFloat;
typedef Singles<uint16_t, true> RoundedFromBf16;
#endif

template <int Panel>
void pack_bf16(void* panel, const void* source, VilgStorage storage, int64_t ld, bool k_contiguous,
               int64_t count, int64_t k) {
  if (storage == kVilgFloat32) {
    pack_from<RoundedFromFloat, Panel>(panel, source, ld, k_contiguous, count, k);
  } else {
    pack_from<RoundedFromBf16, Panel>(panel, source, ld, k_contiguous, count, k);
  }
}

void pack_a_rows_f32(void* panel, const void* const* rows, VilgStorage storage, int64_t count,
                     int64_t k) {
  if (storage == kVilgFloat32) {
    pack_rows<Singles<float, false>, kRows>(panel, rows, count, k);
  } else {
    pack_rows<Singles<uint16_t, false>, kRows>(panel, rows, count, k);
  }
}
void pack_a_rows_bf16(void* panel, const void* const* rows, VilgStorage storage, int64_t count,
                      int64_t k) {
  if (storage == kVilgFloat32) {
    pack_rows<RoundedFromFloat, kRows>(panel, rows, count, k);
  } else {
    pack_rows<RoundedFromBf16, kRows>(panel, rows, count, k);
  }
}

// --- tiles
// ----------------------------------------------------------------------------------------

// acc += a b: floats, or dot products of pairs
template <bool UsePairs>
inline vf multiply_add(vf a, vf b, vf acc) {
#if defined(__AVX512BF16__)
  if (UsePairs) return (vf)_mm512_dpbf16_ps((__m512)acc, (__m512bh)a, (__m512bh)b);
#endif
  return fma(a, b, acc);
}

// one unit of A, in every lane
template <bool UsePairs>
inline vf broadcast(const float* p) {
  if (!UsePairs) return splat(*p);
  int32_t pair;
  memcpy(&pair, p, 4);
  return bits_to_float(splat_i(pair));
}
template <bool UsePairs>
inline vf broadcast(const uint16_t* p) {
  int32_t bits;
  if (UsePairs) {
    memcpy(&bits, p, 4);
  } else {
    bits = (int32_t)((uint32_t)*p << 16);
  }
  return bits_to_float(splat_i(bits));
}

inline void finish_tile(float* c, int64_t ldc, const vf (&acc)[kRows][kVectors], bool accumulate) {
  if (accumulate) {
#pragma GCC unroll 16
    for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 4
      for (int j = 0; j < kVectors; ++j) {
        float* at = c + i * ldc + j * kWidth;
        store(at, load(at) + acc[i][j]);
      }
    }
  } else {
#pragma GCC unroll 16
    for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 4
      for (int j = 0; j < kVectors; ++j) store(c + i * ldc + j * kWidth, acc[i][j]);
    }
  }
}

template <bool UsePairs>
void tile(float* c, int64_t ldc, const void* a_panel, const void* b_panel, int64_t k,
          bool accumulate) {
  const float* a = static_cast<const float*>(a_panel);
  const float* b = static_cast<const float*>(b_panel);
  vf acc[kRows][kVectors] = {};
  const int64_t num_units = UsePairs ? (k + 1) / 2 : k;
  for (int64_t u = 0; u < num_units; ++u) {
    vf columns[kVectors];
#pragma GCC unroll 4
    for (int j = 0; j < kVectors; ++j) columns[j] = load(b + j * kWidth);
#pragma GCC unroll 16
    for (int i = 0; i < kRows; ++i) {
      const vf x = broadcast<UsePairs>(a + i);
#pragma GCC unroll 4
      for (int j = 0; j < kVectors; ++j) {
        acc[i][j] = multiply_add<UsePairs>(x, columns[j], acc[i][j]);
      }
    }
    a += kRows;
    b += kColumns;
  }
  finish_tile(c, ldc, acc, accumulate);
}

template <bool UsePairs, typename T>
void tile_rows(float* c, int64_t ldc, const void* const* rows, int64_t taps, int64_t k,
               const void* b_panel, bool accumulate) {
  constexpr int kStep = UsePairs ? 2 : 1;
  const float* b = static_cast<const float*>(b_panel);
  vf acc[kRows][kVectors] = {};
  for (int64_t tap = 0; tap < taps; ++tap) {
    const T* row[kRows];
    for (int i = 0; i < kRows; ++i) row[i] = static_cast<const T*>(rows[tap * kRows + i]);
    for (int64_t p = 0; p < k; p += kStep) {
      vf columns[kVectors];
#pragma GCC unroll 4
      for (int j = 0; j < kVectors; ++j) columns[j] = load(b + j * kWidth);
#pragma GCC unroll 16
      for (int i = 0; i < kRows; ++i) {
        const vf x = broadcast<UsePairs>(row[i] + p);
#pragma GCC unroll 4
        for (int j = 0; j < kVectors; ++j) {
          acc[i][j] = multiply_add<UsePairs>(x, columns[j], acc[i][j]);
        }
      }
      b += kColumns;
    }
  }
  finish_tile(c, ldc, acc, accumulate);
}

// --- the epilogue
// ---------------------------------------------------------------------------------

template <typename T>
inline void epilogue_vector(const GemmEpilogue* e, const float* acc, int64_t at, int64_t column,
                            int64_t n) {
  T* c = static_cast<T*>(e->c) + at;
  T* pre = e->pre_activation ? static_cast<T*>(e->pre_activation) + at : nullptr;
  vf x = load_up_to(acc, n) * e->alpha;
  if (e->bias) x = x + load_up_to(e->bias + column, n);
  if (e->kind == kVilgGelu) {
    if (pre) {
      if (n >= kWidth) {
        store(pre, x);
      } else {
        store_partial(pre, x, n);
      }
    }
    x = gelu(x);
  } else if (e->kind == kVilgGeluBackward) {
    x = x * gelu_slope(load_up_to(pre, n));
  }
  if (e->residual) x = x + load_up_to(static_cast<const T*>(e->residual) + at, n);
  if (e->accumulate) x = x + load_up_to(c, n);
  if (n >= kWidth) {
    store(c, x);
  } else {
    store_partial(c, x, n);
  }
}

template <typename T>
void epilogue_rows(const GemmEpilogue* e, const float* acc, int64_t ldacc, int64_t rows,
                   int64_t cols) {
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t j = 0; j < cols; j += kWidth) {
      const int64_t n = cols - j < kWidth ? cols - j : kWidth;
      epilogue_vector<T>(e, acc + i * ldacc + j, i * e->ldc + j, j, n);
    }
  }
}

void epilogue(const GemmEpilogue* e, const float* acc, int64_t ldacc, int64_t rows, int64_t cols) {
  if (e->storage == kVilgFloat32) {
    epilogue_rows<float>(e, acc, ldacc, rows, cols);
  } else {
    epilogue_rows<uint16_t>(e, acc, ldacc, rows, cols);
  }
}

}  // namespace

VILG_SIMD_ENTRY(GemmSimd, gemm) {
  static const GemmSimd table = {
      {kRows, kColumns, 1, 4, pack_f32<kRows>, pack_f32<kColumns>, pack_a_rows_f32, tile<false>,
       tile_rows<false, float>},
      {kRows, kColumns, kPairs ? 2 : 1, kPairs ? 2 : 4, pack_bf16<kRows>, pack_bf16<kColumns>,
       pack_a_rows_bf16, tile<kPairs>, tile_rows<kPairs, uint16_t>},
      epilogue};
  return &table;
}
