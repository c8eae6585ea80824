#include "cpu/simd/skinny.h"

#include "cpu/simd/lanes.h"
#include "cpu/simd/vec.h"

namespace {

#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int kBlock = 4;  // rows of x at once: 4 x 4 accumulators of 32 registers
#else
constexpr int kBlock = 2;  // 4 x 2 of 16
#endif

#if defined(__AVX512BF16__)
constexpr bool kHasPairs = true;
#else
constexpr bool kHasPairs = false;
#endif

// Memory is fetched this many groups of rows ahead, to L2, in the order of addresses. Measured on
// Zen 4 at K = 768: fetching each row 512 to 2048 bytes ahead of itself is 1.3 to 1.8 times slower
// than this, no fetching 1.2 to 2.1 times.
constexpr int kGroupsAhead = 2;

template <int N>
struct Count {
  static constexpr int value = N;
};

struct Float {
  typedef float W;
  typedef float X;
  static constexpr int kElements = kWidth;
  static inline vf load_w(const float* p) { return load(p); }
  static inline vf load_w(const float* p, int64_t n) { return load_first(p, n); }
  static inline vf madd(vf w, vf x, vf acc) { return fma(w, x, acc); }
};
struct Widen {
  typedef uint16_t W;
  typedef float X;
  static constexpr int kElements = kWidth;
  static inline vf load_w(const uint16_t* p) { return load(p); }
  static inline vf load_w(const uint16_t* p, int64_t n) { return load_first(p, n); }
  static inline vf madd(vf w, vf x, vf acc) { return fma(w, x, acc); }
};
#if defined(__AVX512BF16__)
struct Pairs {
  typedef uint16_t W;
  typedef uint16_t X;
  static constexpr int kElements = 2 * kWidth;
  static inline vf load_w(const uint16_t* p) { return (vf)_mm512_loadu_si512(p); }
  static inline vf load_w(const uint16_t* p, int64_t n) {
    return (vf)_mm512_maskz_loadu_epi16((__mmask32)((1u << n) - 1), p);
  }
  static inline vf madd(vf w, vf x, vf acc) {
    return (vf)_mm512_dpbf16_ps((__m512)acc, (__m512bh)w, (__m512bh)x);
  }
};
struct Round {
  typedef float W;
  typedef uint16_t X;
  static constexpr int kElements = 2 * kWidth;
  static inline vf pair(vf low, vf high) {
    return (vf)_mm512_cvtne2ps_pbh((__m512)high, (__m512)low);
  }
  static inline vf load_w(const float* p) { return pair(load(p), load(p + kWidth)); }
  static inline vf load_w(const float* p, int64_t n) {
    return pair(load_up_to(p, n), n > kWidth ? load_first(p + kWidth, n - kWidth) : vf{});
  }
  static inline vf madd(vf w, vf x, vf acc) { return Pairs::madd(w, x, acc); }
};
#else
struct Round {
  typedef float W;
  typedef float X;
  static constexpr int kElements = kWidth;
  static inline vf load_w(const float* p) { return round_to_bf16(load(p)); }
  static inline vf load_w(const float* p, int64_t n) { return round_to_bf16(load_first(p, n)); }
  static inline vf madd(vf w, vf x, vf acc) { return fma(w, x, acc); }
};
#endif

inline vf load_x(const float* p) { return load(p); }
inline vf load_x(const uint16_t* p) { return load(reinterpret_cast<const float*>(p)); }

// out[i] = the sum of the lanes of vector i, for Rows = a power of two <= width: each step adds the
// lower half of a vector to its upper half, of two vectors at once while there are two.
template <int Rows>
inline void fold(float* out, vf (&v)[Rows]) {
#pragma GCC unroll 4
  for (int n = Rows / 2; n > 0; n /= 2) {
#pragma GCC unroll 8
    for (int i = 0; i < n; ++i) {
      v[i] = interleave_low(v[i], v[i + n]) + interleave_high(v[i], v[i + n]);
    }
  }
  constexpr int kCopies = kWidth / Rows;
#pragma GCC unroll 4
  for (int n = 1; n < kCopies; n *= 2) {
    v[0] = interleave_low(v[0], v[0]) + interleave_high(v[0], v[0]);
  }
  float lanes[kWidth];
  store(lanes, v[0]);
#pragma GCC unroll 8
  for (int i = 0; i < Rows; ++i) out[i] = lanes[i * kCopies];
}

// Rows rows of w against M rows of x, which lie interleaved: [k / kElements][M][kElements]. Fetches
// Ahead cache lines of w a step from `later` on, in the order of memory.
template <class Mode, int Rows, int M, int Ahead>
inline void block(float* out, int64_t ldout, const typename Mode::X* x, const typename Mode::W* w,
                  int64_t ldw, int64_t k, uintptr_t later) {
  constexpr int kElements = Mode::kElements;
  vf acc[M][Rows] = {};
  int64_t p = 0;
  for (; p + kElements <= k; p += kElements) {
#pragma GCC unroll 8
    for (int i = 0; i < Ahead; ++i) {
      const uintptr_t line =
          later + (uintptr_t)(p * Ahead + i * kElements) * sizeof(typename Mode::W);
      __builtin_prefetch(reinterpret_cast<const void*>(line), 0, 2);
    }
    vf columns[Rows];
#pragma GCC unroll 8
    for (int r = 0; r < Rows; ++r) columns[r] = Mode::load_w(w + r * ldw + p);
#pragma GCC unroll 4
    for (int m = 0; m < M; ++m) {
      const vf row = load_x(x + p * M + m * kElements);
#pragma GCC unroll 8
      for (int r = 0; r < Rows; ++r) acc[m][r] = Mode::madd(columns[r], row, acc[m][r]);
    }
  }
  if (p < k) {
#pragma GCC unroll 8
    for (int r = 0; r < Rows; ++r) {
      const vf column = Mode::load_w(w + r * ldw + p, k - p);
#pragma GCC unroll 4
      for (int m = 0; m < M; ++m) {
        acc[m][r] = Mode::madd(column, load_x(x + p * M + m * kElements), acc[m][r]);
      }
    }
  }
#pragma GCC unroll 4
  for (int m = 0; m < M; ++m) fold<Rows>(out + m * ldout, acc[m]);
}

// Rows rows of w against all of x: kBlock rows of x, again and again, then what is left. The
// passes share the fetching of later rows of w, so that memory is busy in all of them.
template <class Mode, int Rows, int Ahead>
inline void all_passes(float* out, int64_t ldout, const typename Mode::X* x, int64_t padded,
                       int64_t m, const typename Mode::W* w, int64_t ldw, int64_t k) {
  // an address, not a pointer: past the end of w nothing may be pointed at, but all may be fetched
  const uintptr_t later = reinterpret_cast<uintptr_t>(w) +
                          (uintptr_t)(kGroupsAhead * Rows * ldw) * sizeof(typename Mode::W);
  int64_t i = 0, lines = 0;
  const auto pass = [&](auto rows_of_x) {
    constexpr int M = decltype(rows_of_x)::value;
    if (lines < Rows) {
      block<Mode, Rows, M, Ahead>(out + i * ldout, ldout, x + i * padded, w, ldw, k,
                                  later + (uintptr_t)(lines * k) * sizeof(typename Mode::W));
    } else {
      block<Mode, Rows, M, 0>(out + i * ldout, ldout, x + i * padded, w, ldw, k, later);
    }
    i += M;
    lines += Ahead;
  };
  while (i + kBlock <= m) pass(Count<kBlock>());
  if (kBlock > 2 && i + 2 <= m) pass(Count<2>());
  if (i < m) pass(Count<1>());
}

template <class Mode, int Rows>
inline void rows_against_all(float* out, int64_t ldout, const typename Mode::X* x, int64_t padded,
                             int64_t m, const typename Mode::W* w, int64_t ldw, int64_t k) {
  if (m == 1 || m == 2 || m == kBlock) {
    all_passes<Mode, Rows, Rows>(out, ldout, x, padded, m, w, ldw, k);
  } else if (m <= 2 * kBlock) {
    all_passes<Mode, Rows, (Rows + 1) / 2>(out, ldout, x, padded, m, w, ldw, k);
  } else {
    all_passes<Mode, Rows, 1>(out, ldout, x, padded, m, w, ldw, k);
  }
}

template <class Mode>
void dots_mode(float* out, int64_t ldout, const void* x_rows, int64_t padded, int64_t m,
               const void* w_rows, int64_t ldw, int64_t n, int64_t k) {
  const auto* x = static_cast<const typename Mode::X*>(x_rows);
  const auto* w = static_cast<const typename Mode::W*>(w_rows);
  for (int64_t j = 0; j < n;) {
    if (n - j >= 4) {
      rows_against_all<Mode, 4>(out + j, ldout, x, padded, m, w + j * ldw, ldw, k);
      j += 4;
    } else {
      rows_against_all<Mode, 1>(out + j, ldout, x, padded, m, w + j * ldw, ldw, k);
      j += 1;
    }
  }
}

void dots(float* out, int64_t ldout, const void* x, int64_t padded, int64_t m, const void* w,
          int64_t ldw, int64_t n, int64_t k, SkinnyMode mode) {
  switch (mode) {
    case kSkinnyFloat:
      return dots_mode<Float>(out, ldout, x, padded, m, w, ldw, n, k);
    case kSkinnyWiden:
      return dots_mode<Widen>(out, ldout, x, padded, m, w, ldw, n, k);
    case kSkinnyRound:
      return dots_mode<Round>(out, ldout, x, padded, m, w, ldw, n, k);
    case kSkinnyPairs:
#if defined(__AVX512BF16__)
      return dots_mode<Pairs>(out, ldout, x, padded, m, w, ldw, n, k);
#else
      return;  // has_pairs says that nobody may ask
#endif
  }
}

inline vf read_x(const void* x, VilgStorage storage, int64_t i, int64_t n) {
  return storage == kVilgFloat32 ? load_up_to(static_cast<const float*>(x) + i, n)
                                 : load_up_to(static_cast<const uint16_t*>(x) + i, n);
}

void convert_x(void* to, const void* x, VilgStorage storage, SkinnyMode mode, bool round, int64_t i,
               int64_t m, int64_t k, int64_t padded) {
  // the pass of all_passes that row i belongs to: its first row and its number of rows
  int64_t first = i / kBlock * kBlock, rows = kBlock;
  if (first + kBlock > m) {
    const bool in_pair = kBlock > 2 && m - first >= 2;
    rows = in_pair && i < first + 2 ? 2 : 1;
    if (in_pair && i >= first + 2) first += 2;
  }
  const bool half = kHasPairs && (mode == kSkinnyPairs || mode == kSkinnyRound);
  const int64_t elements = half ? 2 * kWidth : kWidth;
  for (int64_t e = 0; e < padded; e += kWidth) {
    const vf value = e < k ? read_x(x, storage, e, k - e) : vf{};
    const int64_t at =
        first * padded + e / elements * elements * rows + (i - first) * elements + e % elements;
    if (half) {
      store(static_cast<uint16_t*>(to) + at, value);
    } else {
      store(static_cast<float*>(to) + at, round ? round_to_bf16(value) : value);
    }
  }
}

}  // namespace

VILG_SIMD_ENTRY(SkinnySimd, skinny) {
  static const SkinnySimd table = {kHasPairs, 2 * kWidth, convert_x, dots};
  return &table;
}
