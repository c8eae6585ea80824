#include "cpu/simd/optimizer.h"

#include <algorithm>
#include <cmath>

#include "cpu/cpu_ops.h"
#include "cpu/isa.h"

namespace vilg::cpu {

void adamw(const AdamWParams& p, OpContext& ctx) {
  validate(p);
  constexpr int64_t kBlock = 16384;
  const auto kernel = VILG_SIMD(optimizer)->adamw;
  const auto correction = [&](double beta) {
    return static_cast<float>(1 / (1 - std::pow(beta, static_cast<double>(p.step))));
  };
  const AdamWStep step = {p.learning_rate,
                          p.beta1,
                          p.beta2,
                          p.epsilon,
                          p.weight_decay,
                          p.grad_scale,
                          correction(p.beta1),
                          correction(p.beta2)};
  ctx.pool->parallel_for(ceil_div(p.num_elements, kBlock), [&](int64_t block) {
    const int64_t i = block * kBlock;
    kernel(p.parameter + i, p.low_precision ? p.low_precision + i : nullptr, p.m + i, p.v + i,
           p.grad + i, std::min(kBlock, p.num_elements - i), &step);
  });
}

}  // namespace vilg::cpu
