#include <cmath>

#include "ref/ref_ops.h"

namespace vilg::ref {

void gumbel_noise(const GumbelNoiseParams& p, OpContext&) {
  validate(p);
  for (int64_t row = 0; row < p.rows; ++row) {
    for (int64_t c = 0; c < p.n; ++c) {
      const auto bits =
          gumbel_bits(p.seed, p.draw, static_cast<uint32_t>(row), static_cast<uint32_t>(c / 4));
      const double u = gumbel_uniform(bits[static_cast<size_t>(c % 4)]);
      const int64_t i = row * p.n + c;
      p.out[i] = static_cast<float>(p.x[i] - std::log(-std::log(u)));
    }
  }
}

}  // namespace vilg::ref
