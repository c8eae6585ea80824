// What a tile of queries has to look at, worked out once for all heads and samples with the same
// number of valid text tokens.
//
// Plan order: valid text tokens, IMG, padding to kTokenAlign, image tokens (raster order; column by
// column for the column pattern, which makes its keys one run), padding. PAD tokens are not in it.
#pragma once

#include <cstdint>
#include <vector>

#include "cpu/simd/attention.h"
#include "kernels/dims.h"

namespace vilg::cpu {

struct AttentionPlan {
  struct Tile {
    int64_t first_query, num_queries;  // plan order, contiguous
    int64_t first_run, num_runs;
  };
  int64_t num_text;       // valid text tokens; IMG follows them
  int64_t image_start;    // multiple of kTokenAlign
  int64_t padded_length;  // multiple of kTokenAlign
  std::vector<Tile> tiles;
  std::vector<AttentionRun> runs;
  std::vector<uint16_t> masks;

  AttentionTile view(const Tile& tile) const {
    return {runs.data() + tile.first_run, tile.num_runs, masks.data(), tile.num_queries};
  }
};

// `lanes`: keys a group, at most kTokenAlign. sizes.text_length is not used.
AttentionPlan make_attention_plan(Pattern pattern, Direction direction, const StreamSizes& sizes,
                                  int64_t num_text, int lanes);

// Stream positions in plan order, -1 for padding, into `order` (plan.padded_length), for a sample
// with these valid text tokens (null: all).
void attention_order(const AttentionPlan& plan, Pattern pattern, Direction direction,
                     const StreamSizes& sizes, const uint8_t* text_valid, int32_t* order);

}  // namespace vilg::cpu
