// What both passes of attention.cc share: products of register tiles, the walk over the groups of
// keys that a tile of queries sees, and the product that the columns layout is for.
#pragma once

#include "cpu/simd/attention.h"
#include "cpu/simd/vec.h"

#define VILG_INLINE [[gnu::always_inline]] inline

namespace vilg::cpu {
namespace {

// Register tile of the products: kRows x kColumns vectors of sums. AVX-512 and NEON have 32
// registers, the others 16; two columns halve the loads of `a`.
#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int kRows = 8;
#else
constexpr int kRows = 4;
#endif

// sums[r][c] += sum over k of a[r * a_row + k * a_step] * b[c][k * b_step ..]
template <int R, int C>
VILG_INLINE void multiply_add(vf (&sums)[R][C], const float* a, int64_t a_row, int64_t a_step,
                              const float* const (&b)[C], int64_t b_step, int64_t K) {
  for (int64_t k = 0; k < K; ++k) {
    vf column[C];
#pragma GCC unroll 8
    for (int c = 0; c < C; ++c) column[c] = load(b[c] + k * b_step);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const vf value = splat(a[r * a_row + k * a_step]);
#pragma GCC unroll 8
      for (int c = 0; c < C; ++c) sums[r][c] = fma(value, column[c], sums[r][c]);
    }
  }
}

VILG_INLINE const float* query_panel(const float* panels, int64_t row, int64_t head_size) {
  return panels + row / kQueryInterleave * kQueryInterleave * head_size + row % kQueryInterleave;
}

VILG_INLINE vf select_bits(unsigned bits, vf a, vf b) {
#if defined(__AVX512F__)
  return (vf)_mm512_mask_blend_ps((__mmask16)bits, (__m512)b, (__m512)a);
#else
  vi lane_bit;
#pragma GCC unroll 16
  for (int i = 0; i < kWidth; ++i) lane_bit[i] = 1 << i;
  return select((splat_i((int32_t)bits) & lane_bit) != 0, a, b);
#endif
}

struct Slot {
  int32_t group;
  const uint16_t* masks;  // of this group, for the tile's queries; null where no block needs them
  const uint8_t* state;
};

// Consecutive slots with consecutive groups that one block of queries sees.
struct Span {
  int32_t slot, count, group;
};

// Walks over the groups of a tile, up to `kSlots` at a time.
template <int kSlots>
struct SlotWalk {
  const AttentionTile& tile;
  int64_t run = 0;
  int32_t done = 0;  // of that run
  Slot slots[kSlots];
  int count = 0;

  explicit SlotWalk(const AttentionTile& t) : tile(t) {}

  bool next() {
    count = 0;
    while (count < kSlots && run < tile.num_runs) {
      const AttentionRun& r = tile.runs[run];
      const uint16_t* masks =
          r.mask < 0 ? nullptr : tile.masks + (int64_t)(r.mask + done) * kQueryTile;
      slots[count++] = {r.group + done, masks, r.state};
      if (++done == r.count) {
        done = 0;
        ++run;
      }
    }
    return count > 0;
  }

  int spans(int block, Span (&out)[kSlots]) const {
    int n = 0;
    for (int s = 0; s < count; ++s) {
      if (slots[s].state[block] == kSeesNone) continue;
      if (n > 0 && out[n - 1].slot + out[n - 1].count == s &&
          out[n - 1].group + out[n - 1].count == slots[s].group) {
        ++out[n - 1].count;
      } else {
        out[n++] = {s, 1, slots[s].group};
      }
    }
    return n;
  }
};

inline int num_blocks(const AttentionTile& tile) {
  return (int)((tile.num_queries + kQueryBlock - 1) / kQueryBlock);
}

// rows[block] += matrix . columns over the spans, for C vectors of columns from `column`: weights
// and values, or score gradients and keys. The matrix is (kQueryTile, kBlockKeys).
template <int C, int kBlockKeys>
VILG_INLINE void add_columns(float* rows, const float* matrix, const float* columns, int64_t width,
                             int64_t num_tokens, int block, const Span* spans, int num_spans,
                             int64_t column) {
#pragma GCC unroll 1
  for (int r0 = 0; r0 < kQueryBlock; r0 += kRows) {
    const int64_t row = block * kQueryBlock + r0;
    float* out = rows + row * width + column;
    vf sums[kRows][C];
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
      for (int c = 0; c < C; ++c) sums[r][c] = load(out + r * width + c * kWidth);
    }
    for (int s = 0; s < num_spans; ++s) {
      const float* from =
          columns + column * num_tokens + (int64_t)spans[s].group * kWidth * C * kWidth;
      const float* b[C];
      for (int c = 0; c < C; ++c) b[c] = from + c * kWidth;
      multiply_add<kRows, C>(sums, matrix + row * kBlockKeys + spans[s].slot * kWidth, kBlockKeys,
                             1, b, C * kWidth, (int64_t)spans[s].count * kWidth);
    }
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
      for (int c = 0; c < C; ++c) store(out + r * width + c * kWidth, sums[r][c]);
    }
  }
}

}  // namespace
}  // namespace vilg::cpu
