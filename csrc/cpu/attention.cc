#include <algorithm>
#include <cmath>

#include "cpu/attention_plan.h"
#include "cpu/cpu_ops.h"
#include "cpu/isa.h"
#include "cpu/simd/attention.h"

namespace vilg::cpu {
namespace {

// The plans and token orders of a batch.
class Batch {
 public:
  template <typename Params>
  Batch(const Params& p, OpContext& ctx, int lanes)
      : text_length_(p.sizes.text_length), text_valid_(p.text_valid) {
    std::vector<int64_t> num_text(p.batch, text_length_);
    if (p.text_valid) {
      for (int64_t b = 0; b < p.batch; ++b) {
        const uint8_t* valid = p.text_valid + b * text_length_;
        num_text[b] = std::count_if(valid, valid + text_length_, [](uint8_t v) { return v != 0; });
      }
    }
    std::vector<int64_t> distinct = num_text;
    std::sort(distinct.begin(), distinct.end());
    distinct.erase(std::unique(distinct.begin(), distinct.end()), distinct.end());
    plans_.resize(distinct.size());
    ctx.pool->parallel_for(static_cast<int64_t>(distinct.size()), [&](int64_t i) {
      plans_[i] = make_attention_plan(p.pattern, p.direction, p.sizes, distinct[i], lanes);
    });
    plan_of_.resize(p.batch);
    for (int64_t b = 0; b < p.batch; ++b) {
      plan_of_[b] =
          std::lower_bound(distinct.begin(), distinct.end(), num_text[b]) - distinct.begin();
    }
    capacity_ = plans_.back().padded_length;  // the most valid text is the longest
    orders_.resize(p.batch * capacity_);
    for (int64_t b = 0; b < p.batch; ++b) {
      attention_order(plan(b), p.pattern, p.direction, p.sizes, valid(b), order(b));
    }
  }

  const AttentionPlan& plan(int64_t b) const { return plans_[plan_of_[b]]; }
  int32_t* order(int64_t b) { return orders_.data() + b * capacity_; }
  const uint8_t* valid(int64_t b) const {
    return text_valid_ ? text_valid_ + b * text_length_ : nullptr;
  }
  int64_t capacity() const { return capacity_; }  // the longest plan

 private:
  int64_t text_length_, capacity_;
  const uint8_t* text_valid_;
  std::vector<AttentionPlan> plans_;
  std::vector<int64_t> plan_of_;
  std::vector<int32_t> orders_;
};

// Parts of one block of workspace.
class Floats {
 public:
  explicit Floats(float* data) : next_(data) {}
  float* take(int64_t count) {
    float* part = next_;
    next_ += (count + 15) / 16 * 16;  // vectors must not straddle cache lines
    return part;
  }

