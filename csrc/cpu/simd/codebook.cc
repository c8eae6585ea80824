#include "cpu/simd/codebook.h"

#include <math.h>

#include "cpu/simd/lanes.h"
#include "cpu/simd/register_tile.h"

namespace {

// One rounding, by contract: never left to the compiler.
struct FusedStep {
  [[gnu::always_inline]] static inline vf apply(vf a, vf b, vf c) {
#if defined(__AVX512F__)
    return (vf)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif defined(__FMA__)
    return (vf)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#elif defined(__aarch64__)
    return (vf)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
#else
    // x86-64-v2 has no such instruction; the C library's is exact
    vf result;
    for (int i = 0; i < kWidth; ++i) result[i] = fmaf(a[i], b[i], c[i]);
    return result;
#endif
  }
};

void norms_entry(float* norms, const float* panel, int64_t dim) {
  vf sums[kTileVectors] = {};
  for (int64_t k = 0; k < dim; ++k) {
    for (int v = 0; v < kTileVectors; ++v) {
      const vf e = load(panel + k * kTileColumns + v * kWidth);
      sums[v] = FusedStep::apply(e, e, sums[v]);
    }
  }
  for (int v = 0; v < kTileVectors; ++v) store(norms + v * kWidth, sums[v]);
}

inline vi lane_numbers() {
  int32_t lanes[kWidth];
  for (int i = 0; i < kWidth; ++i) lanes[i] = i;
  vi result;
  __builtin_memcpy(&result, lanes, sizeof result);
  return result;
}

template <int Rows>
void score_rows(float* scores, int32_t* indices, const float* vectors, const float* panel,
                const float* norms, int64_t dim, int32_t first, int32_t columns) {
  vf c[Rows][kTileVectors];
#pragma GCC unroll 16
  for (int i = 0; i < Rows; ++i) {
#pragma GCC unroll 4
    for (int v = 0; v < kTileVectors; ++v) c[i][v] = vf{};
  }
  multiply_run<FusedStep>(c, reinterpret_cast<const char*>(vectors), dim * 4, panel, dim);
  const vf infinity = splat(__builtin_inff());
#pragma GCC unroll 4
  for (int v = 0; v < kTileVectors; ++v) {
    const vi lane = lane_numbers() + v * kWidth;
    const vi exists = lane < columns;
    const vf norm = load(norms + v * kWidth);
    const vi index = lane + first;
#pragma GCC unroll 16
    for (int i = 0; i < Rows; ++i) {
      float* best = scores + i * kTileColumns + v * kWidth;
      int32_t* best_index = indices + i * kTileColumns + v * kWidth;
      vf score = FusedStep::apply(splat(-2.0f), c[i][v], norm);
      score = select(exists, score, infinity);
      const vf before = load(best);
      auto* to = reinterpret_cast<vi_unaligned*>(best_index);
      // false for NaN; panels come in any order
      const vi smaller = (score < before) | ((score == before) & (index < *to));
      store(best, select(smaller, score, before));
      *to = (smaller & index) | (~smaller & *to);
    }
  }
}

template <int Rows>
void score_some(float* scores, int32_t* indices, const float* vectors, int64_t rows,
                const float* panel, const float* norms, int64_t dim, int32_t first,
                int32_t columns) {
  if (rows == Rows) {
    score_rows<Rows>(scores, indices, vectors, panel, norms, dim, first, columns);
  } else if constexpr (Rows > 1) {
    score_some<Rows - 1>(scores, indices, vectors, rows, panel, norms, dim, first, columns);
  }
}

void score_entry(float* scores, int32_t* indices, const float* vectors, int64_t rows,
                 const float* panel, const float* norms, int64_t dim, int32_t first,
                 int32_t columns) {
  score_some<kTileRows>(scores, indices, vectors, rows, panel, norms, dim, first, columns);
}

void best_entry(const float* scores, const int32_t* indices, float* score, int32_t* index) {
  float best = scores[0];
  int32_t at = indices[0];
  for (int i = 1; i < kTileColumns; ++i) {
    if (scores[i] < best || (scores[i] == best && indices[i] < at)) {
      best = scores[i];
      at = indices[i];
    }
  }
  *score = best;
  *index = at;
}

float squared_norm_entry(const float* vector, int64_t dim) {
  float sum = 0;
  for (int64_t k = 0; k < dim; ++k) sum = fmaf(vector[k], vector[k], sum);
  return sum;
}

int32_t argmax_entry(const float* values, int64_t n) {
  vf best = splat(-__builtin_inff());
  vi best_index = splat_i(0);
  vi index = lane_numbers();
  const int64_t full = n / kWidth * kWidth;
  for (int64_t i = 0; i < full; i += kWidth) {
    const vf x = load(values + i);
    const vi larger = x > best;
    best = select(larger, x, best);
    best_index = (larger & index) | (~larger & best_index);
    index += kWidth;
  }
  float lanes[kWidth];
  int32_t indices[kWidth];
  store(lanes, best);
  __builtin_memcpy(indices, &best_index, sizeof indices);
  float largest = lanes[0];
  int32_t at = indices[0];
  for (int i = 1; i < kWidth; ++i) {
    if (lanes[i] > largest || (lanes[i] == largest && indices[i] < at)) {
      largest = lanes[i];
      at = indices[i];
    }
  }
  for (int64_t i = full; i < n; ++i) {
    if (values[i] > largest) {
      largest = values[i];
      at = (int32_t)i;
    }
  }
  return at;
}

}  // namespace

VILG_SIMD_ENTRY(VilgCodebookKernels, codebook) {
  static const VilgCodebookKernels table = {
      kTileRows,  kTileColumns,       norms_entry,  score_entry,
      best_entry, squared_norm_entry, argmax_entry,
  };
  return &table;
}
