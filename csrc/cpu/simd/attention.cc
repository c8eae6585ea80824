#include "cpu/simd/attention.h"

#include <math.h>

#include "cpu/simd/shuffle.h"
#include "cpu/simd/vec.h"

using namespace vilg::cpu;

namespace {

#define VILG_INLINE [[maybe_unused]] inline __attribute__((always_inline))

// Register tile of the products: kRows x kColumns vectors of sums. AVX-512 and NEON have 32
// registers, the others 16; two columns halve the loads of `a`.
#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int kRows = 8;
#else
constexpr int kRows = 4;
#endif
constexpr int kKeyRows = kRows < kWidth ? kRows : kWidth;  // rows that are keys of one group
constexpr float kNever = -1e30f;  // below every score, yet finite: its exponential is masked anyway

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

// --- the key groups of one pass
// --------------------------------------------------------------------

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

// --- forward
// ------------------------------------------------------------------------------------------

template <int C>
VILG_INLINE void score_columns(const AttentionForwardTile& p, int block, int slot,
                               const float* const (&panels)[C]) {
#pragma GCC unroll 1
  for (int r0 = 0; r0 < kQueryBlock; r0 += kRows) {
    const int64_t row = block * kQueryBlock + r0;
    vf sums[kRows][C] = {};
    multiply_add<kRows, C>(sums, query_panel(p.q_panels, row, p.head_size), 1, kQueryInterleave,
                           panels, kWidth, p.head_size);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
      for (int c = 0; c < C; ++c) {
        store(p.scores + (row + r) * kForwardBlockKeys + (slot + c) * kWidth, sums[r][c]);
      }
    }
  }
}

// out[block] += P . v over the spans, for C vectors of columns from `column`
template <int C>
VILG_INLINE void add_values(const AttentionForwardTile& p, int block, const Span* spans,
                            int num_spans, int64_t column) {
#pragma GCC unroll 1
  for (int r0 = 0; r0 < kQueryBlock; r0 += kRows) {
    const int64_t row = block * kQueryBlock + r0;
    float* out = p.out + row * p.width + column;
    vf sums[kRows][C];
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
      for (int c = 0; c < C; ++c) sums[r][c] = load(out + r * p.width + c * kWidth);
    }
    for (int s = 0; s < num_spans; ++s) {
      const float* v =
          p.v_columns + column * p.num_tokens + (int64_t)spans[s].group * kWidth * C * kWidth;
      const float* rows[C];
      for (int c = 0; c < C; ++c) rows[c] = v + c * kWidth;
      multiply_add<kRows, C>(sums, p.scores + row * kForwardBlockKeys + spans[s].slot * kWidth,
                             kForwardBlockKeys, 1, rows, C * kWidth,
                             (int64_t)spans[s].count * kWidth);
    }
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
      for (int c = 0; c < C; ++c) store(out + r * p.width + c * kWidth, sums[r][c]);
    }
  }
}

constexpr int kForwardSlots = kForwardBlockKeys / kWidth;

// One step of the online softmax for a query: scores become weights relative to the new maximum.
VILG_INLINE void softmax_row(const AttentionForwardTile& p, const SlotWalk<kForwardSlots>& walk,
                             int query, const Span* spans, int num_spans, float* maxima,
                             float* sums) {
  float* scores = p.scores + (int64_t)query * kForwardBlockKeys;
  const int block = query / kQueryBlock;
  vf largest = splat(kNever);
  for (int s = 0; s < num_spans; ++s) {
    for (int slot = spans[s].slot; slot < spans[s].slot + spans[s].count; ++slot) {
      vf x = load(scores + slot * kWidth);
      if (walk.slots[slot].state[block] == kSeesSome) {
        x = select_bits(walk.slots[slot].masks[query], x, splat(kNever));
      }
      largest = max(x, largest);
    }
  }
  const float before = maxima[query], block_maximum = hmax(largest);
  const float maximum = block_maximum > before ? block_maximum : before;
  vf total = {};
  for (int s = 0; s < num_spans; ++s) {
    for (int slot = spans[s].slot; slot < spans[s].slot + spans[s].count; ++slot) {
      vf weight = exp(load(scores + slot * kWidth) - splat(maximum));
      if (walk.slots[slot].state[block] == kSeesSome) {
        weight = select_bits(walk.slots[slot].masks[query], weight, vf{});
      }
      store(scores + slot * kWidth, weight);
      total += weight;
    }
  }
  const float sum = hsum(total);
  if (maximum > before && sums[query] != 0) {
    const vf shrink = exp(splat(before - maximum));
    sums[query] *= shrink[0];
    float* out = p.out + (int64_t)query * p.width;
    for (int64_t d = 0; d < p.width; d += kWidth) store(out + d, load(out + d) * shrink);
  }
  sums[query] += sum;
  maxima[query] = maximum;
}

