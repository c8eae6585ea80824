#include <algorithm>

#include "cpu/attention_head.h"
#include "cpu/cpu_ops.h"

namespace vilg::cpu {
namespace {

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

}  // namespace

void attention_forward(const AttentionForwardParams& p, OpContext& ctx) {
  validate(p);
  const AttentionBatch batch(p, ctx);
  const AttentionSimd& simd = batch.simd();
  const int64_t D = p.head_size, width = row_width(D), length = batch.capacity();
  const size_t workspace_floats =
      static_cast<size_t>(length * width * 2 + kTokenAlign * width + 3 * kQueryTile * width +
                          kQueryTile + kForwardScores);

  ctx.pool->parallel_for(p.batch * p.heads, [&](int64_t task) {
    ctx.check_stop();
    const AttentionHead head(p, batch, task);
    const AttentionPlan& plan = head.plan();
    const auto q = head.by_qkv(p.q), k = head.by_qkv(p.k), v = head.by_qkv(p.v);
    const auto out = head.by_out(p.out);
    float* lse = p.lse ? p.lse + task * p.sizes.stream_length() : nullptr;

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

    head.pack_tokens(k, {.panels = k_panels}, v, {.columns = v_columns}, rows);
    for (const AttentionPlan::Tile& tile : plan.tiles) {
      const int32_t* positions = head.positions(tile);
      head.pack_queries(q_tile, q_panels, q, tile, p.scale);
      head.prefetch_next(tile, q);
      simd.forward({plan.view(tile), q_panels, k_panels, v_columns, out_tile, lse_tile, scores, D,
                    width, plan.padded_length});
      head.scatter(out, positions, tile.num_queries, out_tile);
      if (!lse) continue;
      for (int64_t i = 0; i < tile.num_queries; ++i) lse[positions[i]] = lse_tile[i];
    }

    // a PAD token sees itself: its output is its value
    head.for_each_pad([&](int32_t position) {
      head.gather(out_tile, v, &position, 1);
      head.scatter(out, &position, 1, out_tile);
      if (!lse) return;
      head.gather(q_tile, q, &position, 1, p.scale);
      head.gather(rows, k, &position, 1);
      simd.dot_rows(lse + position, q_tile, rows, 1, width);
    });
  });
}

void attention_backward(const AttentionBackwardParams& p, OpContext& ctx) {
  validate(p);
  const AttentionBatch batch(p, ctx);
  const AttentionSimd& simd = batch.simd();
  const int64_t D = p.head_size, width = row_width(D), length = batch.capacity();
  const size_t workspace_floats =
      static_cast<size_t>(length * width * 5 + kTokenAlign * width + 6 * kQueryTile * width +
                          2 * kQueryTile + kBackwardScores);

  ctx.pool->parallel_for(p.batch * p.heads, [&](int64_t task) {
    ctx.check_stop();
    const AttentionHead head(p, batch, task);
    const AttentionPlan& plan = head.plan();
    const auto q = head.by_qkv(p.q), k = head.by_qkv(p.k), v = head.by_qkv(p.v);
    const auto out = head.by_out(p.out), dout = head.by_out(p.dout);
    const auto dq = head.by_qkv(p.dq), dk = head.by_qkv(p.dk), dv = head.by_qkv(p.dv);
    const float* lse = p.lse + task * p.sizes.stream_length();

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

    head.pack_tokens(k, {.panels = k_panels, .columns = k_columns}, v, {.panels = v_panels}, rows);
    std::fill(dk_sums, dk_sums + plan.padded_length * width, 0.0f);
    std::fill(dv_sums, dv_sums + plan.padded_length * width, 0.0f);
    for (const AttentionPlan::Tile& tile : plan.tiles) {
      const int32_t* positions = head.positions(tile);
      const int64_t count = tile.num_queries;
      head.pack_queries(q_tile, q_panels, q, tile, p.scale);
      head.pack_queries(dout_tile, dout_panels, dout, tile);
      head.gather(out_tile, out, positions, count);
      simd.dot_rows(delta_tile, dout_tile, out_tile, count, width);
      for (int64_t i = 0; i < count; ++i) lse_tile[i] = lse[positions[i]];
      // queries that fill up the tile: their weights are 1 at most and meet gradients of 0
      std::fill(lse_tile + count, lse_tile + kQueryTile, 0.0f);
      std::fill(delta_tile + count, delta_tile + kQueryTile, 0.0f);
      for (const auto& tensor : {q, out, dout}) head.prefetch_next(tile, tensor);
      simd.backward({plan.view(tile), q_tile, dout_tile, q_panels, dout_panels, lse_tile,
                     delta_tile, k_panels, v_panels, k_columns, dq_tile, dk_sums, dv_sums, scores,
                     D, width, plan.padded_length});
      head.scatter(dq, positions, count, dq_tile, p.scale);
    }
    head.scatter(dk, head.order(), plan.padded_length, dk_sums);
    head.scatter(dv, head.order(), plan.padded_length, dv_sums);

    // a PAD token's weight is 1 whatever its score, so only its value has a gradient
    std::fill(dq_tile, dq_tile + width, 0.0f);
    head.for_each_pad([&](int32_t position) {
      head.gather(dout_tile, dout, &position, 1);
      head.scatter(dq, &position, 1, dq_tile);
      head.scatter(dk, &position, 1, dq_tile);
      head.scatter(dv, &position, 1, dout_tile);
    });
  });
}

}  // namespace vilg::cpu
