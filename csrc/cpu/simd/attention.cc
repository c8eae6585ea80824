#include "cpu/simd/attention.h"

#include "cpu/simd/attention_backward.h"
#include "cpu/simd/attention_forward.h"
#include "cpu/simd/shuffle.h"
#include "cpu/simd/vec.h"

namespace vilg::cpu {
namespace {

template <typename T>
void gather_rows(float* rows, const T* source, int64_t token_stride, const int32_t* positions,
                 int64_t count, int64_t head_size, int64_t width, float scale) {
  for (int64_t i = 0; i < count; ++i) {
    float* row = rows + i * width;
    int64_t d = 0;
    if (positions[i] >= 0) {
      const T* from = source + positions[i] * token_stride;
      for (; d + kWidth <= head_size; d += kWidth) store(row + d, load(from + d) * splat(scale));
      if (d < head_size) {
        store(row + d, load_partial(from + d, head_size - d) * splat(scale));
        d += kWidth;
      }
    }
    for (; d < width; d += kWidth) store(row + d, vf{});
  }
}

void gather(float* rows, const void* source, bool is_bf16, int64_t token_stride,
            const int32_t* positions, int64_t count, int64_t head_size, int64_t width,
            float scale) {
  if (is_bf16) {
    gather_rows(rows, (const uint16_t*)source, token_stride, positions, count, head_size, width,
                scale);
  } else {
    gather_rows(rows, (const float*)source, token_stride, positions, count, head_size, width,
                scale);
  }
}

template <typename T>
void scatter_rows(T* target, int64_t token_stride, const int32_t* positions, int64_t count,
                  const float* rows, int64_t head_size, int64_t width, float scale) {
  for (int64_t i = 0; i < count; ++i) {
    if (positions[i] < 0) continue;
    const float* row = rows + i * width;
    T* to = target + positions[i] * token_stride;
    int64_t d = 0;
    for (; d + kWidth <= head_size; d += kWidth) store(to + d, load(row + d) * splat(scale));
    if (d < head_size) store_partial(to + d, load(row + d) * splat(scale), head_size - d);
  }
}

void scatter(void* target, bool is_bf16, int64_t token_stride, const int32_t* positions,
             int64_t count, const float* rows, int64_t head_size, int64_t width, float scale) {
  if (is_bf16) {
    scatter_rows((uint16_t*)target, token_stride, positions, count, rows, head_size, width, scale);
  } else {
    scatter_rows((float*)target, token_stride, positions, count, rows, head_size, width, scale);
  }
}

void transpose_rows(float* panels, const float* rows, int64_t interleave, int64_t count,
                    int64_t head_size, int64_t width) {
  for (int64_t i = 0; i < count; i += kWidth) {
    float* panel = panels + i / interleave * interleave * head_size + i % interleave;
    for (int64_t d = 0; d < head_size; d += kWidth) {
      vf square[kWidth];
#pragma GCC unroll 16
      for (int r = 0; r < kWidth; ++r) square[r] = load(rows + (i + r) * width + d);
      transpose(square);
      const int64_t rest = head_size - d;
#pragma GCC unroll 16
      for (int r = 0; r < kWidth; ++r) {
        if (r < rest) store(panel + (d + r) * interleave, square[r]);
      }
    }
  }
}

void split_columns(float* columns, const float* rows, int64_t first, int64_t count,
                   int64_t num_tokens, int64_t width) {
  for (int64_t d = 0; d < width; d += 2 * kWidth) {
    const int64_t part = width - d < 2 * kWidth ? kWidth : 2 * kWidth;
    float* to = columns + d * num_tokens + first * part;
    for (int64_t i = 0; i < count; ++i) {
      for (int64_t c = 0; c < part; c += kWidth) {
        store(to + i * part + c, load(rows + i * width + d + c));
      }
    }
  }
}

void dot_rows(float* result, const float* a, const float* b, int64_t count, int64_t width) {
  for (int64_t i = 0; i < count; ++i) {
    vf sum = {};
    for (int64_t d = 0; d < width; d += kWidth) {
      sum = fma(load(a + i * width + d), load(b + i * width + d), sum);
    }
    result[i] = hsum(sum);
  }
}

}  // namespace

VILG_SIMD_ENTRY(AttentionSimd, attention) {
  static const AttentionSimd table = {kWidth,        gather,   scatter, transpose_rows,
                                      split_columns, dot_rows, forward, backward};
  return &table;
}
}  // namespace vilg::cpu