 private:
  float* next_;
};

template <typename T>
T* at(T* data, DType dtype, int64_t elements) {
  using Byte = std::conditional_t<std::is_const_v<T>, const char, char>;
  return static_cast<Byte*>(data) + elements * static_cast<int64_t>(dtype_size(dtype));
}

int64_t head_offset(const AttentionStrides& s, int64_t b, int64_t h) {
  return b * s.batch + h * s.head;
}

// A head's rows are short and lie a page or more apart, where the hardware does not look ahead:
// without this a quarter of the time of a row layer went into waiting for them. To the second
// cache, for what is computed on meanwhile is in the first.
template <typename... Sources>
void prefetch(const int32_t* positions, int64_t count, int64_t stride_bytes, int64_t row_bytes,
              Sources... sources) {
  for (int64_t i = 0; i < count; ++i) {
    if (positions[i] < 0) continue;
    const int64_t offset = positions[i] * stride_bytes;
    for (int64_t byte = 0; byte < row_bytes; byte += 64) {
      (__builtin_prefetch(static_cast<const char*>(sources) + offset + byte, 0, 2), ...);
    }
  }
}

int64_t row_width(int64_t head_size) { return ceil_div(head_size, kTokenAlign) * kTokenAlign; }

}  // namespace

void attention_forward(const AttentionForwardParams& p, OpContext& ctx) {
  validate(p);
  const AttentionSimd& simd = *VILG_SIMD(attention);
  Batch batch(p, ctx, simd.lanes);
  const int64_t D = p.head_size, width = row_width(D), N = p.sizes.stream_length();
  const bool is_bf16 = p.dtype == DType::kBFloat16;
  const int64_t in_stride = p.qkv_strides.token, out_stride = p.out_strides.token;
  const int64_t element = static_cast<int64_t>(dtype_size(p.dtype)), row_bytes = D * element;
  const int64_t length = batch.capacity();
  const size_t workspace_floats =
      static_cast<size_t>(length * width * 2 + kTokenAlign * width + 3 * kQueryTile * width +
                          kQueryTile + kForwardScores);

  ctx.pool->parallel_for(p.batch * p.heads, [&](int64_t task) {
    ctx.check_stop();
    const int64_t b = task / p.heads, h = task % p.heads;
    const AttentionPlan& plan = batch.plan(b);
    const int32_t* order = batch.order(b);
    const int64_t in_offset = head_offset(p.qkv_strides, b, h);
    const int64_t out_offset = head_offset(p.out_strides, b, h);
    const void *q = at(p.q, p.dtype, in_offset), *k = at(p.k, p.dtype, in_offset);
    const void* v = at(p.v, p.dtype, in_offset);
    void* out = at(p.out, p.dtype, out_offset);
    float* lse = p.lse ? p.lse + task * N : nullptr;

    Workspace workspace(*ctx.allocator, workspace_floats * sizeof(float));
    Floats floats(workspace.as<float>());
    float* k_panels = floats.take(length * width);
    float* v_columns = floats.take(length * width);
    float* rows = floats.take(kTokenAlign * width);
    float* q_tile = floats.take(kQueryTile * width);
    float* q_panels = floats.take(kQueryTile * width);
    float* out_tile = floats.take(kQueryTile * width);
    float* lse_tile = floats.take(kQueryTile);
    float* scores = floats.take(kForwardScores);

    prefetch(order, kTokenAlign, in_stride * element, row_bytes, k, v);
    for (int64_t i = 0; i < plan.padded_length; i += kTokenAlign) {
      const int64_t ahead = std::min<int64_t>(kTokenAlign, plan.padded_length - i - kTokenAlign);
      prefetch(order + i + kTokenAlign, ahead, in_stride * element, row_bytes, k, v);
      simd.gather(rows, k, is_bf16, in_stride, order + i, kTokenAlign, D, width, 1.0f);
      simd.transpose(k_panels + i * D, rows, simd.lanes, kTokenAlign, D, width);
      simd.gather(rows, v, is_bf16, in_stride, order + i, kTokenAlign, D, width, 1.0f);
      simd.split_columns(v_columns, rows, i, kTokenAlign, plan.padded_length, width);
    }
    for (const AttentionPlan::Tile& tile : plan.tiles) {
      const int32_t* positions = order + tile.first_query;
      simd.gather(q_tile, q, is_bf16, in_stride, positions, tile.num_queries, D, width, p.scale);
      std::fill(q_tile + tile.num_queries * width, q_tile + kQueryTile * width, 0.0f);
      simd.transpose(q_panels, q_tile, kQueryInterleave, kQueryTile, D, width);
      const int64_t ahead =
          std::min(plan.padded_length - tile.first_query - tile.num_queries, tile.num_queries);
      prefetch(positions + tile.num_queries, ahead, in_stride * element, row_bytes, q);
      simd.forward({plan.view(tile), q_panels, k_panels, v_columns, out_tile, lse_tile, scores, D,
                    width, plan.padded_length});
      simd.scatter(out, is_bf16, out_stride, positions, tile.num_queries, out_tile, D, width, 1.0f);
      if (!lse) continue;
      for (int64_t i = 0; i < tile.num_queries; ++i) lse[positions[i]] = lse_tile[i];
    }

    // a PAD token sees itself: its output is its value
    const uint8_t* valid = batch.valid(b);
    for (int64_t j = 0; valid && j < p.sizes.text_length; ++j) {
      if (valid[j]) continue;
      const int32_t position = static_cast<int32_t>(p.sizes.text_start(p.direction) + j);
      simd.gather(out_tile, v, is_bf16, in_stride, &position, 1, D, width, 1.0f);
      simd.scatter(out, is_bf16, out_stride, &position, 1, out_tile, D, width, 1.0f);
      if (!lse) continue;
      simd.gather(q_tile, q, is_bf16, in_stride, &position, 1, D, width, p.scale);
      simd.gather(rows, k, is_bf16, in_stride, &position, 1, D, width, 1.0f);
      simd.dot_rows(lse + position, q_tile, rows, 1, width);
    }
  });
}

void attention_backward(const AttentionBackwardParams& p, OpContext& ctx) {
  validate(p);
  const AttentionSimd& simd = *VILG_SIMD(attention);
  Batch batch(p, ctx, simd.lanes);
  const int64_t D = p.head_size, width = row_width(D), N = p.sizes.stream_length();
  const bool is_bf16 = p.dtype == DType::kBFloat16;
  const int64_t in_stride = p.qkv_strides.token, out_stride = p.out_strides.token;
  const int64_t element = static_cast<int64_t>(dtype_size(p.dtype)), row_bytes = D * element;
  const int64_t length = batch.capacity();
  const size_t workspace_floats =
      static_cast<size_t>(length * width * 5 + kTokenAlign * width + 6 * kQueryTile * width +
                          2 * kQueryTile + kBackwardScores);

  ctx.pool->parallel_for(p.batch * p.heads, [&](int64_t task) {
    ctx.check_stop();
    const int64_t b = task / p.heads, h = task % p.heads;
    const AttentionPlan& plan = batch.plan(b);
    const int32_t* order = batch.order(b);
    const int64_t in_offset = head_offset(p.qkv_strides, b, h);
    const int64_t out_offset = head_offset(p.out_strides, b, h);
    const void *q = at(p.q, p.dtype, in_offset), *k = at(p.k, p.dtype, in_offset);
    const void* v = at(p.v, p.dtype, in_offset);
    const void *out = at(p.out, p.dtype, out_offset), *dout = at(p.dout, p.dtype, out_offset);
    void *dq = at(p.dq, p.dtype, in_offset), *dk = at(p.dk, p.dtype, in_offset);
    void* dv = at(p.dv, p.dtype, in_offset);
    const float* lse = p.lse + task * N;

    Workspace workspace(*ctx.allocator, workspace_floats * sizeof(float));
    Floats floats(workspace.as<float>());
    float* k_panels = floats.take(length * width);
    float* v_panels = floats.take(length * width);
    float* k_columns = floats.take(length * width);
    float* dk_sums = floats.take(length * width);
    float* dv_sums = floats.take(length * width);
    float* rows = floats.take(kTokenAlign * width);
    float* q_tile = floats.take(kQueryTile * width);
    float* out_tile = floats.take(kQueryTile * width);
    float* dout_tile = floats.take(kQueryTile * width);
    float* q_panels = floats.take(kQueryTile * width);
    float* dout_panels = floats.take(kQueryTile * width);
    float* dq_tile = floats.take(kQueryTile * width);
    float* lse_tile = floats.take(kQueryTile);
    float* delta_tile = floats.take(kQueryTile);
    float* scores = floats.take(kBackwardScores);

    prefetch(order, kTokenAlign, in_stride * element, row_bytes, k, v);
    for (int64_t i = 0; i < plan.padded_length; i += kTokenAlign) {
      const int64_t ahead = std::min<int64_t>(kTokenAlign, plan.padded_length - i - kTokenAlign);
      prefetch(order + i + kTokenAlign, ahead, in_stride * element, row_bytes, k, v);
      simd.gather(rows, k, is_bf16, in_stride, order + i, kTokenAlign, D, width, 1.0f);
      simd.transpose(k_panels + i * D, rows, simd.lanes, kTokenAlign, D, width);
      simd.split_columns(k_columns, rows, i, kTokenAlign, plan.padded_length, width);
      simd.gather(rows, v, is_bf16, in_stride, order + i, kTokenAlign, D, width, 1.0f);
      simd.transpose(v_panels + i * D, rows, simd.lanes, kTokenAlign, D, width);
    }
    std::fill(dk_sums, dk_sums + plan.padded_length * width, 0.0f);
    std::fill(dv_sums, dv_sums + plan.padded_length * width, 0.0f);
    for (const AttentionPlan::Tile& tile : plan.tiles) {
      const int32_t* positions = order + tile.first_query;
      const int64_t count = tile.num_queries;
      simd.gather(q_tile, q, is_bf16, in_stride, positions, count, D, width, p.scale);
      simd.gather(dout_tile, dout, is_bf16, out_stride, positions, count, D, width, 1.0f);
      simd.gather(out_tile, out, is_bf16, out_stride, positions, count, D, width, 1.0f);
      simd.dot_rows(delta_tile, dout_tile, out_tile, count, width);
      for (int64_t i = 0; i < count; ++i) lse_tile[i] = lse[positions[i]];
      // queries that fill up the tile: their weights are 1 at most and meet gradients of 0
      std::fill(q_tile + count * width, q_tile + kQueryTile * width, 0.0f);
      std::fill(dout_tile + count * width, dout_tile + kQueryTile * width, 0.0f);
      std::fill(lse_tile + count, lse_tile + kQueryTile, 0.0f);
      std::fill(delta_tile + count, delta_tile + kQueryTile, 0.0f);
      simd.transpose(q_panels, q_tile, kQueryInterleave, kQueryTile, D, width);
      simd.transpose(dout_panels, dout_tile, kQueryInterleave, kQueryTile, D, width);
      const int64_t ahead = std::min(plan.padded_length - tile.first_query - count, count);
      prefetch(positions + count, ahead, in_stride * element, row_bytes, q);
      prefetch(positions + count, ahead, out_stride * element, row_bytes, out, dout);
      simd.backward({plan.view(tile), q_tile, dout_tile, q_panels, dout_panels, lse_tile,
                     delta_tile, k_panels, v_panels, k_columns, dq_tile, dk_sums, dv_sums, scores,
                     D, width, plan.padded_length});
      simd.scatter(dq, is_bf16, in_stride, positions, count, dq_tile, D, width, p.scale);
    }
    simd.scatter(dk, is_bf16, in_stride, order, plan.padded_length, dk_sums, D, width, 1.0f);
    simd.scatter(dv, is_bf16, in_stride, order, plan.padded_length, dv_sums, D, width, 1.0f);

    // a PAD token's weight is 1 whatever its score, so only its value has a gradient
    const uint8_t* valid = batch.valid(b);
    for (int64_t j = 0; valid && j < p.sizes.text_length; ++j) {
      if (valid[j]) continue;
      const int32_t position = static_cast<int32_t>(p.sizes.text_start(p.direction) + j);
      simd.gather(dout_tile, dout, is_bf16, out_stride, &position, 1, D, width, 1.0f);
      std::fill(dq_tile, dq_tile + width, 0.0f);
      simd.scatter(dq, is_bf16, in_stride, &position, 1, dq_tile, D, width, 1.0f);
      simd.scatter(dk, is_bf16, in_stride, &position, 1, dq_tile, D, width, 1.0f);
      simd.scatter(dv, is_bf16, in_stride, &position, 1, dout_tile, D, width, 1.0f);
    }
  });
}

}  // namespace vilg::cpu
