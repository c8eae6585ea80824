#include <algorithm>
#include <cmath>

#include "cpu/cpu_ops.h"
#include "cpu/isa.h"
#include "cpu/simd/loss.h"

namespace vilg::cpu {
namespace {

// body(block) gives a block's sum; the sums are added in order. Blocks depend on the shape alone.
template <typename Body>
void sum_of_blocks(double* result, int64_t num_blocks, OpContext& ctx, const Body& body) {
  Workspace workspace(*ctx.allocator, static_cast<size_t>(num_blocks) * sizeof(double));
  double* sums = workspace.as<double>();
  ctx.pool->parallel_for(num_blocks, [&](int64_t block) {
    ctx.check_stop();
    sums[block] = body(block);
  });
  if (!result) return;
  double sum = 0;
  for (int64_t block = 0; block < num_blocks; ++block) sum += sums[block];
  *result = sum;
}

int64_t rows_per_block(int64_t row_elements) {
  constexpr int64_t kBlockElements = 16384;
  return std::max<int64_t>(1, kBlockElements / row_elements);
}

}  // namespace

void uniform_divergence(const UniformDivergenceParams& p, OpContext& ctx) {
  validate(p);
  const auto kernel = VILG_SIMD(loss)->uniform_divergence;
  const int64_t V = p.vocab, at_once = rows_per_block(V);
  ctx.pool->parallel_for(ceil_div(p.rows, at_once), [&](int64_t task) {
    ctx.check_stop();
    for (int64_t row = task * at_once; row < std::min(p.rows, (task + 1) * at_once); ++row) {
      kernel(p.divergence + row, p.dlogits ? p.dlogits + row * V : nullptr, p.logits + row * V, V,
             p.scale, p.accumulate);
    }
  });
}

// Three channels of a picture against hundreds in every convolution: what the compiler makes of the
// baseline is enough here.
void logit_laplace(const LogitLaplaceParams& p, OpContext& ctx) {
  validate(p);
  const int64_t C = p.channels, at_once = rows_per_block(2 * C);
  sum_of_blocks(p.sum, ceil_div(p.pixels, at_once), ctx, [&](int64_t block) {
    double sum = 0;
    for (int64_t pixel = block * at_once; pixel < std::min(p.pixels, (block + 1) * at_once);
         ++pixel) {
      const float *mu = p.stats + pixel * 2 * C, *log_b = mu + C, *targets = p.targets + pixel * C;
      float* dstats = p.dstats ? p.dstats + pixel * 2 * C : nullptr;
      for (int64_t c = 0; c < C; ++c) {
        const float x = targets[c], d = std::log(x / (1 - x)) - mu[c];
        const float inverse = std::exp(-log_b[c]), distance = std::abs(d) * inverse;
        sum += static_cast<double>(log_b[c] + std::log(2 * x * (1 - x)) + distance);
        if (!dstats) continue;
        const float dmu = p.scale * (d > 0 ? -inverse : d < 0 ? inverse : 0.0f);
        const float dlog_b = p.scale * (1 - distance);
        dstats[c] = p.accumulate ? dstats[c] + dmu : dmu;
        dstats[c + C] = p.accumulate ? dstats[c + C] + dlog_b : dlog_b;
      }
    }
    return sum;
  });
}

void feature_distance(const FeatureDistanceParams& p, OpContext& ctx) {
  validate(p);
  const auto kernel = VILG_SIMD(loss)->feature_distance;
  const int64_t C = p.channels, at_once = rows_per_block(C);
  sum_of_blocks(p.sum, ceil_div(p.rows, at_once), ctx, [&](int64_t block) {
    double sum = 0;
    for (int64_t row = block * at_once; row < std::min(p.rows, (block + 1) * at_once); ++row) {
      sum += kernel(p.dx ? p.dx + row * C : nullptr, p.x + row * C, p.y + row * C, p.weights, C,
                    kFeatureEpsilon, p.scale, p.accumulate);
    }
    return sum;
  });
}

}  // namespace vilg::cpu
