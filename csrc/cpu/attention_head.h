// How both passes of attention get at their data: the plans of a batch, and the tokens of one head
// of one sample, gathered in the plan's order into the layouts of simd/attention.h.
#pragma once

#include <vector>

#include "cpu/attention_plan.h"
#include "kernels/attention.h"
#include "kernels/context.h"

namespace vilg::cpu {

// Floats between packed rows.
inline int64_t row_width(int64_t head_size) {
  return ceil_div(head_size, kTokenAlign) * kTokenAlign;
}

// The plans and token orders of a batch, for the instruction set that is active now.
class AttentionBatch {
 public:
  AttentionBatch(const AttentionParams& p, OpContext& ctx);

  const AttentionSimd& simd() const { return *simd_; }
  const AttentionPlan& plan(int64_t b) const { return plans_[plan_of_[b]]; }
  const int32_t* order(int64_t b) const { return orders_.data() + b * capacity_; }
  int64_t capacity() const { return capacity_; }  // the longest plan

 private:
  const AttentionSimd* simd_;
  int64_t capacity_;
  std::vector<AttentionPlan> plans_;
  std::vector<int64_t> plan_of_;
  std::vector<int32_t> orders_;
};

// What one head of one sample has of a tensor: its row of stream position n begins n * stride
// elements after `data`.
template <typename Void>
struct HeadRows {
  Void* data;
  int64_t stride;
};

// Where all tokens of a head go; null: not needed in this layout.
struct PackedTokens {
  float* panels = nullptr;
  float* columns = nullptr;
};

// One head of one sample: what a task of either pass works on.
class AttentionHead {
 public:
  // Tasks count heads within samples.
  AttentionHead(const AttentionParams& p, const AttentionBatch& batch, int64_t task);

  const AttentionPlan& plan() const { return plan_; }
  const int32_t* order() const { return order_; }
  const int32_t* positions(const AttentionPlan::Tile& tile) const {
    return order_ + tile.first_query;
  }

  // q, k, v and their gradients
  template <typename Void>
  HeadRows<Void> by_qkv(Void* tensor) const {
    return rows_of(tensor, p_.qkv_strides);
  }
  // the output and its gradient
  template <typename Void>
  HeadRows<Void> by_out(Void* tensor) const {
    return rows_of(tensor, p_.out_strides);
  }

  // rows[i] = scale * from[positions[i]], zeros where the position is negative
  void gather(float* rows, HeadRows<const void> from, const int32_t* positions, int64_t count,
              float scale = 1.0f) const {
    simd_.gather(rows, from.data, is_bf16_, from.stride, positions, count, p_.head_size, width_,
                 scale);
  }
  // to[positions[i]] = scale * rows[i], nothing where the position is negative
  void scatter(HeadRows<void> to, const int32_t* positions, int64_t count, const float* rows,
               float scale = 1.0f) const {
    simd_.scatter(to.data, is_bf16_, to.stride, positions, count, rows, p_.head_size, width_,
                  scale);
  }

  // All keys and values of the plan; `rows` is workspace for kTokenAlign of them.
  void pack_tokens(HeadRows<const void> k, PackedTokens packed_k, HeadRows<const void> v,
                   PackedTokens packed_v, float* rows) const;
  // The rows of a tile's queries, filled up with zeros to kQueryTile, as rows and as panels.
  void pack_queries(float* rows, float* panels, HeadRows<const void> from,
                    const AttentionPlan::Tile& tile, float scale = 1.0f) const;
  // Those of the tile after this one are wanted soon.
  void prefetch_next(const AttentionPlan::Tile& tile, HeadRows<const void> from) const;

  // The stream positions of PAD tokens, which are not in the plan.
  template <typename Visit>
  void for_each_pad(const Visit& visit) const {
    for (int64_t j = 0; valid_ && j < p_.sizes.text_length; ++j) {
      if (!valid_[j]) visit(static_cast<int32_t>(p_.sizes.text_start(p_.direction) + j));
    }
  }

 private:
  template <typename Void>
  HeadRows<Void> rows_of(Void* tensor, const AttentionStrides& strides) const {
    using Byte = std::conditional_t<std::is_const_v<Void>, const char, char>;
    const int64_t first = sample_ * strides.batch + head_ * strides.head;
    return {static_cast<Byte*>(tensor) + first * element_bytes_, strides.token};
  }
  void pack(const PackedTokens& to, const float* rows, int64_t first) const;
  void prefetch(HeadRows<const void> rows, const int32_t* positions, int64_t count) const;

  const AttentionParams& p_;
  const AttentionSimd& simd_;
  int64_t sample_, head_, width_, element_bytes_;
  bool is_bf16_;
  const AttentionPlan& plan_;
  const int32_t* order_;
  const uint8_t* valid_;  // null: all
};

}  // namespace vilg::cpu
