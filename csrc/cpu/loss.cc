#include "cpu/simd/loss.h"

#include <algorithm>
#include <cstring>

#include "cpu/cpu_ops.h"
#include "cpu/isa.h"
#include "kernels/checks.h"

namespace vilg::cpu {
namespace {

constexpr int64_t kTaskElements = 16384;

}  // namespace

void cross_entropy(const CrossEntropyParams& p, OpContext& ctx) {
  validate(p);
  const int64_t V = p.vocab;
  for (int64_t r = 0; r < p.rows; ++r) {
    VILG_CHECK(p.targets[r] < V, kInvalidArgument,
               "cross_entropy: expected targets below vocab = %lld, received %d at row %lld",
               static_cast<long long>(V), p.targets[r], static_cast<long long>(r));
  }
  const auto kernel = VILG_SIMD(loss)->cross_entropy;
  const int64_t task_rows = std::max<int64_t>(1, kTaskElements / V);
  ctx.pool->parallel_for(ceil_div(p.rows, task_rows), [&](int64_t task) {
    ctx.check_stop();
    for (int64_t r = task * task_rows; r < std::min(p.rows, (task + 1) * task_rows); ++r) {
      float* dlogits = p.dlogits ? p.dlogits + r * V : nullptr;
      if (p.targets[r] >= 0) {
        kernel(p.loss + r, dlogits, p.logits + r * V, V, p.targets[r], p.row_scale,
               p.label_smoothing, p.z_loss);
      } else {
        p.loss[r] = 0;
        if (dlogits) std::memset(dlogits, 0, static_cast<size_t>(V) * sizeof(float));
      }
    }
  });
}

namespace {

// The blocks' sums of (x - y)^2, added in order. `after` runs on each block once it is summed.
template <typename After>
double sum_of_squares(const float* x, const float* y, int64_t n, OpContext& ctx, After after) {
  constexpr int64_t kBlock = 16384;
  const auto squared_sum = VILG_SIMD(loss)->squared_sum;
  const int64_t num_blocks = ceil_div(n, kBlock);
  Workspace workspace(*ctx.allocator, static_cast<size_t>(num_blocks) * sizeof(double));
  double* sums = workspace.as<double>();
  ctx.pool->parallel_for(num_blocks, [&](int64_t block) {
    const int64_t begin = block * kBlock, count = std::min(kBlock, n - begin);
    sums[block] = squared_sum(x + begin, y ? y + begin : nullptr, count);
    after(begin, count);
  });
  double sum = 0;
  for (int64_t block = 0; block < num_blocks; ++block) sum += sums[block];
  return sum;
}

}  // namespace

void squared_error(const SquaredErrorParams& p, OpContext& ctx) {
  validate(p);
  const auto difference = VILG_SIMD(loss)->difference;
  const double sum =
      sum_of_squares(p.x, p.y, p.num_elements, ctx, [&](int64_t begin, int64_t count) {
        if (p.dx) {
          difference(p.dx + begin, p.x + begin, p.y + begin, count, 2 * p.scale, p.accumulate);
        }
      });
  if (p.sum) *p.sum = sum;
}

void squared_norm(const SquaredNormParams& p, OpContext& ctx) {
  validate(p);
  *p.sum = sum_of_squares(p.x, nullptr, p.num_elements, ctx, [](int64_t, int64_t) {});
}

}  // namespace vilg::cpu