void forward(const AttentionForwardTile& p) {
  float maxima[kQueryTile], sums[kQueryTile];
  for (int i = 0; i < kQueryTile; ++i) {
    maxima[i] = kNever;
    sums[i] = 0;
  }
  memset(p.out, 0, sizeof(float) * (size_t)(kQueryTile * p.width));
  const int blocks = num_blocks(p.tile);
  const int64_t panel = p.head_size * kWidth;
  SlotWalk<kForwardSlots> walk(p.tile);
  while (walk.next()) {
    for (int s = 0; s < walk.count; s += 2) {
      const bool pair = s + 1 < walk.count;
      const float* first = p.k_panels + walk.slots[s].group * panel;
      const float* second = pair ? p.k_panels + walk.slots[s + 1].group * panel : nullptr;
      for (int block = 0; block < blocks; ++block) {
        const bool sees_first = walk.slots[s].state[block] != kSeesNone;
        const bool sees_second = pair && walk.slots[s + 1].state[block] != kSeesNone;
        if (sees_first && sees_second) {
          score_columns<2>(p, block, s, {first, second});
        } else if (sees_first) {
          score_columns<1>(p, block, s, {first});
        } else if (sees_second) {
          score_columns<1>(p, block, s + 1, {second});
        }
      }
    }
    Span spans[kQueryBlocks][kForwardSlots];
    int num_spans[kQueryBlocks];
    for (int block = 0; block < blocks; ++block) {
      num_spans[block] = walk.spans(block, spans[block]);
      for (int r = 0; r < kQueryBlock; ++r) {
        softmax_row(p, walk, block * kQueryBlock + r, spans[block], num_spans[block], maxima, sums);
      }
    }
    // columns outside, so that their part of v stays in the first cache for all blocks
    int64_t d = 0;
    for (; d + 2 * kWidth <= p.width; d += 2 * kWidth) {
      for (int block = 0; block < blocks; ++block) {
        add_values<2>(p, block, spans[block], num_spans[block], d);
      }
    }
    if (d < p.width) {
      for (int block = 0; block < blocks; ++block) {
        add_values<1>(p, block, spans[block], num_spans[block], d);
      }
    }
  }
  for (int i = 0; i < p.tile.num_queries; ++i) {
    const vf inverse = splat(1.0f / sums[i]);
    float* out = p.out + (int64_t)i * p.width;
    for (int64_t d = 0; d < p.width; d += kWidth) store(out + d, load(out + d) * inverse);
    p.lse[i] = maxima[i] + logf(sums[i]);
  }
}

// --- backward
// -----------------------------------------------------------------------------------------

constexpr int kBackwardSlots = kBackwardBlockKeys / kWidth;

// weights = exp(scores - lse) and score gradients = weights * (dout . v - delta), C groups at once
template <int C>
VILG_INLINE void weights_and_gradients(const AttentionBackwardTile& p,
                                       const SlotWalk<kBackwardSlots>& walk, int block, int slot,
                                       const int64_t (&panels)[C]) {
  float* weights = p.scores;
  float* gradients = p.scores + kQueryTile * kBackwardBlockKeys;
  const float *k[C], *v[C];
#pragma GCC unroll 2
  for (int c = 0; c < C; ++c) {
    k[c] = p.k_panels + panels[c];
    v[c] = p.v_panels + panels[c];
  }
#pragma GCC unroll 1
  for (int r0 = 0; r0 < kQueryBlock; r0 += kRows) {
    const int64_t row = block * kQueryBlock + r0;
    {
      vf sums[kRows][C] = {};
      multiply_add<kRows, C>(sums, query_panel(p.q_panels, row, p.head_size), 1, kQueryInterleave,
                             k, kWidth, p.head_size);
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
        for (int c = 0; c < C; ++c) {
          vf weight = exp(sums[r][c] - splat(p.lse[row + r]));
          if (walk.slots[slot + c].state[block] == kSeesSome) {
            weight = select_bits(walk.slots[slot + c].masks[row + r], weight, vf{});
          }
          store(weights + (row + r) * kBackwardBlockKeys + (slot + c) * kWidth, weight);
        }
      }
    }
    vf sums[kRows][C] = {};
    multiply_add<kRows, C>(sums, query_panel(p.dout_panels, row, p.head_size), 1, kQueryInterleave,
                           v, kWidth, p.head_size);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
      for (int c = 0; c < C; ++c) {
        const int64_t at = (row + r) * kBackwardBlockKeys + (slot + c) * kWidth;
        store(gradients + at, load(weights + at) * (sums[r][c] - splat(p.delta[row + r])));
      }
    }
  }
}

// dq[block] += dS . k over the spans
template <int C>
VILG_INLINE void add_query_gradients(const AttentionBackwardTile& p, int block, const Span* spans,
                                     int num_spans, int64_t column) {
  const float* gradients = p.scores + kQueryTile * kBackwardBlockKeys;
#pragma GCC unroll 1
  for (int r0 = 0; r0 < kQueryBlock; r0 += kRows) {
    const int64_t row = block * kQueryBlock + r0;
    float* dq = p.dq + row * p.width + column;
    vf sums[kRows][C];
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
      for (int c = 0; c < C; ++c) sums[r][c] = load(dq + r * p.width + c * kWidth);
    }
    for (int s = 0; s < num_spans; ++s) {
      const float* k =
          p.k_columns + column * p.num_tokens + (int64_t)spans[s].group * kWidth * C * kWidth;
      const float* rows[C];
      for (int c = 0; c < C; ++c) rows[c] = k + c * kWidth;
      multiply_add<kRows, C>(sums, gradients + row * kBackwardBlockKeys + spans[s].slot * kWidth,
                             kBackwardBlockKeys, 1, rows, C * kWidth,
                             (int64_t)spans[s].count * kWidth);
    }
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
      for (int c = 0; c < C; ++c) store(dq + r * p.width + c * kWidth, sums[r][c]);
    }
  }
}

