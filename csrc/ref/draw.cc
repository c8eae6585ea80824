#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/philox.h"
#include "kernels/checks.h"
#include "kernels/exp_fixed.h"
#include "ref/ref_ops.h"

namespace vilg::ref {

void draw(const DrawParams& p, OpContext& ctx) {
  validate(p);
  const int64_t V = p.vocab;
  Workspace order_space(*ctx.allocator, static_cast<size_t>(V) * sizeof(int32_t));
  Workspace mass_space(*ctx.allocator, static_cast<size_t>(V) * sizeof(uint64_t));
  int32_t* order = order_space.as<int32_t>();
  uint64_t* mass = mass_space.as<uint64_t>();
  for (int64_t r = 0; r < p.rows; ++r) {
    const float* x = p.logits + r * p.logits_stride;
    for (int64_t v = 0; v < V; ++v) {
      VILG_CHECK(x[v] < INFINITY, kInvalidArgument,
                 "draw: expected finite logits or -inf, received %g at row %lld, index %lld",
                 static_cast<double>(x[v]), static_cast<long long>(r), static_cast<long long>(v));
    }
    std::iota(order, order + V, 0);
    std::sort(order, order + V,
              [&](int32_t a, int32_t b) { return x[a] > x[b] || (x[a] == x[b] && a < b); });
    const float largest = x[order[0]];
    VILG_CHECK(largest > -INFINITY, kInvalidArgument,
               "draw: expected a logit above -inf, received none at row %lld",
               static_cast<long long>(r));
    int64_t token = order[0];
    if (p.temperature > 0) {
      for (int64_t v = 0; v < V; ++v) mass[v] = exp_fixed((x[v] - largest) / p.temperature);
      int64_t kept = p.top_k > 0 ? std::min(p.top_k, V) : V;
      uint64_t total = 0;
      for (int64_t i = 0; i < kept; ++i) total += mass[order[i]];
      if (p.top_p < 1) {
        const uint64_t target = top_p_target(total, p.top_p);
        total = 0;
        for (int64_t i = 0; i < kept; ++i) {
          total += mass[order[i]];
          if (total >= target) kept = i + 1;
        }
      }
      for (int64_t i = kept; i < V; ++i) mass[order[i]] = 0;
      const auto bits = philox(p.seed, RandomPurpose::kDraw, p.streams[r], draw_position(p));
      const uint64_t u = uint64_t{bits[0]} << 32 | bits[1];
      const uint64_t threshold = multiply_high(total, u);
      uint64_t cumulative = 0;
      for (token = 0; (cumulative += mass[token]) <= threshold;) ++token;
    }
    p.tokens[r] = static_cast<int32_t>(token);
    if (p.log_probabilities) {
      uint64_t sum = 0;
      for (int64_t v = 0; v < V; ++v) sum += exp_fixed(x[v] - largest);
      p.log_probabilities[r] = log_probability(x[token], largest, sum);
    }
  }
}

}  // namespace vilg::ref
