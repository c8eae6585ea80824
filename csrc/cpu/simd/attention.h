// Arithmetic of sparse attention for one tile of queries of one head. Keys and queries come as
// float32 copies in the plan's order (csrc/cpu/attention_plan.h), in which the keys that a tile
// sees are a few runs of groups; a group is as many keys as a vector has lanes.
#pragma once

#include <stdint.h>

#include "cpu/simd/variant.h"

namespace vilg::cpu {

constexpr int kQueryTile = 32;  // queries that share one pass over their keys
constexpr int kQueryBlock = 8;  // of a tile; a block skips the groups that none of its queries see
constexpr int kQueryBlocks = kQueryTile / kQueryBlock;
constexpr int kTokenAlign = 16;  // packed rows and lengths are multiples of this for every width

enum AttentionState : uint8_t { kSeesNone, kSeesSome, kSeesAll };

// Groups [group, group + count), seen in the same way by every block of the tile.
struct AttentionRun {
  int32_t group, count;
  int32_t mask;  // where kSeesSome occurs: masks[(mask + i) * kQueryTile + query] has bit k set if
                 // the query sees key k of group `group + i`
  uint8_t state[kQueryBlocks];
};

struct AttentionTile {
  const AttentionRun* runs;
  int64_t num_runs;
  const uint16_t* masks;
  int64_t num_queries;
};

// Rows are `width` floats apart, the head size rounded up to kTokenAlign and filled with zeros.
// Panels hold a group's keys transposed: (group, head_size, lanes).
struct AttentionForwardTile {
  AttentionTile tile;
  const float* q;         // (kQueryTile, width), scaled
  const float* k_panels;  // (groups, head_size, lanes)
  const float* v;         // (tokens, width)
  float* out;             // (kQueryTile, width)
  float* lse;             // (kQueryTile)
  float* scores;          // workspace, kForwardScores floats
  int64_t head_size, width;
};
constexpr int kForwardBlockKeys = 256;  // scores of a tile: 32 KB
constexpr int kForwardScores = kQueryTile * kForwardBlockKeys;

struct AttentionBackwardTile {
  AttentionTile tile;
  const float *q, *dout;             // (kQueryTile, width), q scaled
  const float *lse, *delta;          // (kQueryTile); delta = sum of dout * out
  const float *k_panels, *v_panels;  // (groups, head_size, lanes)
  const float* k;                    // (tokens, width)
  float* dq;                         // (kQueryTile, width): gradient by the unscaled q / scale
  float *dk, *dv;                    // (tokens, width), added to
  float* scores;                     // workspace, kBackwardScores floats
  int64_t head_size, width;
};
constexpr int kBackwardBlockKeys = 128;  // two matrices of 16 KB
constexpr int kBackwardScores = 2 * kQueryTile * kBackwardBlockKeys;

struct AttentionSimd {
  int lanes;
  // rows[i] = scale * source[positions[i]], zeros where the position is negative
  void (*gather)(float* rows, const void* source, bool is_bf16, int64_t token_stride,
                 const int32_t* positions, int64_t count, int64_t head_size, int64_t width,
                 float scale);
  // target[positions[i]] = scale * rows[i], nothing where the position is negative
  void (*scatter)(void* target, bool is_bf16, int64_t token_stride, const int32_t* positions,
                  int64_t count, const float* rows, int64_t head_size, int64_t width, float scale);
  // count rows, a multiple of kTokenAlign
  void (*transpose)(float* panels, const float* rows, int64_t count, int64_t head_size,
                    int64_t width);
  // result[i] = a[i] . b[i]
  void (*dot_rows)(float* result, const float* a, const float* b, int64_t count, int64_t width);
  void (*forward)(const AttentionForwardTile& args);
  void (*backward)(const AttentionBackwardTile& args);
};
VILG_DECLARE_SIMD(AttentionSimd, attention)

}  // namespace vilg::cpu
