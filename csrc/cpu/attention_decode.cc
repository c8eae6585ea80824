#include <algorithm>

#include "cpu/cpu_ops.h"
#include "cpu/isa.h"
#include "cpu/simd/attention_decode.h"

namespace vilg::cpu {

namespace {
// Rows that share one pass over the prefix. Their scores against 1025 keys are 32 KB.
constexpr int64_t kRowsPerTask = 8;
}  // namespace

void attention_decode(const AttentionDecodeParams& params, OpContext& ctx) {
  const AttentionDecodeParams p = resolved(params);
  const AttentionDecodeSimd& simd = *VILG_SIMD(attention_decode);
  const int64_t D = p.head_size, width = ceil_div(D, 16) * 16;
  // a group's scores are written whole: up to a vector past the prefix and past the end
  const int64_t scores_stride = ceil_div(p.prefix_length + p.num_slots, 16) * 16 + 32;
  const int64_t row_blocks = ceil_div(p.rows, kRowsPerTask);
  const int64_t own_stride = p.heads * p.own_capacity * D;
  const auto at = [&](const void* data, int64_t elements) -> const void* {
    return data ? static_cast<const char*>(data) +
                      elements * static_cast<int64_t>(dtype_size(p.cache_dtype))
                : nullptr;
  };
  ctx.pool->parallel_for(p.heads * row_blocks, [&](int64_t task) {
    ctx.check_stop();
    const int64_t h = task / row_blocks, first = task % row_blocks * kRowsPerTask;
    const int64_t rows = std::min(kRowsPerTask, p.rows - first);
    Workspace workspace(*ctx.allocator,
                        static_cast<size_t>(rows * (scores_stride + width)) * sizeof(float));
    AttentionDecodeTile tile;
    tile.out = p.out + first * p.out_stride + h * D;
    tile.q = p.q + first * p.q_stride + h * D;
    tile.prefix_k = at(p.prefix_k, h * p.prefix_capacity * D);
    tile.prefix_v = at(p.prefix_v, h * p.prefix_capacity * D);
    tile.own_k = at(p.own_k, first * own_stride + h * p.own_capacity * D);
    tile.own_v = at(p.own_v, first * own_stride + h * p.own_capacity * D);
    tile.slots = p.slots;
    tile.workspace = workspace.as<float>();
    tile.out_stride = p.out_stride;
    tile.q_stride = p.q_stride;
    tile.own_stride = own_stride;
    tile.prefix_length = p.prefix_length;
    tile.num_slots = p.num_slots;
    tile.scores_stride = scores_stride;
    tile.rows = rows;
    tile.head_size = D;
    tile.scale = p.scale;
    tile.is_bf16 = p.cache_dtype == DType::kBFloat16;
    simd.decode(tile);
  });
}

}  // namespace vilg::cpu
