// The ops of image training against the reference, for every backend: activations, pooling, Gumbel
// noise and the losses of pictures.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>

#include "tests/data.h"

namespace vilg::test {

// Exact but for the sum of an accumulated gradient, which a GPU may round once instead of twice.
inline void check_leaky_relu(const OpTable& ops, const char* on) {
  for (const int64_t n : {1, 7, 16, 33, 4099, 70001}) {
    for (const float slope : {0.0f, 0.2f}) {
      const auto count = static_cast<size_t>(n);
      std::vector<float> x = random_floats(count, 1, 2);
      x[count / 2] = 0;  // whose gradient is that of the negative side
      const std::vector<float> dout = random_floats(count, 2);
      const auto forward = [&](const OpTable& table) {
        Guarded<float> out(count);
        table.leaky_relu_forward({out.data(), x.data(), n, slope}, context());
        EXPECT(out.intact(), "%s: wrote outside", on);
        return out.values();
      };
      const std::vector<float> out = forward(ref_ops());
      EXPECT(same_bits(forward(ops), out), "%s: n %d", on, (int)n);
      for (const bool accumulate : {false, true}) {
        const auto backward = [&](const OpTable& table) {
          Guarded<float> dx(count);
          std::fill_n(dx.data(), accumulate ? count : 0, 0.75f);
          table.leaky_relu_backward({dx.data(), dout.data(), out.data(), n, slope, accumulate},
                                    context());
          EXPECT(dx.intact(), "%s: wrote outside", on);
          return dx.values();
        };
        const double error = max_abs_error(backward(ops), backward(ref_ops()));
        EXPECT(error <= (accumulate ? 0x1p-23 : 0), "%s: n %d: %g", on, (int)n, error);
      }
    }
  }
}

inline void check_max_pool(const OpTable& ops, const char* on) {
  for (const int64_t channels : {1, 3, 4, 16, 37}) {
    for (const auto& [height, width] :
         {std::pair<int64_t, int64_t>{2, 2}, {3, 2}, {2, 5}, {7, 9}, {16, 64}}) {
      const auto in = static_cast<size_t>(3 * height * width * channels);
      const auto outs = static_cast<size_t>(3 * (height / 2) * (width / 2) * channels);
      std::vector<float> x = random_floats(in, 1);
      // few values, so that many are equal, and a NaN
      for (float& value : x) value = std::round(value * 2);
      x[in / 3] = std::numeric_limits<float>::quiet_NaN();
      const std::vector<float> dout = random_floats(outs, 2);
      const auto forward = [&](const OpTable& table) {
        Guarded<float> out(outs);
        table.max_pool_forward({out.data(), x.data(), 3, height, width, channels}, context());
        EXPECT(out.intact(), "%s: wrote outside", on);
        return out.values();
      };
      const auto backward = [&](const OpTable& table) {
        Guarded<float> dx(in);
        table.max_pool_backward({dx.data(), dout.data(), x.data(), 3, height, width, channels},
                                context());
        EXPECT(dx.intact(), "%s: wrote outside", on);
        return dx.values();
      };
      EXPECT(same_bits(forward(ops), forward(ref_ops())), "%s: %d x %d x %d", on, (int)height,
             (int)width, (int)channels);
      EXPECT(same_bits(backward(ops), backward(ref_ops())), "%s: %d x %d x %d, gradient", on,
             (int)height, (int)width, (int)channels);
    }
  }
}

// Both logarithms to an ulp: the inner one's relative error becomes 2^-23 of the outer, whose
// results, like the sum, lie below 32: 2^-20 each.
inline void check_gumbel_noise(const OpTable& ops, const char* on) {
  for (const auto& [rows, n] :
       {std::pair<int64_t, int64_t>{1, 1}, {3, 5}, {5, 4}, {70, 33}, {2, 20000}}) {
    const auto count = static_cast<size_t>(rows * n);
    const std::vector<float> x = random_floats(count, 3, 4);
    const auto noisy = [&](const OpTable& table, uint32_t draw) {
      Guarded<float> out(count);
      table.gumbel_noise({out.data(), x.data(), rows, n, (uint64_t{1} << 52) + 5, draw}, context());
      EXPECT(out.intact(), "%s: wrote outside", on);
      return out.values();
    };
    const double error = max_abs_error(noisy(ops, 7), noisy(ref_ops(), 7));
    EXPECT(error <= 3 * 0x1p-20, "%s: %d x %d: %g", on, (int)rows, (int)n, error);
    EXPECT(max_abs_error(noisy(ops, 8), noisy(ops, 7)) > 1e-3, "%s: the same noise again", on);
  }
}

struct DivergenceResult {
  std::vector<float> divergence, dlogits;
  bool operator==(const DivergenceResult&) const = default;
};
inline DivergenceResult run_divergence(const OpTable& ops, const std::vector<float>& logits,
                                       int64_t rows, bool accumulate = false, float scale = 0.7f) {
  Guarded<float> divergence(static_cast<size_t>(rows)), dlogits(logits.size());
  std::fill_n(dlogits.data(), accumulate ? logits.size() : 0, 0.5f);
  UniformDivergenceParams p{divergence.data(),
                            dlogits.data(),
                            logits.data(),
                            rows,
                            static_cast<int64_t>(logits.size()) / rows,
                            scale,
                            accumulate};
  ops.uniform_divergence(p, context());
  EXPECT(divergence.intact() && dlogits.intact(), "%s: wrote outside", ops.name);
  Guarded<float> alone(static_cast<size_t>(rows));
  p.divergence = alone.data(), p.dlogits = nullptr;
  ops.uniform_divergence(p, context());
  EXPECT(same_bits(alone.values(), divergence.values()), "%s: alone it differs", ops.name);
  return {divergence.values(), dlogits.values()};
}

// As for cross_entropy (tests/loss_test.cc): sums of V terms in short chains, and logits less the
// largest, which a logit's size adds 2^-22 of.
inline void check_uniform_divergence(const OpTable& ops, const char* on) {
  for (const int64_t vocab : {1, 2, 15, 16, 17, 33, 65, 1031, 8192, 20003}) {
    for (const float spread : {1.0f, 20.0f}) {
      const int64_t rows = vocab > 2000 ? 4 : 9;
      std::vector<float> logits = random_floats(static_cast<size_t>(rows * vocab), 4, spread);
      if (vocab > 1) logits[1] = -std::numeric_limits<float>::infinity();
      for (const bool accumulate : {false, true}) {
        const auto expected = run_divergence(ref_ops(), logits, rows, accumulate);
        const auto actual = run_divergence(ops, logits, rows, accumulate);
        const double bound = 0x1p-20 * (1 + static_cast<double>(spread) / 4);
        double error = max_abs_error(actual.divergence, expected.divergence);
        EXPECT(error < bound, "%s: V %d, spread %g: %g", on, (int)vocab,
               static_cast<double>(spread), error);
        error = max_abs_error(actual.dlogits, expected.dlogits);
        EXPECT(error < bound, "%s: V %d, spread %g: gradient %g", on, (int)vocab,
               static_cast<double>(spread), error);
      }
    }
  }
  // what is not a distribution is not hidden
  for (const float bad :
       {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    std::vector<float> logits = random_floats(2 * 40, 5);
    logits[39] = bad;
    const auto result = run_divergence(ops, logits, 2);
    EXPECT(std::isnan(result.divergence[0]) && std::isnan(result.dlogits[0]), "%s: hidden", on);
    EXPECT(std::isfinite(result.divergence[1]), "%s: another row", on);
  }
}

struct SumResult {
  double sum = 0;
  std::vector<float> gradient;
  bool operator==(const SumResult&) const = default;
};

inline SumResult run_logit_laplace(const OpTable& ops, const std::vector<float>& stats,
                                   const std::vector<float>& targets, int64_t channels,
                                   bool accumulate = false) {
  SumResult result;
  Guarded<float> dstats(stats.size());
  std::fill_n(dstats.data(), accumulate ? stats.size() : 0, 0.5f);
  LogitLaplaceParams p{&result.sum,
                       dstats.data(),
                       stats.data(),
                       targets.data(),
                       static_cast<int64_t>(targets.size()) / channels,
                       channels,
                       0.3f,
                       accumulate};
  ops.logit_laplace(p, context());
  EXPECT(dstats.intact(), "%s: wrote outside", ops.name);
  result.gradient = dstats.values();
  double alone = 0;
  p.sum = &alone, p.dstats = nullptr;
  ops.logit_laplace(p, context());
  EXPECT(alone == result.sum, "%s: alone it differs", ops.name);
  return result;
}
inline std::vector<float> laplace_targets(size_t count) {  // 0.1 to 0.9, as map_pixels gives them
  std::vector<float> targets = random_floats(count, 6, 0.4f);
  for (float& x : targets) x += 0.5f;
  return targets;
}

// A value is below 16 and made of four float32 operations with errors of a few ulp; |1/b| < e.
inline void check_logit_laplace(const OpTable& ops, const char* on) {
  for (const int64_t pixels : {1, 5, 64, 5000, 30011}) {
    const std::vector<float> stats = random_floats(static_cast<size_t>(pixels * 6), 7);
    const std::vector<float> targets = laplace_targets(static_cast<size_t>(pixels * 3));
    for (const bool accumulate : {false, true}) {
      const auto expected = run_logit_laplace(ref_ops(), stats, targets, 3, accumulate);
      const auto actual = run_logit_laplace(ops, stats, targets, 3, accumulate);
      EXPECT(std::abs(actual.sum - expected.sum) < static_cast<double>(3 * pixels) * 0x1p-18,
             "%s: %d pixels: %g, %g", on, (int)pixels, actual.sum, expected.sum);
      const double error = max_abs_error(actual.gradient, expected.gradient);
      EXPECT(error < 0x1p-19, "%s: %d pixels: gradient %g", on, (int)pixels, error);
    }
  }
}

inline SumResult run_feature_distance(const OpTable& ops, const std::vector<float>& x,
                                      const std::vector<float>& y,
                                      const std::vector<float>& weights, bool accumulate = false) {
  SumResult result;
  const auto channels = static_cast<int64_t>(weights.size());
  Guarded<float> dx(x.size());
  std::fill_n(dx.data(), accumulate ? x.size() : 0, 0.5f);
  FeatureDistanceParams p{&result.sum, dx.data(),      x.data(),
                          y.data(),    weights.data(), static_cast<int64_t>(x.size()) / channels,
                          channels,    0.3f,           accumulate};
  ops.feature_distance(p, context());
  EXPECT(dx.intact(), "%s: wrote outside", ops.name);
  result.gradient = dx.values();
  double alone = 0;
  p.sum = &alone, p.dx = nullptr;
  ops.feature_distance(p, context());
  EXPECT(alone == result.sum, "%s: alone it differs", ops.name);
  return result;
}

// Unit vectors to some ulp, differences of the size of their elements: the errors stay some ulp of
// the results, sums of up to 512 squares in short chains included. Gradients are below 8.
inline void check_feature_distance(const OpTable& ops, const char* on) {
  for (const int64_t channels : {1, 3, 15, 16, 17, 64, 130, 512}) {
    for (const int64_t rows : {1, 3, 70}) {
      const auto count = static_cast<size_t>(rows * channels);
      std::vector<float> x = random_floats(count, 8), y = random_floats(count, 9);
      std::vector<float> weights = random_floats(static_cast<size_t>(channels), 10);
      for (float& w : weights) w = std::abs(w);  // as LPIPS keeps them
      std::fill_n(x.begin() + static_cast<int64_t>(count) - channels, rows > 1 ? channels : 0,
                  0.0f);
      std::fill_n(y.begin() + channels, rows > 2 ? channels : 0, 0.0f);
      for (const bool accumulate : {false, true}) {
        const auto expected = run_feature_distance(ref_ops(), x, y, weights, accumulate);
        const auto actual = run_feature_distance(ops, x, y, weights, accumulate);
        // with one channel u - v is 0 or 2, but for epsilon
        EXPECT(std::abs(actual.sum - expected.sum) <= 0x1p-19 * (expected.sum + 1e-3),
               "%s: %d x %d: %g, %g", on, (int)rows, (int)channels, actual.sum, expected.sum);
        const double error = max_abs_error(actual.gradient, expected.gradient);
        EXPECT(error < 0x1p-17, "%s: %d x %d: gradient %g", on, (int)rows, (int)channels, error);
      }
    }
  }
}

}  // namespace vilg::test