// target[keys of the slot] += matrix^T . rows over the blocks that see the slot: matrix is the
// weights (rows: dout, target: dv) or the score gradients (rows: q, target: dk)
template <int C>
VILG_INLINE void add_key_gradients(const AttentionBackwardTile& p, const Slot& slot, int index,
                                   int blocks, int64_t column, float* target, const float* matrix,
                                   const float* rows) {
  float* keys = target + (int64_t)slot.group * kWidth * p.width + column;
#pragma GCC unroll 1
  for (int j = 0; j < kWidth; j += kKeyRows, keys += kKeyRows * p.width) {
    vf sums[kKeyRows][C];
#pragma GCC unroll 8
    for (int r = 0; r < kKeyRows; ++r) {
#pragma GCC unroll 2
      for (int c = 0; c < C; ++c) sums[r][c] = load(keys + r * p.width + c * kWidth);
    }
    for (int block = 0; block < blocks;) {
      int end = block;
      while (end < blocks && slot.state[end] != kSeesNone) ++end;
      if (end > block) {
        const int64_t row = block * kQueryBlock;
        const float* b[C];
        for (int c = 0; c < C; ++c) b[c] = rows + row * p.width + column + c * kWidth;
        multiply_add<kKeyRows, C>(sums, matrix + row * kBackwardBlockKeys + index * kWidth + j, 1,
                                  kBackwardBlockKeys, b, p.width, (end - block) * kQueryBlock);
      }
      block = end + 1;
    }
#pragma GCC unroll 8
    for (int r = 0; r < kKeyRows; ++r) {
#pragma GCC unroll 2
      for (int c = 0; c < C; ++c) store(keys + r * p.width + c * kWidth, sums[r][c]);
    }
  }
}

void backward(const AttentionBackwardTile& p) {
  const int blocks = num_blocks(p.tile);
  const int64_t panel = p.head_size * kWidth;
  const float* weights = p.scores;
  const float* gradients = p.scores + kQueryTile * kBackwardBlockKeys;
  memset(p.dq, 0, sizeof(float) * (size_t)(kQueryTile * p.width));
  SlotWalk<kBackwardSlots> walk(p.tile);
  while (walk.next()) {
    for (int s = 0; s < walk.count; s += 2) {
      const bool pair = s + 1 < walk.count;
      const int64_t first = walk.slots[s].group * panel;
      const int64_t second = pair ? walk.slots[s + 1].group * panel : 0;
      for (int block = 0; block < blocks; ++block) {
        const bool sees_first = walk.slots[s].state[block] != kSeesNone;
        const bool sees_second = pair && walk.slots[s + 1].state[block] != kSeesNone;
        if (sees_first && sees_second) {
          weights_and_gradients<2>(p, walk, block, s, {first, second});
        } else if (sees_first) {
          weights_and_gradients<1>(p, walk, block, s, {first});
        } else if (sees_second) {
          weights_and_gradients<1>(p, walk, block, s + 1, {second});
        }
      }
    }
    Span spans[kQueryBlocks][kBackwardSlots];
    int num_spans[kQueryBlocks];
    for (int block = 0; block < blocks; ++block) {
      num_spans[block] = walk.spans(block, spans[block]);
    }
    for (int64_t d = 0; d < p.width; d += 2 * kWidth) {
      if (d + 2 * kWidth <= p.width) {
        for (int block = 0; block < blocks; ++block) {
          add_query_gradients<2>(p, block, spans[block], num_spans[block], d);
        }
        for (int s = 0; s < walk.count; ++s) {
          add_key_gradients<2>(p, walk.slots[s], s, blocks, d, p.dv, weights, p.dout);
          add_key_gradients<2>(p, walk.slots[s], s, blocks, d, p.dk, gradients, p.q);
        }
      } else {
        for (int block = 0; block < blocks; ++block) {
          add_query_gradients<1>(p, block, spans[block], num_spans[block], d);
        }
        for (int s = 0; s < walk.count; ++s) {
          add_key_gradients<1>(p, walk.slots[s], s, blocks, d, p.dv, weights, p.dout);
          add_key_gradients<1>(p, walk.slots[s], s, blocks, d, p.dk, gradients, p.q);
        }
      }
    }
  }
}

// --- rows in and out
// ------------------------------------------------------------------------------------

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

namespace vilg::cpu {
VILG_SIMD_ENTRY(AttentionSimd, attention) {
  static const AttentionSimd table = {kWidth,        gather,   scatter, transpose_rows,
                                      split_columns, dot_rows, forward, backward};
  return &table;
}
}  // namespace vilg::cpu
