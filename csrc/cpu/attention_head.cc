#include "cpu/attention_head.h"

#include <algorithm>

#include "cpu/isa.h"

namespace vilg::cpu {
namespace {

// the valid tokens of sample b; null: all
const uint8_t* valid_text(const AttentionParams& p, int64_t b) {
  return p.text_valid ? p.text_valid + b * p.sizes.text_length : nullptr;
}

}  // namespace

AttentionBatch::AttentionBatch(const AttentionParams& p, OpContext& ctx)
    : simd_(VILG_SIMD(attention)) {
  std::vector<int64_t> num_text(p.batch, p.sizes.text_length);
  if (p.text_valid) {
    for (int64_t b = 0; b < p.batch; ++b) {
      const uint8_t* valid = valid_text(p, b);
      num_text[b] =
          std::count_if(valid, valid + p.sizes.text_length, [](uint8_t v) { return v != 0; });
    }
  }
  std::vector<int64_t> distinct = num_text;
  std::sort(distinct.begin(), distinct.end());
  distinct.erase(std::unique(distinct.begin(), distinct.end()), distinct.end());
  plans_.resize(distinct.size());
  ctx.pool->parallel_for(static_cast<int64_t>(distinct.size()), [&](int64_t i) {
    plans_[i] = make_attention_plan(p.pattern, p.direction, p.sizes, distinct[i], simd_->lanes);
  });
  plan_of_.resize(p.batch);
  for (int64_t b = 0; b < p.batch; ++b) {
    plan_of_[b] =
        std::lower_bound(distinct.begin(), distinct.end(), num_text[b]) - distinct.begin();
  }
  capacity_ = plans_.back().padded_length;  // the most valid text is the longest
  orders_.resize(p.batch * capacity_);
  for (int64_t b = 0; b < p.batch; ++b) {
    attention_order(plan(b), p.pattern, p.direction, p.sizes, valid_text(p, b),
                    orders_.data() + b * capacity_);
  }
}

AttentionHead::AttentionHead(const AttentionParams& p, const AttentionBatch& batch, int64_t task)
    : p_(p),
      simd_(batch.simd()),
      sample_(task / p.heads),
      head_(task % p.heads),
      width_(row_width(p.head_size)),
      element_bytes_(static_cast<int64_t>(dtype_size(p.dtype))),
      is_bf16_(p.dtype == DType::kBFloat16),
      plan_(batch.plan(sample_)),
      order_(batch.order(sample_)),
      valid_(valid_text(p, sample_)) {}

// A head's rows are short and lie a page or more apart, where the hardware does not look ahead:
// without this a quarter of the time of a row layer went into waiting for them. To the second
// cache, for what is computed on meanwhile is in the first.
void AttentionHead::prefetch(HeadRows<const void> rows, const int32_t* positions,
                             int64_t count) const {
  const int64_t row_bytes = p_.head_size * element_bytes_;
  for (int64_t i = 0; i < count; ++i) {
    if (positions[i] < 0) continue;
    const char* row =
        static_cast<const char*>(rows.data) + positions[i] * rows.stride * element_bytes_;
    for (int64_t byte = 0; byte < row_bytes; byte += 64) __builtin_prefetch(row + byte, 0, 2);
  }
}

void AttentionHead::pack(const PackedTokens& to, const float* rows, int64_t first) const {
  const int64_t D = p_.head_size;
  if (to.panels) {
    simd_.transpose(to.panels + first * D, rows, simd_.lanes, kTokenAlign, D, width_);
  }
  if (to.columns) {
    simd_.split_columns(to.columns, rows, first, kTokenAlign, plan_.padded_length, width_);
  }
}

void AttentionHead::pack_tokens(HeadRows<const void> k, PackedTokens packed_k,
                                HeadRows<const void> v, PackedTokens packed_v, float* rows) const {
  const auto prefetch_both = [&](int64_t first) {
    const int64_t count = std::min<int64_t>(kTokenAlign, plan_.padded_length - first);
    prefetch(k, order_ + first, count);
    prefetch(v, order_ + first, count);
  };
  prefetch_both(0);
  for (int64_t i = 0; i < plan_.padded_length; i += kTokenAlign) {
    prefetch_both(i + kTokenAlign);
    gather(rows, k, order_ + i, kTokenAlign);
    pack(packed_k, rows, i);
    gather(rows, v, order_ + i, kTokenAlign);
    pack(packed_v, rows, i);
  }
}

void AttentionHead::pack_queries(float* rows, float* panels, HeadRows<const void> from,
                                 const AttentionPlan::Tile& tile, float scale) const {
  gather(rows, from, positions(tile), tile.num_queries, scale);
  std::fill(rows + tile.num_queries * width_, rows + kQueryTile * width_, 0.0f);
  simd_.transpose(panels, rows, kQueryInterleave, kQueryTile, p_.head_size, width_);
}

void AttentionHead::prefetch_next(const AttentionPlan::Tile& tile,
                                  HeadRows<const void> from) const {
  const int64_t next = tile.first_query + tile.num_queries;
  prefetch(from, order_ + next, std::min(plan_.padded_length - next, tile.num_queries));
}

}  // namespace vilg::cpu
