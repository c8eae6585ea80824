#include "tests/image_ops_problem.h"

#include <numbers>
#include <optional>
#include <tuple>

namespace vilg::test {

VILG_TEST(image_ops_cpu_against_ref) {
  for_each_isa([](const char* isa) {
    check_leaky_relu(cpu_ops(), isa);
    check_max_pool(cpu_ops(), isa);
    check_gumbel_noise(cpu_ops(), isa);
    check_uniform_divergence(cpu_ops(), isa);
    check_logit_laplace(cpu_ops(), isa);
    check_feature_distance(cpu_ops(), isa);
  });
}

VILG_TEST(image_ops_threads) {
  const std::vector<float> logits = random_floats(40 * 3000, 1, 5);
  const std::vector<float> targets = laplace_targets(3 * 20000);
  const std::vector<float> stats = random_floats(6 * 20000, 2);
  const std::vector<float> x = random_floats(900 * 130, 3), y = random_floats(900 * 130, 4);
  const std::vector<float> weights = random_floats(130, 5);
  const auto all = [&] {
    return std::tuple(run_divergence(cpu_ops(), logits, 40),
                      run_logit_laplace(cpu_ops(), stats, targets, 3),
                      run_feature_distance(cpu_ops(), x, y, weights));
  };
  std::optional<decltype(all())> expected;
  with_threads(1, [&] { expected = all(); });
  for (const int threads : {2, 3}) {
    with_threads(threads, [&] { EXPECT(all() == *expected, "%d threads", threads); });
  }
}

VILG_TEST(leaky_relu_and_max_pool_by_hand) {
  for (const OpTable* ops : {&ref_ops(), &cpu_ops()}) {
    std::vector<float> x = {-2, 0, 3}, out(3), dx(3);
    ops->leaky_relu_forward({out.data(), x.data(), 3, 0.5f}, context());
    EXPECT(out == std::vector<float>({-1, 0, 3}), "%s", ops->name);
    const std::vector<float> dout = {1, 1, 1};
    ops->leaky_relu_backward({dx.data(), dout.data(), out.data(), 3, 0.5f, false}, context());
    EXPECT(dx == std::vector<float>({0.5f, 0.5f, 1}), "%s", ops->name);
    EXPECT_ERROR(kInvalidArgument,
                 ops->leaky_relu_forward({out.data(), x.data(), 3, 1.0f}, context()));
    // 3 x 3 pixels of one channel: the last row and column belong to no square
    x = {1, 4, 9, 4, 2, 9, 9, 9, 9};
    out = {0}, dx.assign(9, -1);
    ops->max_pool_forward({out.data(), x.data(), 1, 3, 3, 1}, context());
    EXPECT(out == std::vector<float>({4}), "%s", ops->name);
    ops->max_pool_backward({dx.data(), dout.data(), x.data(), 1, 3, 3, 1}, context());
    EXPECT(dx == std::vector<float>({0, 1, 0, 0, 0, 0, 0, 0, 0}), "%s", ops->name);
    EXPECT_ERROR(kShapeMismatch,
                 ops->max_pool_forward({out.data(), x.data(), 1, 1, 4, 1}, context()));
  }
}

VILG_TEST(gumbel_noise_is_gumbel) {
  constexpr int64_t kRows = 20, kColumns = 5000;
  constexpr double kCount = kRows * kColumns;
  const std::vector<float> zeros(kRows * kColumns);
  std::vector<float> noise(zeros.size());
  cpu_ops().gumbel_noise({noise.data(), zeros.data(), kRows, kColumns, 11, 0}, context());
  double mean = 0, variance = 0, below = 0;
  for (const float g : noise) mean += g / kCount;
  for (const float g : noise) {
    variance += (g - mean) * (g - mean) / kCount;
    below += (g < 0) / kCount;  // with probability 1 / e
  }
  // five standard deviations; the fourth moment of Gumbel is 5.4 times the variance's square
  const double expected = std::numbers::pi * std::numbers::pi / 6,
               deviation = 5 / std::sqrt(kCount);
  EXPECT(std::abs(mean - std::numbers::egamma) < deviation * std::sqrt(expected), "mean %g", mean);
  EXPECT(std::abs(variance - expected) < deviation * expected * std::sqrt(4.4), "%g", variance);
  EXPECT(std::abs(below - 1 / std::numbers::e) < deviation * 0.5, "below 0: %g", below);
  // the largest of n logits plus noise is a draw from their softmax: of 0 and ln 3, a quarter
  std::vector<float> pairs(2 * 20000), drawn(pairs.size());
  for (size_t i = 1; i < pairs.size(); i += 2) pairs[i] = std::log(3.0f);
  cpu_ops().gumbel_noise({drawn.data(), pairs.data(), 20000, 2, 12, 3}, context());
  double first = 0;
  for (size_t i = 0; i < drawn.size(); i += 2) first += drawn[i] > drawn[i + 1];
  EXPECT(std::abs(first / 20000 - 0.25) < 5 * std::sqrt(0.25 * 0.75 / 20000), "%g", first / 20000);
}

VILG_TEST(uniform_divergence_by_hand_and_finite_differences) {
  const std::vector<float> even(8, 3.0f);
  const float kInf = std::numeric_limits<float>::infinity();
  for (const OpTable* ops : {&ref_ops(), &cpu_ops()}) {
    EXPECT(std::abs(run_divergence(*ops, even, 2).divergence[1]) < 1e-6, "%s: uniform", ops->name);
    // all on one of four: ln 4
    const auto sure = run_divergence(*ops, {-kInf, 5, -kInf, -kInf}, 1);
    EXPECT(std::abs(sure.divergence[0] - std::log(4.0f)) < 1e-6f, "%s: sure", ops->name);
    EXPECT(sure.dlogits == std::vector<float>(4), "%s: sure, gradient", ops->name);
  }
  std::vector<float> logits = random_floats(3 * 7, 1, 2);
  const auto result = run_divergence(ref_ops(), logits, 3);
  const auto loss = [&] {
    double total = 0;
    for (int row = 0; row < 3; ++row) {
      double sum = 0;
      for (int v = 0; v < 7; ++v) sum += std::exp(double{logits[static_cast<size_t>(row * 7 + v)]});
      for (int v = 0; v < 7; ++v) {
        const double p = std::exp(double{logits[static_cast<size_t>(row * 7 + v)]}) / sum;
        total += 0.7 * p * std::log(7 * p);
      }
    }
    return total;
  };
  for (size_t i = 0; i < logits.size(); ++i) {
    const double expected = finite_difference(logits, i, 1e-3, loss);
    EXPECT(std::abs(result.dlogits[i] - expected) < 1e-6, "%zu: %g, %g", i, result.dlogits[i],
           expected);
  }
}

VILG_TEST(logit_laplace_by_hand_and_finite_differences) {
  // x = 1/2, mu = 0, b = 1: the density is 1 / (2 * 1/4) = 2
  for (const OpTable* ops : {&ref_ops(), &cpu_ops()}) {
    const double value = run_logit_laplace(*ops, {0, 0}, {0.5f}, 1).sum;
    EXPECT(std::abs(value + std::log(2.0)) < 1e-6, "%s: %g", ops->name, value);
  }
  // it is a density: over x it sums to 1
  double mass = 0;
  for (int i = 0; i < 2000; ++i) {
    const float x = (static_cast<float>(i) + 0.5f) / 2000;
    mass += std::exp(-run_logit_laplace(ref_ops(), {0.3f, -0.7f}, {x}, 1).sum) / 2000;
  }
  EXPECT(std::abs(mass - 1) < 1e-4, "mass %g", mass);
  std::vector<float> stats = random_floats(5 * 6, 1);
  const std::vector<float> targets = laplace_targets(5 * 3);
  const auto result = run_logit_laplace(ref_ops(), stats, targets, 3);
  const auto loss = [&] { return 0.3 * run_logit_laplace(ref_ops(), stats, targets, 3).sum; };
  for (size_t i = 0; i < stats.size(); ++i) {
    const double expected = finite_difference(stats, i, 1e-3, loss);
    EXPECT(std::abs(result.gradient[i] - expected) < 1e-5, "%zu: %g, %g", i, result.gradient[i],
           expected);
  }
}

VILG_TEST(feature_distance_by_hand_and_finite_differences) {
  for (const OpTable* ops : {&ref_ops(), &cpu_ops()}) {
    // (3, 4) and (0, 2) to (0.6, 0.8) and (0, 1)
    const double value = run_feature_distance(*ops, {3, 4}, {0, 2}, {1, 0.5f}).sum;
    EXPECT(std::abs(value - (0.36 + 0.5 * 0.04)) < 1e-6, "%s: %g", ops->name, value);
    const auto zero = run_feature_distance(*ops, {0, 0}, {0, 2}, {1, 0.5f});
    EXPECT(std::abs(zero.sum - 0.5) < 1e-6 && zero.gradient == std::vector<float>(2), "%s: zeros",
           ops->name);
  }
  std::vector<float> x = random_floats(4 * 6, 1);
  const std::vector<float> y = random_floats(4 * 6, 2), weights = {0.5f, 1, 2, 0.1f, 0.7f, 1.5f};
  const auto result = run_feature_distance(ref_ops(), x, y, weights);
  const auto loss = [&] { return 0.3 * run_feature_distance(ref_ops(), x, y, weights).sum; };
  for (size_t i = 0; i < x.size(); ++i) {
    const double expected = finite_difference(x, i, 1e-3, loss);
    EXPECT(std::abs(result.gradient[i] - expected) < 1e-5, "%zu: %g, %g", i, result.gradient[i],
           expected);
  }
}

}  // namespace vilg::test
