// The forward pass of one tile of queries: online softmax over blocks of keys. Part of
// attention.cc.
#pragma once

#include <math.h>

#include "cpu/simd/attention_walk.h"

namespace vilg::cpu {
namespace {

constexpr int kForwardSlots = kForwardBlockKeys / kWidth;
constexpr float kNever = -1e30f;  // below every score, yet finite: its exponential is masked anyway

// scores[block] = q . k for C groups of keys
template <int C>
VILG_INLINE void score_groups(const AttentionForwardTile& p, int block, int slot,
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
    // Written out in both passes: in a function for both GCC 12 reaches one panel by way of the
    // other, which is two more instructions in the inner loop.
    for (int s = 0; s < walk.count; s += 2) {
      const bool pair = s + 1 < walk.count;
      const float* first = p.k_panels + walk.slots[s].group * panel;
      const float* second = pair ? p.k_panels + walk.slots[s + 1].group * panel : nullptr;
      for (int block = 0; block < blocks; ++block) {
        const bool sees_first = walk.slots[s].state[block] != kSeesNone;
        const bool sees_second = pair && walk.slots[s + 1].state[block] != kSeesNone;
        if (sees_first && sees_second) {
          score_groups<2>(p, block, s, {first, second});
        } else if (sees_first) {
          score_groups<1>(p, block, s, {first});
        } else if (sees_second) {
          score_groups<1>(p, block, s + 1, {second});
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
    const auto add_values = [&]<int C>(int64_t column) __attribute__((always_inline)) {
      for (int block = 0; block < blocks; ++block) {
        add_columns<C, kForwardBlockKeys>(p.out, p.scores, p.v_columns, p.width, p.num_tokens,
                                          block, spans[block], num_spans[block], column);
      }
    };
    int64_t d = 0;
    for (; d + 2 * kWidth <= p.width; d += 2 * kWidth) add_values.operator()<2>(d);
    if (d < p.width) add_values.operator()<1>(d);
  }
  for (int i = 0; i < p.tile.num_queries; ++i) {
    const vf inverse = splat(1.0f / sums[i]);
    float* out = p.out + (int64_t)i * p.width;
    for (int64_t d = 0; d < p.width; d += kWidth) store(out + d, load(out + d) * inverse);
    p.lse[i] = maxima[i] + logf(sums[i]);
  }
}

}  // namespace
}  // namespace vilg::cpu
