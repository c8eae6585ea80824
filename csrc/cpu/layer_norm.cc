#include "cpu/simd/layer_norm.h"

#include <algorithm>
#include <cstring>

#include "cpu/cpu_ops.h"
#include "cpu/isa.h"

namespace vilg::cpu {
namespace {

constexpr int64_t kTaskElements = 16384;  // some 5 us of work, well above a task's cost
constexpr int64_t kMaxRowBlocks = 64;     // of the parameter gradients: bounds their workspace
constexpr int64_t kMinBlockRows = 16;
constexpr int64_t kReduceChannels = 256;

}  // namespace

void layer_norm_forward(const LayerNormForwardParams& p, OpContext& ctx) {
  validate(p);
  const auto forward = VILG_SIMD(layer_norm)->forward[p.dtype == DType::kBFloat16];
  const int64_t row_bytes = p.channels * static_cast<int64_t>(dtype_size(p.dtype));
  const int64_t task_rows = std::max<int64_t>(1, kTaskElements / p.channels);
  ctx.pool->parallel_for(ceil_div(p.rows, task_rows), [&](int64_t task) {
    ctx.check_stop();
    const int64_t end = std::min(p.rows, (task + 1) * task_rows);
    for (int64_t r = task * task_rows; r < end; ++r) {
      forward(static_cast<char*>(p.out) + r * row_bytes, p.mean ? p.mean + r : nullptr,
              p.rstd ? p.rstd + r : nullptr, static_cast<const char*>(p.x) + r * row_bytes, p.gamma,
              p.beta, p.channels, p.epsilon);
    }
  });
}

void layer_norm_backward(const LayerNormBackwardParams& p, OpContext& ctx) {
  validate(p);
  const LayerNormSimd* simd = VILG_SIMD(layer_norm);
  const auto backward = simd->backward[p.dtype == DType::kBFloat16];
  const int64_t C = p.channels;
  const int64_t row_bytes = C * static_cast<int64_t>(dtype_size(p.dtype));
  // each block of rows sums its parameter gradients, then the blocks are added in order
  const int64_t block_rows = std::max(kMinBlockRows, ceil_div(p.rows, kMaxRowBlocks));
  const int64_t num_blocks = ceil_div(p.rows, block_rows);
  const size_t partial_bytes = static_cast<size_t>(2 * C) * sizeof(float);
  Workspace workspace(*ctx.allocator, static_cast<size_t>(num_blocks) * partial_bytes);
  float* partials = workspace.as<float>();  // (num_blocks, 2, C)
  ctx.pool->parallel_for(num_blocks, [&](int64_t block) {
    ctx.check_stop();
    float* dgamma = partials + block * 2 * C;
    std::memset(dgamma, 0, partial_bytes);
    const int64_t end = std::min(p.rows, (block + 1) * block_rows);
    for (int64_t r = block * block_rows; r < end; ++r) {
      backward(static_cast<char*>(p.dx) + r * row_bytes, dgamma, dgamma + C,
               static_cast<const char*>(p.dout) + r * row_bytes,
               static_cast<const char*>(p.x) + r * row_bytes, p.gamma, p.mean[r], p.rstd[r], C,
               p.accumulate);
    }
  });
  const int64_t chunks = ceil_div(C, kReduceChannels);
  ctx.pool->parallel_for(2 * chunks, [&](int64_t task) {
    float* out = task < chunks ? p.dgamma : p.dbeta;
    const float* from = partials + (task < chunks ? 0 : C);
    const int64_t begin = task % chunks * kReduceChannels;
    simd->add_partials(out + begin, from + begin, num_blocks, 2 * C,
                       std::min(kReduceChannels, C - begin));
  });
}

}  // namespace vilg::cpu
