#include "cpu/simd/linear_algebra.h"

#include "cpu/simd/vec.h"

namespace {

constexpr int kDoubles = kWidth / 2;
typedef double vd __attribute__((vector_size(kDoubles * 8)));
typedef double vd_unaligned __attribute__((vector_size(kDoubles * 8), aligned(8), may_alias));

inline vd load(const double* p) { return *reinterpret_cast<const vd_unaligned*>(p); }
inline void store(double* p, vd x) { *reinterpret_cast<vd_unaligned*>(p) = x; }
inline vd splat(double x) { return x - vd{}; }

// kRows x kVectors sums, the vectors of b and a broadcast element of a fit the registers: 8 x 3 of
// 32 (AVX-512, NEON), 4 x 3 of 16 (AVX2), 3 x 3 of 16 (SSE, which has no fused product and needs
// one more)
#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int kRows = 8, kVectors = 3;
#elif defined(__AVX__)
constexpr int kRows = 4, kVectors = 3;
#else
constexpr int kRows = 3, kVectors = 3;
#endif
constexpr int kColumns = kVectors * kDoubles;

void tile(double* c, int64_t ldc, const double* a, const double* b, int64_t k, double alpha) {
  vd sums[kRows][kVectors] = {};
  for (int64_t p = 0; p < k; ++p) {
    vd right[kVectors];
#pragma GCC unroll 3
    for (int j = 0; j < kVectors; ++j) right[j] = load(b + p * kColumns + j * kDoubles);
#pragma GCC unroll 8
    for (int i = 0; i < kRows; ++i) {
      const vd left = splat(a[p * kRows + i]);
#pragma GCC unroll 3
      for (int j = 0; j < kVectors; ++j) sums[i][j] += left * right[j];
    }
  }
  for (int i = 0; i < kRows; ++i) {
    for (int j = 0; j < kVectors; ++j) {
      double* to = c + i * ldc + j * kDoubles;
      store(to, load(to) + splat(alpha) * sums[i][j]);
    }
  }
}

// Rows that are updated together: what they share (y, v and the sums) is read once for all.
template <int Rows>
inline void reflect(double* a, int64_t lda, int64_t columns, const double* u, const double* y,
                    const double* x, const double* v, const double* w, double* sums) {
  int64_t j = 0;
  for (; j + kDoubles <= columns; j += kDoubles) {
    const vd y_j = load(y + j), v_j = load(v + j);
    vd sum = load(sums + j);
#pragma GCC unroll 4
    for (int i = 0; i < Rows; ++i) {
      double* at = a + i * lda + j;
      const vd value = load(at) - splat(u[i]) * y_j - splat(x[i]) * v_j;
      store(at, value);
      sum += splat(w[i]) * value;
    }
    store(sums + j, sum);
  }
  for (; j < columns; ++j) {
    for (int i = 0; i < Rows; ++i) {
      double& value = a[i * lda + j];
      value = value - u[i] * y[j] - x[i] * v[j];
      sums[j] += w[i] * value;
    }
  }
}

void reflect_rows(double* a, int64_t lda, int64_t rows, int64_t columns, const double* u,
                  const double* y, const double* x, const double* v, const double* w,
                  double* sums) {
  int64_t i = 0;
  for (; i + 4 <= rows; i += 4) {
    reflect<4>(a + i * lda, lda, columns, u + i, y, x + i, v, w + i, sums);
  }
  for (; i < rows; ++i) reflect<1>(a + i * lda, lda, columns, u + i, y, x + i, v, w + i, sums);
}

double dot(const double* a, const double* b, int64_t count) {
  constexpr int kSums = 4;  // hide the latency of a sum
  vd sums[kSums] = {};
  int64_t at = 0;
  for (; at + kSums * kDoubles <= count; at += kSums * kDoubles) {
#pragma GCC unroll 4
    for (int i = 0; i < kSums; ++i) {
      sums[i] += load(a + at + i * kDoubles) * load(b + at + i * kDoubles);
    }
  }
  const vd sum = (sums[0] + sums[1]) + (sums[2] + sums[3]);
  double total = 0;
  for (int i = 0; i < kDoubles; ++i) total += sum[i];
  for (; at < count; ++at) total += a[at] * b[at];
  return total;
}

}  // namespace

VILG_SIMD_ENTRY(LinearAlgebraSimd, linear_algebra) {
  static const LinearAlgebraSimd table = {kRows, kColumns, tile, reflect_rows, dot};
  return &table;
}
