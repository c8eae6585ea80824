#include "metrics/frechet_distance.h"

#include <algorithm>
#include <cmath>
#include <functional>

#include "metrics/feature_moments.h"
#include "metrics/pivoted_cholesky.h"
#include "metrics/singular_values.h"
#include "tests/harness.h"

namespace vilg::test {
namespace {

// Sums of twelve uniform numbers less their mean: near to normal, and of variance 4 * scale^2.
std::vector<double> random_features(int64_t count, int64_t d, uint32_t seed, double scale = 1) {
  const std::vector<float> uniform = random_floats(count * d * 12, seed);
  std::vector<double> features(count * d);
  for (int64_t i = 0; i < count * d; ++i) {
    for (int64_t j = 0; j < 12; ++j) features[i] += scale * uniform[i * 12 + j];
  }
  return features;
}

struct Statistics {
  std::vector<double> mean, covariance;
  GaussianView view() const { return {mean, covariance}; }
};

Statistics statistics_of(const std::vector<double>& features, int64_t count, int64_t d) {
  const FeatureMoments moments = feature_moments(features, count, d, context());
  Statistics result{moments.mean, moments.scatter};
  for (double& value : result.covariance) value /= static_cast<double>(count - 1);
  return result;
}

Statistics diagonal(const std::vector<double>& mean, const std::vector<double>& variances) {
  const size_t d = mean.size();
  Statistics result{mean, std::vector<double>(d * d)};
  for (size_t i = 0; i < d; ++i) result.covariance[i * d + i] = variances[i];
  return result;
}

double distance(const Statistics& a, const Statistics& b) {
  return frechet_distance(a.view(), b.view(), context());
}

// tr((S1 S2)^(1/2)) from the samples themselves: the sum of the singular values of X1 X2^T, the
// products of all centred samples of one set with those of the other.
double trace_from_samples(const std::vector<double>& x1, int64_t n1, const std::vector<double>& x2,
                          int64_t n2, int64_t d) {
  const std::vector<double> m1 = feature_moments(x1, n1, d, context()).mean;
  const std::vector<double> m2 = feature_moments(x2, n2, d, context()).mean;
  std::vector<double> products(n1 * n2);
  for (int64_t i = 0; i < n1; ++i) {
    for (int64_t j = 0; j < n2; ++j) {
      for (int64_t k = 0; k < d; ++k) {
        products[i * n2 + j] += (x1[i * d + k] - m1[k]) * (x2[j * d + k] - m2[k]);
      }
    }
  }
  double sum = 0;
  for (double value : singular_values(products, n1, n2, context())) sum += value;
  return sum / std::sqrt(static_cast<double>((n1 - 1) * (n2 - 1)));
}

double trace(const Statistics& s) {
  double sum = 0;
  for (size_t i = 0; i < s.mean.size(); ++i) sum += s.covariance[i * s.mean.size() + i];
  return sum;
}

void expect_near(double actual, double expected, double tolerance, const char* what) {
  EXPECT(std::abs(actual - expected) <= tolerance, "%s: %.17g, expected %.17g", what, actual,
         expected);
}

}  // namespace

VILG_TEST(feature_moments_by_hand) {
  for_each_isa([](const char* isa) {
    // a mean so large that sums of squares would lose everything
    const double far = 1e9;
    const FeatureMoments moments =
        feature_moments(std::vector<double>{far + 1, 2, far + 3, -2, far + 2, 3}, 3, 2, context());
    EXPECT(moments.mean == (std::vector<double>{far + 2, 1}), "%s", isa);
    EXPECT(moments.scatter == (std::vector<double>{2, -4, -4, 14}), "%s", isa);
  });
}

VILG_TEST(singular_values_of_known_matrices) {
  for_each_isa([](const char* isa) {
    // 3 and 1: [[2, 1], [1, 2]]; sqrt(45) and sqrt(5): [[3, 0], [4, 5]]
    const auto check = [&](std::vector<double> a, int64_t m, int64_t n,
                           std::vector<double> expected) {
      std::vector<double> found = singular_values(a, m, n, context());
      std::sort(found.begin(), found.end(), std::greater<>());
      EXPECT(found.size() == expected.size(), "%s: %zu values", isa, found.size());
      // m + n reflections and rotations, each of which rounds by a few units of the largest
      const double largest = expected.empty() ? 0 : expected[0];
      const double tolerance = 8 * static_cast<double>(m + n) * 0x1p-53 * largest;
      for (size_t i = 0; i < expected.size(); ++i) {
        expect_near(found[i], expected[i], tolerance, isa);
      }
    };
    check({2, 1, 1, 2}, 2, 2, {3, 1});
    check({3, 0, 4, 5}, 2, 2, {std::sqrt(45.0), std::sqrt(5.0)});
    check({3, 4}, 1, 2, {5});
    check({3e200, 4e200}, 2, 1, {5e200});
    check({3e-200, 4e-200}, 2, 1, {5e-200});
    check({0, 0, 0, 0, 0, 0}, 3, 2, {0, 0});
    check({0, 0, 0, 7, 0, 0}, 2, 3, {7, 0});
    check({}, 0, 3, {});
    // of rank 1: |u| |v| and zeros, which are exact to rounding of the largest
    std::vector<double> rank_one(9 * 5);
    for (int i = 0; i < 45; ++i) rank_one[i] = (i / 5 + 1) * (i % 5 + 1);
    check(rank_one, 9, 5, {std::sqrt(285.0 * 55.0), 0, 0, 0, 0});
    // the identity: no gaps to converge by
    std::vector<double> identity(100);
    for (int i = 0; i < 10; ++i) identity[i * 11] = 1;
    check(identity, 10, 10, std::vector<double>(10, 1.0));
    // Hilbert's of 12, whose smallest value is below rounding of the largest
    std::vector<double> hilbert(144);
    for (int i = 0; i < 144; ++i) hilbert[i] = 1.0 / (i / 12 + i % 12 + 1);
    std::vector<double> found = singular_values(hilbert, 12, 12, context());
    expect_near(*std::max_element(found.begin(), found.end()), 1.7953720595619979, 3e-15, isa);
    expect_near(*std::min_element(found.begin(), found.end()), 0, 1e-15, isa);
  });
}

VILG_TEST(singular_values_keep_norms) {
  for_each_isa([](const char* isa) {
    for (int64_t m : {1, 2, 17, 130, 259}) {
      for (int64_t n : {1, 3, 64, 131}) {
        const std::vector<float> values = random_floats(m * n, 5);
        const std::vector<double> a(values.begin(), values.end());
        double squares = 0, found = 0;
        for (double value : a) squares += value * value;
        const std::vector<double> singular = singular_values(a, m, n, context());
        for (double value : singular) found += value * value;
        EXPECT(singular.size() == static_cast<size_t>(std::min(m, n)), "%s", isa);
        expect_near(found / squares, 1, 1e-13, isa);
        // of the transposed matrix they are the same
        std::vector<double> turned(a.size());
        for (int64_t i = 0; i < m * n; ++i) turned[i % n * m + i / n] = a[i];
        std::vector<double> other = singular_values(turned, n, m, context()), own = singular;
        std::sort(own.begin(), own.end());
        std::sort(other.begin(), other.end());
        for (size_t i = 0; i < own.size(); ++i)
          expect_near(own[i], other[i], 1e-13 * own.back(), isa);
      }
    }
  });
}

VILG_TEST(root_factor_of_less_than_full_rank) {
  for_each_isa([](const char* isa) {
    for (int64_t d : {1, 40, 150}) {
      for (int64_t count : {2, 70, 400}) {
        const Statistics s = statistics_of(random_features(count, d, 7), count, d);
        const RootFactor factor = root_factor(s.covariance, d, "s", context());
        EXPECT(factor.rank == std::min(count - 1, d), "%s: rank %lld of %lld x %lld", isa,
               static_cast<long long>(factor.rank), static_cast<long long>(count),
               static_cast<long long>(d));
        for (int64_t i = 0; i < d * d; ++i) {
          double sum = 0;
          for (int64_t k = 0; k < factor.rank; ++k) {
            sum += factor.rows[k * d + i / d] * factor.rows[k * d + i % d];
          }
          // backward error of Cholesky, and what was dropped: a few d * eps of the variances (near
          // 4)
          expect_near(sum, s.covariance[i], 16 * static_cast<double>(d) * 0x1p-52, isa);
        }
      }
    }
  });
}

VILG_TEST(root_factor_ends_at_the_rounding_of_float32) {
  const int64_t d = 60, count = 20;
  Statistics s = statistics_of(random_features(count, d, 3), count, d);
  for (double& value : s.covariance) value = static_cast<float>(value);
  const RootFactor factor = root_factor(s.covariance, d, "s", context());
  EXPECT(factor.rank >= count - 1 && factor.rank < d, "%lld", static_cast<long long>(factor.rank));
  for (double value : factor.rows) EXPECT(std::abs(value) < 4, "%g", value);
}

VILG_TEST(root_factor_leaves_what_cannot_be_a_covariance) {
  // beside the pivot of 1e-9 lies 1e-7: rounding, from which a variance of 1e-5 would be made
  const std::vector<double> s{1, 0, 0, 0, 1e-9, 1e-7, 0, 1e-7, 1e-9};
  const RootFactor factor = root_factor(s, 3, "s", context());
  EXPECT(factor.rank == 1, "%lld", static_cast<long long>(factor.rank));
  // the same as the variance itself is no rounding
  EXPECT_ERROR(kInvalidArgument,
               root_factor(std::vector<double>{1e-9, 1e-7, 1e-7, 1e-9}, 2, "s", context()));
}

VILG_TEST(root_factor_refuses_what_is_no_covariance) {
  EXPECT_ERROR(kInvalidArgument, root_factor(std::vector<double>{1, 2, 2, 1}, 2, "s", context()));
  EXPECT_ERROR(kInvalidArgument, root_factor(std::vector<double>{1, 0, 0, -1}, 2, "s", context()));
  EXPECT_ERROR(kInvalidArgument, root_factor(std::vector<double>{-1}, 1, "s", context()));
  EXPECT_ERROR(kShapeMismatch, root_factor(std::vector<double>{1, 0}, 2, "s", context()));
}

VILG_TEST(frechet_distance_by_hand) {
  for_each_isa([](const char* isa) {
    // of independent numbers: the sum of (m1 - m2)^2 + (sd1 - sd2)^2
    const Statistics a = diagonal({1, -2, 0.5}, {4, 9, 0}), b = diagonal({2, 0, 0.5}, {1, 16, 25});
    expect_near(distance(a, b), 1 + 4 + 1 + 1 + 25, 1e-13, isa);
    expect_near(distance(a, a), 0, 1e-13, isa);
    // nothing in common: |m|^2 and both traces
    expect_near(distance(diagonal({0, 0}, {3, 0}), diagonal({1, 1}, {0, 2})), 2 + 5, 1e-14, isa);
    expect_near(distance(diagonal({3}, {0}), diagonal({1}, {0})), 4, 0, isa);
  });
}

VILG_TEST(frechet_distance_of_few_samples) {
  for_each_isa([](const char* isa) {
    const int64_t d = 130;
    // fewer samples than dimensions, on one side or on both: computed from the samples, the trace
    // needs no covariance at all
    const int64_t counts[][2] = {{20, 30}, {20, 300}, {300, 20}, {2, 2}, {140, 150}};
    for (const auto& [n1, n2] : counts) {
      const std::vector<double> x1 = random_features(n1, d, 1), x2 = random_features(n2, d, 2, 1.5);
      const Statistics a = statistics_of(x1, n1, d), b = statistics_of(x2, n2, d);
      double expected = trace(a) + trace(b) - 2 * trace_from_samples(x1, n1, x2, n2, d);
      for (int64_t i = 0; i < d; ++i) expected += std::pow(a.mean[i] - b.mean[i], 2);
      expect_near(distance(a, b) / expected, 1, 1e-11, isa);
      expect_near(distance(b, a) / expected, 1, 1e-11, isa);
      const double own = distance(a, a);
      expect_near(own, 0, 1e-11 * trace(a), isa);
      EXPECT(own >= 0, "%s: %g", isa, own);
    }
  });
}

VILG_TEST(frechet_distance_same_bits_with_any_thread_count) {
  const int64_t d = 300;
  const std::vector<double> x1 = random_features(500, d, 1), x2 = random_features(250, d, 2);
  std::vector<double> mean, scatter;
  double expected = 0;
  with_threads(1, [&] {
    const FeatureMoments moments = feature_moments(x1, 500, d, context());
    mean = moments.mean;
    scatter = moments.scatter;
    expected = distance(statistics_of(x1, 500, d), statistics_of(x2, 250, d));
  });
  for (int threads : {2, 3}) {
    with_threads(threads, [&] {
      const FeatureMoments moments = feature_moments(x1, 500, d, context());
      EXPECT(moments.mean == mean && moments.scatter == scatter, "%d threads", threads);
      EXPECT(distance(statistics_of(x1, 500, d), statistics_of(x2, 250, d)) == expected,
             "%d threads", threads);
    });
  }
}

VILG_TEST(frechet_distance_stops) {
  const int64_t d = 200;
  const Statistics a = statistics_of(random_features(300, d, 1), 300, d);
  StopFlag flag;
  flag.raise();
  OpContext stopped = context();
  stopped.stop = &flag;
  bool thrown = false;
  try {
    frechet_distance(a.view(), a.view(), stopped);
  } catch (const Stopped&) {
    thrown = true;
  }
  EXPECT(thrown, "ran to its end");
  EXPECT_ERROR(kShapeMismatch, frechet_distance(a.view(), diagonal({1}, {1}).view(), context()));
}

}  // namespace vilg::test
