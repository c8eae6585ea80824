#include <algorithm>
#include <cmath>
#include <vector>

#include "ref/ref_ops.h"

namespace vilg::ref {
namespace {

// to = (or +=) value
void put(float& to, bool accumulate, double value) {
  to = static_cast<float>(accumulate ? to + value : value);
}

}  // namespace

void uniform_divergence(const UniformDivergenceParams& p, OpContext&) {
  validate(p);
  const int64_t V = p.vocab;
  for (int64_t row = 0; row < p.rows; ++row) {
    const float* x = p.logits + row * V;
    const double largest = *std::max_element(x, x + V);
    double sum = 0;
    for (int64_t v = 0; v < V; ++v) sum += std::exp(x[v] - largest);
    const auto probability = [&](int64_t v) { return std::exp(x[v] - largest) / sum; };
    // ln p, where p is not 0
    const auto log_probability = [&](int64_t v) { return x[v] - largest - std::log(sum); };
    double mean = 0;  // of ln p under p
    for (int64_t v = 0; v < V; ++v) {
      if (probability(v) != 0) mean += probability(v) * log_probability(v);
    }
    p.divergence[row] = static_cast<float>(mean + std::log(static_cast<double>(V)));
    for (int64_t v = 0; p.dlogits && v < V; ++v) {
      const double gradient =
          probability(v) != 0 ? probability(v) * (log_probability(v) - mean) : 0.0;
      put(p.dlogits[row * V + v], p.accumulate, p.scale * gradient);
    }
  }
}

void logit_laplace(const LogitLaplaceParams& p, OpContext&) {
  validate(p);
  const int64_t C = p.channels;
  double sum = 0;
  for (int64_t pixel = 0; pixel < p.pixels; ++pixel) {
    for (int64_t c = 0; c < C; ++c) {
      const int64_t i = pixel * 2 * C + c;  // of mu; ln b is C further on
      const double x = p.targets[pixel * C + c], mu = p.stats[i], log_b = p.stats[i + C];
      const double d = std::log(x / (1 - x)) - mu, inverse = std::exp(-log_b);
      sum += std::log(2.0) + log_b + std::log(x * (1 - x)) + std::abs(d) * inverse;
      if (!p.dstats) continue;
      put(p.dstats[i], p.accumulate, p.scale * ((d < 0) - (d > 0)) * inverse);
      put(p.dstats[i + C], p.accumulate, p.scale * (1 - std::abs(d) * inverse));
    }
  }
  if (p.sum) *p.sum = sum;
}

void feature_distance(const FeatureDistanceParams& p, OpContext&) {
  validate(p);
  const int64_t C = p.channels;
  double sum = 0;
  for (int64_t row = 0; row < p.rows; ++row) {
    const float *x = p.x + row * C, *y = p.y + row * C;
    const auto length = [C](const float* a) {
      double squares = 0;
      for (int64_t c = 0; c < C; ++c) squares += static_cast<double>(a[c]) * a[c];
      return std::sqrt(squares);
    };
    const double x_length = length(x), y_length = length(y);
    const auto difference = [&](int64_t c) {
      return x[c] / (x_length + kFeatureEpsilon) - y[c] / (y_length + kFeatureEpsilon);
    };
    double along = 0;  // the gradient by u, in the direction of x
    for (int64_t c = 0; c < C; ++c) {
      sum += p.weights[c] * difference(c) * difference(c);
      along += 2 * p.weights[c] * difference(c) * x[c];
    }
    for (int64_t c = 0; p.dx && c < C; ++c) {
      // d u_k / d x_c = [k = c] / (|x| + epsilon) - x_k x_c / (|x| (|x| + epsilon)^2)
      const double whole = x_length + kFeatureEpsilon;
      const double gradient = x_length > 0 ? 2 * p.weights[c] * difference(c) / whole -
                                                 along * x[c] / (x_length * whole * whole)
                                           : 0.0;
      put(p.dx[row * C + c], p.accumulate, p.scale * gradient);
    }
  }
  if (p.sum) *p.sum = sum;
}

}  // namespace vilg::ref
