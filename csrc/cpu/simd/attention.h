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

constexpr int kQueryInterleave = 16;

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

// Three layouts of a head's tokens:
//   rows     `width` floats apart, the head size rounded up to kTokenAlign and filled with zeros;
//   panels   n tokens interleaved, (tokens / n, head_size, n): n = lanes for keys, so that a vector
//            holds one element of a group of keys, and kQueryInterleave for queries, whose elements
//            are then broadcast from neighbouring addresses;
//   columns  two vectors of each row after another for all tokens, then the next two: the part of
//            all rows that one register tile reads is contiguous and stays in the first cache.
struct AttentionForwardTile {
  AttentionTile tile;
  const float* q_panels;  // kQueryTile queries, scaled
  const float* k_panels;
  const float* v_columns;
  float* out;     // (kQueryTile, width), rows
  float* lse;     // (kQueryTile)
  float* scores;  // workspace, kForwardScores floats
  int64_t head_size, width, num_tokens;
};
constexpr int kForwardBlockKeys = 256;  // scores of a tile: 32 KB
constexpr int kForwardScores = kQueryTile * kForwardBlockKeys;

struct AttentionBackwardTile {
  AttentionTile tile;
  const float *q, *dout;                // (kQueryTile, width), rows; q scaled
  const float *q_panels, *dout_panels;  // the same
  const float *lse, *delta;             // (kQueryTile); delta = sum of dout * out
  const float *k_panels, *v_panels;
  const float* k_columns;
  float* dq;       // (kQueryTile, width), rows: gradient by the unscaled q / scale
  float *dk, *dv;  // (tokens, width), rows, added to
  float* scores;   // workspace, kBackwardScores floats
  int64_t head_size, width, num_tokens;
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
  // rows to panels of `interleave` tokens, for a count that is a multiple of kTokenAlign
  void (*transpose)(float* panels, const float* rows, int64_t interleave, int64_t count,
                    int64_t head_size, int64_t width);
  // rows to columns: tokens [first, first + count) of num_tokens
  void (*split_columns)(float* columns, const float* rows, int64_t first, int64_t count,
                        int64_t num_tokens, int64_t width);
  // result[i] = a[i] . b[i]
  void (*dot_rows)(float* result, const float* a, const float* b, int64_t count, int64_t width);
  void (*forward)(const AttentionForwardTile& args);
  void (*backward)(const AttentionBackwardTile& args);
};
VILG_DECLARE_SIMD(AttentionSimd, attention)

}  // namespace vilg::cpu
