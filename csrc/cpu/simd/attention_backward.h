// The backward pass of one tile of queries: weights again from the log-sum-exp, then three
// products. Part of attention.cc.
#pragma once

#include "cpu/simd/attention_walk.h"

namespace vilg::cpu {
namespace {

constexpr int kKeyRows = kRows < kWidth ? kRows : kWidth;  // rows that are keys of one group
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
    const auto add_gradients = [&]<int C>(int64_t column) __attribute__((always_inline)) {
      for (int block = 0; block < blocks; ++block) {
        add_columns<C, kBackwardBlockKeys>(p.dq, gradients, p.k_columns, p.width, p.num_tokens,
                                           block, spans[block], num_spans[block], column);
      }
      for (int s = 0; s < walk.count; ++s) {
        add_key_gradients<C>(p, walk.slots[s], s, blocks, column, p.dv, weights, p.dout);
        add_key_gradients<C>(p, walk.slots[s], s, blocks, column, p.dk, gradients, p.q);
      }
    };
    for (int64_t d = 0; d < p.width; d += 2 * kWidth) {
      if (d + 2 * kWidth <= p.width) {
        add_gradients.operator()<2>(d);
      } else {
        add_gradients.operator()<1>(d);
      }
    }
  }
}

}  // namespace
}  // namespace vilg::cpu
