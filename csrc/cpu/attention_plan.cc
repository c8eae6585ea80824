#include "cpu/attention_plan.h"

#include <algorithm>
#include <cstring>

#include "core/thread_pool.h"
#include "kernels/attention_pattern.h"

namespace vilg::cpu {
namespace {

int64_t align(int64_t n) { return ceil_div(n, kTokenAlign) * kTokenAlign; }

// Bits of the keys that each query of one tile sees, by group.
class TileMasks {
 public:
  TileMasks(int64_t num_groups, int lanes)
      : lanes_(lanes), bits_(static_cast<size_t>(num_groups) * kQueryTile) {}

  // query sees keys [begin, end) of the plan order
  void add(int64_t query, int64_t begin, int64_t end) {
    if (begin >= end) return;
    const int64_t last = (end - 1) / lanes_;
    first_group_ = std::min(first_group_, begin / lanes_);
    last_group_ = std::max(last_group_, last);
    for (int64_t group = begin / lanes_; group <= last; ++group) {
      const int64_t low = std::max<int64_t>(begin - group * lanes_, 0);
      const int64_t high = std::min<int64_t>(end - group * lanes_, lanes_);
      row(group)[query] |= static_cast<uint16_t>(((1u << (high - low)) - 1u) << low);
    }
  }

  // Appends the runs of a tile of num_queries and forgets them.
  void flush(int64_t num_queries, AttentionPlan& plan) {
    const unsigned all = (1u << lanes_) - 1u;
    const size_t first_run = plan.runs.size();
    for (int64_t group = first_group_; group <= last_group_; ++group) {
      uint8_t state[kQueryBlocks];
      bool any = false, some = false;
      for (int block = 0; block < kQueryBlocks; ++block) {
        const int64_t begin = block * kQueryBlock;
        const int64_t end = std::min<int64_t>(begin + kQueryBlock, num_queries);
        unsigned either = 0, both = begin < end ? all : 0;
        for (int64_t i = begin; i < end; ++i) {
          either |= row(group)[i];
          both &= row(group)[i];
        }
        state[block] = both == all ? kSeesAll : either ? kSeesSome : kSeesNone;
        any |= state[block] != kSeesNone;
        some |= state[block] == kSeesSome;
      }
      if (any) append(group, state, some, first_run, plan);
      std::memset(row(group), 0, kQueryTile * sizeof(uint16_t));
    }
    first_group_ = INT64_MAX;
    last_group_ = -1;
  }

 private:
  uint16_t* row(int64_t group) { return bits_.data() + group * kQueryTile; }

  void append(int64_t group, const uint8_t (&state)[kQueryBlocks], bool some, size_t first_run,
              AttentionPlan& plan) {
    int32_t mask = -1;
    if (some) {
      mask = static_cast<int32_t>(plan.masks.size() / kQueryTile);
      plan.masks.insert(plan.masks.end(), row(group), row(group) + kQueryTile);
    }
    if (plan.runs.size() > first_run) {
      AttentionRun& last = plan.runs.back();
      const bool same_masks =
          some ? last.mask >= 0 && last.mask + last.count == mask : last.mask < 0;
      if (last.group + last.count == group && same_masks &&
          std::memcmp(last.state, state, sizeof(state)) == 0) {
        ++last.count;
        return;
      }
    }
    AttentionRun run{static_cast<int32_t>(group), 1, mask, {}};
    std::memcpy(run.state, state, sizeof(state));
    plan.runs.push_back(run);
  }

  int lanes_;
  std::vector<uint16_t> bits_;
  int64_t first_group_ = INT64_MAX, last_group_ = -1;
};

}  // namespace

AttentionPlan make_attention_plan(Pattern pattern, Direction direction, const StreamSizes& sizes,
                                  int64_t num_text, int lanes) {
  StreamSizes compact = sizes;
  compact.text_length = num_text;
  AttentionPlan plan;
  plan.num_text = num_text;
  plan.image_start = align(num_text + 1);
  plan.padded_length = plan.image_start + align(sizes.image_length());
  TileMasks masks(plan.padded_length / lanes, lanes);

  const auto add_tile = [&](int64_t first, int64_t count) {
    for (int64_t i = 0; i < count; ++i) {
      const int64_t place = first + i;
      StreamToken query{Segment::kText, place};
      if (place == num_text) query = {Segment::kStart, 0};
      if (place >= plan.image_start) {
        query = {Segment::kImage, image_at_place(pattern, place - plan.image_start, sizes.grid)};
      }
      masks.add(i, 0, visible_text(direction, query, compact));
      if (sees_start(direction, query)) masks.add(i, num_text, num_text + 1);
      const int64_t runs = num_image_runs(pattern, direction, query, compact);
      for (int64_t r = 0; r < runs; ++r) {
        const ImageRun run = image_run(pattern, direction, query, r, compact);
        // a column's keys are neighbours in the column order
        const int64_t begin = plan.image_start + image_at_place(pattern, run.first, sizes.grid);
        masks.add(i, begin, begin + run.count);
      }
    }
    const int64_t first_run = static_cast<int64_t>(plan.runs.size());
    masks.flush(count, plan);
    plan.tiles.push_back(
        {first, count, first_run, static_cast<int64_t>(plan.runs.size()) - first_run});
  };
  const int64_t end = plan.image_start + sizes.image_length();
  for (int64_t i = 0; i <= num_text; i += kQueryTile) {
    add_tile(i, std::min<int64_t>(kQueryTile, num_text + 1 - i));
  }
  for (int64_t i = plan.image_start; i < end; i += kQueryTile) {
    add_tile(i, std::min<int64_t>(kQueryTile, end - i));
  }
  return plan;
}

void attention_order(const AttentionPlan& plan, Pattern pattern, Direction direction,
                     const StreamSizes& sizes, const uint8_t* text_valid, int32_t* order) {
  std::fill(order, order + plan.padded_length, -1);
  int64_t place = 0;
  for (int64_t j = 0; j < sizes.text_length; ++j) {
    if (text_valid && !text_valid[j]) continue;
    order[place++] = static_cast<int32_t>(sizes.text_start(direction) + j);
  }
  const int64_t image_start = sizes.image_start(direction);
  order[place] = static_cast<int32_t>(image_start);
  for (int64_t i = 0; i < sizes.image_length(); ++i) {
    order[plan.image_start + i] =
        static_cast<int32_t>(image_start + 1 + image_at_place(pattern, i, sizes.grid));
  }
}

}  // namespace vilg::cpu
