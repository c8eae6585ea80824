#include <cmath>
#include <cstring>
#include <limits>

#include "tests/loss_problem.h"

namespace vilg::test {
VILG_TEST(cross_entropy_by_hand) {
  CrossEntropyCase c(2, 4, 1);
  c.logits = {0, 0, 0, 0, std::log(1.0f), std::log(2.0f), std::log(3.0f), std::log(4.0f)};
  c.targets = {2, 1};
  c.row_scale = 1;
  for (const OpTable* ops : {&ref_ops(), &cpu_ops()}) {
    const auto plain = run(*ops, c);
    EXPECT(max_abs_error(plain.loss, {std::log(4.0f), std::log(5.0f)}) < 3e-7, "%s", ops->name);
    EXPECT(
        max_abs_error(plain.dlogits, {0.25f, 0.25f, -0.75f, 0.25f, 0.1f, -0.8f, 0.3f, 0.4f}) < 2e-7,
        "%s", ops->name);
    auto smooth = c;
    smooth.label_smoothing = 1;  // the target does not matter
    const float mean_log = (std::log(2.0f) + std::log(3.0f) + std::log(4.0f)) / 4;
    EXPECT(
        max_abs_error(run(*ops, smooth).loss, {std::log(4.0f), std::log(10.0f) - mean_log}) < 5e-7,
        "%s smoothed", ops->name);
  }
}

VILG_TEST(cross_entropy_gradient_against_finite_differences) {
  CrossEntropyCase c(6, 9, 3);
  c.label_smoothing = 0.2f;
  c.z_loss = 0.05f;
  const auto result = run(ref_ops(), c);
  // row_scale times the sum of losses, in double as the definition reads
  const auto loss = [&] {
    double total = 0;
    for (int64_t r = 0; r < c.rows; ++r) {
      const int32_t target = c.targets[static_cast<size_t>(r)];
      if (target < 0) continue;
      double sum = 0;
      for (int64_t v = 0; v < 9; ++v)
        sum += std::exp(double{c.logits[static_cast<size_t>(r * 9 + v)]});
      const double lse = std::log(sum), smoothing = c.label_smoothing;
      for (int64_t v = 0; v < 9; ++v) {
        const double q = (v == target ? 1 - smoothing : 0) + smoothing / 9;
        total -= q * (c.logits[static_cast<size_t>(r * 9 + v)] - lse);
      }
      total += c.z_loss * lse * lse;
    }
    return c.row_scale * total;
  };
  double sum = 0;
  for (float l : result.loss) sum += l;
  EXPECT(std::abs(c.row_scale * sum - loss()) < 1e-5, "loss %g, %g", sum, loss());
  for (size_t i = 0; i < c.logits.size(); ++i) {
    const double expected = finite_difference(c.logits, i, 1e-3, loss);
    EXPECT(std::abs(result.dlogits[i] - expected) < 1e-6, "%zu: %g, %g", i, result.dlogits[i],
           expected);
  }
  EXPECT(result.loss[3] == 0 && result.dlogits[3 * 9] == 0, "ignored row");
}

// The loss: 2 ulp of exp, and sums of V terms in some 8 to 32 chains give the logarithm an absolute
// error of a few 2^-23; then its rounding. With smoothing the mean of (x - max) adds 2^-22 of the
// spread; so do logits - max. Gradients are probabilities less q, each below row_scale: the same
// bound.
VILG_TEST(cross_entropy_cpu_against_ref) {
  for_each_isa([](const char* isa) {
    for (int64_t vocab : {1, 2, 15, 16, 17, 31, 33, 63, 65, 1031, 8192, 32003}) {
      for (float scale : {1.0f, 30.0f}) {
        CrossEntropyCase c(vocab > 2000 ? 5 : 11, vocab, scale);
        for (int option = 0; option < 3; ++option) {
          c.label_smoothing = option == 1 ? 0.2f : 0;
          c.z_loss = option == 2 ? 1e-2f : 0;
          const auto expected = run(ref_ops(), c), actual = run(cpu_ops(), c);
          const double bound = 0x1p-20 * (1 + scale / 4);
          EXPECT(max_abs_error(actual.loss, expected.loss) < bound, "%s V %lld scale %g: loss %g",
                 isa, static_cast<long long>(vocab), static_cast<double>(scale),
                 max_abs_error(actual.loss, expected.loss));
          EXPECT(max_abs_error(actual.dlogits, expected.dlogits) < 0x1p-20,
                 "%s V %lld scale %g: gradient %g", isa, static_cast<long long>(vocab),
                 static_cast<double>(scale), max_abs_error(actual.dlogits, expected.dlogits));
          EXPECT(run(cpu_ops(), c, true) == actual, "%s in place", isa);
        }
      }
    }
  });
}

VILG_TEST(cross_entropy_extremes) {
  constexpr float kInf = std::numeric_limits<float>::infinity();
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
  for_each_isa([](const char* isa) {
    for (int64_t vocab : {5, 37}) {
      CrossEntropyCase c(6, vocab, 1);
      c.targets.assign(6, 2);
      c.row_scale = 1;
      const auto row = [&](int r) { return c.logits.data() + r * vocab; };
      for (int64_t v = 0; v < vocab; ++v) row(0)[v] = v == 2 ? 1e30f : -1e30f;
      for (int64_t v = 0; v < vocab; ++v) row(1)[v] = v == 2 ? 1e4f : -kInf;
      row(2)[vocab - 1] = kNan;
      row(3)[0] = kInf;
      for (int64_t v = 0; v < vocab; ++v) row(4)[v] = -kInf;
      for (int64_t v = 0; v < vocab; ++v) row(5)[v] = kNan;
      c.targets[5] = -1;  // what is not counted may be anything
      const auto result = run(cpu_ops(), c);
      const auto at = [&](int r, int64_t v) {
        return result.dlogits[static_cast<size_t>(r * vocab + v)];
      };
      EXPECT(result.loss[0] == 0 && at(0, 0) == 0 && at(0, 2) == 0, "%s sure", isa);
      EXPECT(result.loss[1] == 0 && at(1, 0) == 0 && at(1, 2) == 0, "%s -inf", isa);
      for (int r : {2, 3, 4}) {
        EXPECT(std::isnan(result.loss[static_cast<size_t>(r)]) && std::isnan(at(r, 0)) &&
                   std::isnan(at(r, vocab - 1)),
               "%s row %d hides NaN", isa, r);
      }
      EXPECT(result.loss[5] == 0 && at(5, 0) == 0, "%s ignored", isa);
    }
  });
}

VILG_TEST(cross_entropy_same_bits_with_any_thread_count) {
  CrossEntropyCase c(67, 1031, 5);
  c.label_smoothing = 0.1f;
  CrossEntropyResult expected;
  with_threads(1, [&] { expected = run(cpu_ops(), c); });
  for (int threads : {2, 3}) {
    with_threads(threads, [&] { EXPECT(run(cpu_ops(), c) == expected, "%d threads", threads); });
  }
}

VILG_TEST(cross_entropy_refuses) {
  for (const OpTable* ops : {&ref_ops(), &cpu_ops()}) {
    CrossEntropyCase c(3, 5, 1);
    c.targets[2] = 5;
    EXPECT_ERROR(kInvalidArgument, run(*ops, c));
    c.targets[2] = 4;
    c.label_smoothing = 1.5f;
    EXPECT_ERROR(kInvalidArgument, run(*ops, c));
    c.label_smoothing = std::numeric_limits<float>::quiet_NaN();
    EXPECT_ERROR(kInvalidArgument, run(*ops, c));
    c.label_smoothing = 0;
    c.z_loss = -1;
    EXPECT_ERROR(kInvalidArgument, run(*ops, c));
    c.z_loss = 0;
    c.vocab = 0;
    EXPECT_ERROR(kInvalidArgument, run(*ops, c));
    EXPECT_ERROR(kInvalidArgument, ops->squared_error({}, context()));
    EXPECT_ERROR(kInvalidArgument, ops->squared_norm({}, context()));
  }
}

VILG_TEST(squared_error_and_norm) {
  for (const OpTable* ops : {&ref_ops(), &cpu_ops()}) {  // by hand
    const std::vector<float> x = {1, -2, 3}, y = {0, 2, 3};
    std::vector<float> dx = {10, 10, 10};
    double sum = 0;
    SquaredErrorParams p{&sum, dx.data(), x.data(), y.data(), 3, 0.5f, true};
    ops->squared_error(p, context());
    EXPECT(sum == 17 && dx == std::vector<float>({11, 6, 10}), "%s %g", ops->name, sum);
    SquaredNormParams q{&sum, x.data(), 3};
    ops->squared_norm(q, context());
    EXPECT(sum == 14, "%s %g", ops->name, sum);
  }
  for_each_isa([](const char* isa) {
    for (int64_t n : {1, 15, 16, 17, 31, 33, 64, 65, 16383, 16384, 16385, 50021}) {
      const auto count = static_cast<size_t>(n);
      const auto x = random_floats(count, 1, 3), y = random_floats(count, 2);
      double sums[2] = {-1, -1}, norms[2] = {-1, -1};
      std::vector<float> gradients[2];
      for (const OpTable* ops : {&ref_ops(), &cpu_ops()}) {
        const bool fast = ops == &cpu_ops();
        Guarded<float> dx(count);
        SquaredErrorParams p;
        p.sum = &sums[fast];
        p.dx = dx.data();
        p.x = x.data();
        p.y = y.data();
        p.num_elements = n;
        p.scale = 0.3f;
        ops->squared_error(p, context());
        p.sum = nullptr;
        p.accumulate = true;  // twice the gradient now
        ops->squared_error(p, context());
        EXPECT(dx.intact(), "writes outside");
        gradients[fast] = dx.values();
        SquaredNormParams q{&norms[fast], x.data(), n};
        ops->squared_norm(q, context());
      }
      // double sums of up to 50021 terms: far below 1e-12
      EXPECT(std::abs(sums[1] / sums[0] - 1) < 1e-12, "%s n %lld", isa, static_cast<long long>(n));
      EXPECT(std::abs(norms[1] / norms[0] - 1) < 1e-12, "%s n %lld", isa,
             static_cast<long long>(n));
      // below 4.8, three roundings
      EXPECT(max_abs_error(gradients[1], gradients[0]) < 4 * 0x1p-22, "%s gradient", isa);
    }
  });
  const auto x = random_floats(100003, 8), y = random_floats(100003, 9);
  const auto sums = [&] {
    std::pair<double, double> result;
    SquaredErrorParams p;
    p.sum = &result.first;
    p.x = x.data();
    p.y = y.data();
    p.num_elements = 100003;
    cpu_ops().squared_error(p, context());
    SquaredNormParams q{&result.second, x.data(), 100003};
    cpu_ops().squared_norm(q, context());
    return result;
  };
  std::pair<double, double> expected;
  with_threads(1, [&] { expected = sums(); });
  for (int threads : {2, 3}) {
    with_threads(threads, [&] { EXPECT(sums() == expected, "%d threads", threads); });
  }
}

}  // namespace vilg::test
