#include <algorithm>
#include <cmath>

#include "cpu/cpu_ops.h"

namespace vilg::cpu {
namespace {
constexpr int64_t kBlock = 16384;  // fixed, so that the sum does not depend on the threads
}  // namespace

// Three channels of a picture against hundreds in every convolution: what the compiler makes of the
// baseline is enough here.
void absolute_error(const AbsoluteErrorParams& p, OpContext& ctx) {
  validate(p);
  const int64_t num_blocks = ceil_div(p.num_elements, kBlock);
  Workspace workspace(*ctx.allocator, static_cast<size_t>(num_blocks) * sizeof(double));
  double* partial = workspace.as<double>();
  ctx.pool->parallel_for(num_blocks, [&](int64_t block) {
    const int64_t end = std::min(p.num_elements, (block + 1) * kBlock);
    double sum = 0;
    for (int64_t i = block * kBlock; i < end; ++i) {
      const float d = p.x[i] - p.y[i];
      sum += std::abs(d);
      if (p.dx) {
        const float gradient = d > 0 ? p.scale : d < 0 ? -p.scale : 0.0f;
        p.dx[i] = p.accumulate ? p.dx[i] + gradient : gradient;
      }
    }
    partial[block] = sum;
  });
  if (!p.sum) return;
  double sum = 0;
  for (int64_t block = 0; block < num_blocks; ++block) sum += partial[block];
  *p.sum = sum;
}

}  // namespace vilg::cpu
