#include <algorithm>
#include <cmath>

#include "cpu/cpu_ops.h"

namespace vilg::cpu {

// Scalar logarithms of the baseline: the same bits for every instruction set.
void gumbel_noise(const GumbelNoiseParams& p, OpContext& ctx) {
  validate(p);
  constexpr int64_t kElementsPerTask = 16384;
  const int64_t at_once = std::max<int64_t>(1, kElementsPerTask / p.n);
  ctx.pool->parallel_for(ceil_div(p.rows, at_once), [&](int64_t task) {
    ctx.check_stop();
    for (int64_t row = task * at_once; row < std::min(p.rows, (task + 1) * at_once); ++row) {
      const float* x = p.x + row * p.n;
      float* out = p.out + row * p.n;
      for (int64_t c = 0; c < p.n; c += 4) {
        const auto bits =
            gumbel_bits(p.seed, p.draw, static_cast<uint32_t>(row), static_cast<uint32_t>(c / 4));
        for (int64_t i = 0; i < std::min<int64_t>(4, p.n - c); ++i) {
          const float u = gumbel_uniform(bits[static_cast<size_t>(i)]);
          out[c + i] = x[c + i] - std::log(-std::log(u));
        }
      }
    }
  });
}

}  // namespace vilg::cpu
