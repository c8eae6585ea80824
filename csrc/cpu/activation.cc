#include <algorithm>

#include "cpu/cpu_ops.h"

// Bound by memory: what the compiler makes of the baseline is enough here.
namespace vilg::cpu {
namespace {

constexpr int64_t kBlock = 32768;

template <typename Body>
void for_each_block(int64_t num_elements, OpContext& ctx, const Body& body) {
  ctx.pool->parallel_for(ceil_div(num_elements, kBlock), [&](int64_t block) {
    body(block * kBlock, std::min(num_elements, (block + 1) * kBlock));
  });
}

}  // namespace

void leaky_relu_forward(const LeakyReluForwardParams& p, OpContext& ctx) {
  validate(p);
  for_each_block(p.num_elements, ctx, [&](int64_t begin, int64_t end) {
    const float slope = p.slope;
    for (int64_t i = begin; i < end; ++i) {
      const float x = p.x[i];
      p.out[i] = x > 0 ? x : slope * x;
    }
  });
}

void leaky_relu_backward(const LeakyReluBackwardParams& p, OpContext& ctx) {
  validate(p);
  for_each_block(p.num_elements, ctx, [&](int64_t begin, int64_t end) {
    const float slope = p.slope;
    if (p.accumulate) {
      for (int64_t i = begin; i < end; ++i) p.dx[i] += p.dout[i] * (p.out[i] > 0 ? 1.0f : slope);
    } else {
      for (int64_t i = begin; i < end; ++i) p.dx[i] = p.dout[i] * (p.out[i] > 0 ? 1.0f : slope);
    }
  });
}

}  // namespace vilg::cpu
