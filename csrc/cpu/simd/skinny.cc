#include "cpu/simd/skinny.h"

#include "cpu/simd/lanes.h"
#include "cpu/simd/vec.h"

namespace {

#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int kBlock = 4;  // rows of x at once: 4 x 4 accumulators of 32 registers
#else
constexpr int kBlock = 2;  // 4 x 2 of 16
#endif

// Two to four kilobytes of w on their way cover the latency of memory at one core's bandwidth.
constexpr int64_t kPrefetchBytes = 1024;

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
struct Round {
  typedef float W;
  typedef float X;
  static constexpr int kElements = kWidth;
  static inline vf load_w(const float* p) { return round_to_bf16(load(p)); }
  static inline vf load_w(const float* p, int64_t n) { return round_to_bf16(load_first(p, n)); }
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
#endif

inline vf load_x(const float* p) { return load(p); }
inline vf load_x(const uint16_t* p) { return load(reinterpret_cast<const float*>(p)); }

// Lane i becomes the sum of vector i, for Rows = a power of two <= width: each step adds the lower
// half of a vector to its upper half, for two vectors at once.
template <int Rows>
inline void fold(float* out, vf (&v)[Rows]) {
#pragma GCC unroll 4
  for (int n = Rows / 2; n > 0; n /= 2) {
#pragma GCC unroll 8
    for (int i = 0; i < n; ++i) {
      v[i] = interleave_low(v[i], v[i + n]) + interleave_high(v[i], v[i + n]);
    }
  }
  float lanes[kWidth];
  store(lanes, v[0]);
#pragma GCC unroll 4
  for (int n = kWidth / 2; n >= Rows; n /= 2) {
#pragma GCC unroll 8
    for (int i = 0; i < n; ++i) lanes[i] = lanes[i] + lanes[i + n];
  }
#pragma GCC unroll 8
  for (int i = 0; i < Rows; ++i) out[i] = lanes[i];
}

// Rows rows of w against M rows of x
template <class Mode, int Rows, int M>
inline void block(float* out, int64_t ldout, const typename Mode::X* x, int64_t ldx,
                  const typename Mode::W* w, int64_t ldw, int64_t k, bool prefetch) {
  constexpr int64_t kAhead = kPrefetchBytes / (int64_t)sizeof(typename Mode::W);
  vf acc[M][Rows] = {};
  int64_t p = 0;
  // what comes `ahead` elements later: further on in these rows, then the start of the next ones
  const int64_t ahead = kAhead < k ? kAhead : k;
  const int64_t next_rows = Rows * ldw - k;
  for (; p + Mode::kElements <= k; p += Mode::kElements) {
    if (prefetch) {
      const int64_t later = p + ahead;
      const typename Mode::W* at = w + (later < k ? later : later + next_rows);
#pragma GCC unroll 8
      for (int r = 0; r < Rows; ++r) __builtin_prefetch(at + r * ldw);
    }
    vf columns[Rows];
#pragma GCC unroll 8
    for (int r = 0; r < Rows; ++r) columns[r] = Mode::load_w(w + r * ldw + p);
#pragma GCC unroll 4
    for (int m = 0; m < M; ++m) {
      const vf row = load_x(x + m * ldx + p);
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
        acc[m][r] = Mode::madd(column, load_x(x + m * ldx + p), acc[m][r]);
      }
    }
  }
#pragma GCC unroll 4
  for (int m = 0; m < M; ++m) fold<Rows>(out + m * ldout, acc[m]);
}

template <class Mode, int Rows>
inline void rows_against_all(float* out, int64_t ldout, const typename Mode::X* x, int64_t ldx,
                             int64_t m, const typename Mode::W* w, int64_t ldw, int64_t k) {
  int64_t i = 0;
  for (; i + kBlock <= m; i += kBlock) {
    block<Mode, Rows, kBlock>(out + i * ldout, ldout, x + i * ldx, ldx, w, ldw, k, i == 0);
  }
  if (kBlock > 2 && i + 2 <= m) {
    block<Mode, Rows, 2>(out + i * ldout, ldout, x + i * ldx, ldx, w, ldw, k, i == 0);
    i += 2;
  }
  if (i < m) block<Mode, Rows, 1>(out + i * ldout, ldout, x + i * ldx, ldx, w, ldw, k, i == 0);
}

template <class Mode>
void dots_mode(float* out, int64_t ldout, const void* x_rows, int64_t ldx, int64_t m,
               const void* w_rows, int64_t ldw, int64_t n, int64_t k) {
  const auto* x = static_cast<const typename Mode::X*>(x_rows);
  const auto* w = static_cast<const typename Mode::W*>(w_rows);
  for (int64_t j = 0; j < n;) {
    if (n - j >= 4) {
      rows_against_all<Mode, 4>(out + j, ldout, x, ldx, m, w + j * ldw, ldw, k);
      j += 4;
    } else {
      rows_against_all<Mode, 1>(out + j, ldout, x, ldx, m, w + j * ldw, ldw, k);
      j += 1;
    }
  }
}

void dots(float* out, int64_t ldout, const void* x, int64_t ldx, int64_t m, const void* w,
          int64_t ldw, int64_t n, int64_t k, SkinnyMode mode) {
  switch (mode) {
    case kSkinnyFloat:
      return dots_mode<Float>(out, ldout, x, ldx, m, w, ldw, n, k);
    case kSkinnyWiden:
      return dots_mode<Widen>(out, ldout, x, ldx, m, w, ldw, n, k);
    case kSkinnyRound:
      return dots_mode<Round>(out, ldout, x, ldx, m, w, ldw, n, k);
    case kSkinnyPairs:
#if defined(__AVX512BF16__)
      return dots_mode<Pairs>(out, ldout, x, ldx, m, w, ldw, n, k);
#else
      return;              // has_pairs says that nobody may ask
#endif
  }
}

inline vf read_x(const void* x, VilgStorage storage, int64_t i, int64_t n) {
  return storage == kVilgFloat32 ? load_up_to(static_cast<const float*>(x) + i, n)
                                 : load_up_to(static_cast<const uint16_t*>(x) + i, n);
}

void convert_x(void* to, const void* x, VilgStorage storage, SkinnyMode mode, bool round, int64_t k,
               int64_t padded) {
  for (int64_t i = 0; i < padded; i += kWidth) {
    const vf value = i < k ? read_x(x, storage, i, k - i) : vf{};
    if (mode == kSkinnyPairs) {
      store(static_cast<uint16_t*>(to) + i, value);
    } else {
      store(static_cast<float*>(to) + i, round ? round_to_bf16(value) : value);
    }
  }
}

}  // namespace

VILG_SIMD_ENTRY(SkinnySimd, skinny) {
#if defined(__AVX512BF16__)
  constexpr bool kHasPairs = true;
#else
  constexpr bool kHasPairs = false;
#endif
  static const SkinnySimd table = {kHasPairs, 2 * kWidth, convert_x, dots};
  return &table;
}
