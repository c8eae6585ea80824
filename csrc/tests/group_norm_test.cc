#include <cmath>
#include <limits>

#include "cpu/cpu_ops.h"
#include "ref/ref_ops.h"
#include "tests/group_norm_problem.h"

namespace vilg::test {

VILG_TEST(group_norm_forward_against_ref) {
  for_each_group_norm([](const GroupNormProblem& problem) {
    const GroupNormResult expected = problem.forward(ref::group_norm_forward);
    for_each_isa([&](const char* isa) {
      const GroupNormResult actual = problem.forward(cpu::group_norm_forward);
      problem.check(isa, actual, expected);
      const GroupNormResult statistics =
          problem.forward(cpu::group_norm_forward, /*with_out=*/false);
      EXPECT(same_bits(statistics.mean, actual.mean) && same_bits(statistics.rstd, actual.rstd),
             "%s: statistics alone differ", isa);
      for (int threads : {1, 3}) {
        with_threads(threads, [&] {
          const GroupNormResult again = problem.forward(cpu::group_norm_forward);
          EXPECT(same_bits(again.out, actual.out) && same_bits(again.mean, actual.mean),
                 "%s: %d threads differ", isa, threads);
        });
      }
    });
  });
}

VILG_TEST(group_norm_backward_against_ref) {
  for_each_group_norm([](const GroupNormProblem& problem) {
    const GroupNormGradients expected = problem.backward(ref::group_norm_backward);
    for_each_isa([&](const char* isa) {
      const GroupNormGradients actual = problem.backward(cpu::group_norm_backward);
      problem.check(isa, actual, expected);
      for (int threads : {1, 3}) {
        with_threads(threads, [&] {
          EXPECT(problem.same(problem.backward(cpu::group_norm_backward), actual),
                 "%s: %d threads differ", isa, threads);
        });
      }
    });
  });
}

VILG_TEST(group_norm_finite_differences) {
  for (bool swish : {false, true}) {
    auto x = random_floats(2 * 5 * 6, 1, 2.0f), gamma = random_floats(6, 2),
         beta = random_floats(6, 3);
    const auto dout = random_floats(x.size(), 4);
    std::vector<float> out(x.size()), mean(6), rstd(6), dx(x.size()), dgamma(6), dbeta(6);
    GroupNormForwardParams f{out.data(),  mean.data(), rstd.data(), x.data(), gamma.data(),
                             beta.data(), kF,          2,           5,        6,
                             3,           1e-6f,       swish};
    const auto loss = [&] {
      ref::group_norm_forward(f, context());
      double sum = 0;
      for (size_t i = 0; i < out.size(); ++i) sum += static_cast<double>(out[i]) * dout[i];
      return sum;
    };
    loss();
    GroupNormBackwardParams p{dx.data(),
                              dgamma.data(),
                              dbeta.data(),
                              dout.data(),
                              x.data(),
                              gamma.data(),
                              beta.data(),
                              mean.data(),
                              rstd.data(),
                              kF,
                              2,
                              5,
                              6,
                              3,
                              swish,
                              false};
    ref::group_norm_backward(p, context());
    // step 2^-8: float32 outputs leave 60 * 2^-25 / 2^-8 = 5e-4 at worst, a tenth of it in
    // practice; the third derivative costs about step^2 = 1.5e-5
    const auto check = [&](const char* name, std::vector<float>& v,
                           const std::vector<float>& grad) {
      for (size_t i = 0; i < v.size(); ++i) {
        const double slope = finite_difference(v, i, 0x1p-8, loss);
        EXPECT(std::abs(slope - grad[i]) < 2e-4, "swish %d, %s[%zu]: %g, slope %g", swish, name, i,
               grad[i], slope);
      }
    };
    check("dx", x, dx);
    check("dgamma", gamma, dgamma);
    check("dbeta", beta, dbeta);
  }
}

VILG_TEST(group_norm_refuses_what_it_cannot_do) {
  std::vector<float> m(256, 1.0f);
  GroupNormForwardParams good;
  good.out = m.data();
  good.mean = good.rstd = m.data() + 64;
  good.x = good.gamma = good.beta = m.data() + 128;
  good.batch = 1;
  good.pixels = 2;
  good.channels = 6;
  good.groups = 3;
  for (auto op : {ref::group_norm_forward, cpu::group_norm_forward}) {
    const auto refuses = [&](auto change) {
      GroupNormForwardParams p = good;
      change(p);
      op(p, context());
    };
    using P = GroupNormForwardParams;
    EXPECT_ERROR(kShapeMismatch, refuses([](P& p) { p.groups = 4; }));
    EXPECT_ERROR(kShapeMismatch, refuses([](P& p) { p.groups = 0; }));
    EXPECT_ERROR(kInvalidArgument, refuses([](P& p) { p.pixels = 0; }));
    EXPECT_ERROR(kInvalidArgument, refuses([](P& p) { p.mean = nullptr; }));
    EXPECT_ERROR(kInvalidArgument, refuses([](P& p) { p.gamma = nullptr; }));
    EXPECT_ERROR(kInvalidArgument, refuses([](P& p) { p.epsilon = 0; }));
    EXPECT_ERROR(kUnsupported, refuses([](P& p) { p.dtype = DType::kUInt8; }));
  }
}

VILG_TEST(softmax_against_ref) {
  for (int64_t n : {1, 2, 15, 16, 17, 31, 33, 100, 1024}) {
    for (float scale : {1.0f, 0.125f, -3.0f, 40.0f}) {
      const int64_t rows = 5;
      auto x = random_floats(static_cast<size_t>(rows * n), 1, 5.0f);
      if (n > 2 && scale > 0)
        x[static_cast<size_t>(n + 1)] = -std::numeric_limits<float>::infinity();
      const auto dout = random_floats(x.size(), 2);
      const auto forward = [&](auto op, bool in_place) {
        Guarded<float> out(x.size());
        std::copy(x.begin(), x.end(), out.data());
        op({out.data(), in_place ? out.data() : x.data(), rows, n, scale}, context());
        EXPECT(out.intact(), "n %d: wrote outside", (int)n);
        return out.values();
      };
      const auto expected = forward(ref::softmax_forward, false);
      const auto backward = [&](auto op, bool in_place) {
        Guarded<float> dx(x.size());
        std::copy(dout.begin(), dout.end(), dx.data());
        op({dx.data(), in_place ? dx.data() : dout.data(), expected.data(), rows, n, scale},
           context());
        EXPECT(dx.intact(), "n %d: wrote outside", (int)n);
        return dx.values();
      };
      const auto slopes = backward(ref::softmax_backward, false);
      for_each_isa([&](const char* isa) {
        const auto actual = forward(cpu::softmax_forward, false);
        // scale * x - top is up to 400, rounded to 400 * 2^-24, which the exponential turns into a
        // relative error; entries that matter are within 20 of the top
        const double bound = 32 * 0x1p-24 * (1 + std::abs(scale) / 4.0);
        const double error = relative_error(actual, expected);
        EXPECT(error <= bound, "%s, n %d, scale %g: %.3g, bound %.3g", isa, (int)n,
               static_cast<double>(scale), error, bound);
        EXPECT(same_bits(forward(cpu::softmax_forward, true), actual), "%s, in place", isa);
        const auto dx = backward(cpu::softmax_backward, false);
        const double largest = max_abs_error(dx, slopes);
        EXPECT(largest <= 16 * 0x1p-24 * std::abs(scale), "%s, n %d: %.3g", isa, (int)n, largest);
        EXPECT(same_bits(backward(cpu::softmax_backward, true), dx), "%s, in place", isa);
      });
    }
  }
}

VILG_TEST(softmax_keeps_zeros_and_nan) {
  const float inf = std::numeric_limits<float>::infinity();
  for_each_isa([&](const char* isa) {
    std::vector<float> x(20, 0.5f), out(20);
    x[3] = x[19] = -inf;
    cpu::softmax_forward({out.data(), x.data(), 1, 20, 1.0f}, context());
    EXPECT(out[3] == 0 && out[19] == 0, "%s: %g, %g", isa, out[3], out[19]);
    x[18] = std::numeric_limits<float>::quiet_NaN();
    cpu::softmax_forward({out.data(), x.data(), 1, 20, 1.0f}, context());
    EXPECT(std::isnan(out[0]) && std::isnan(out[18]), "%s: NaN is lost", isa);
  });
}

VILG_TEST(softmax_backward_finite_differences) {
  auto x = random_floats(2 * 7, 1, 2.0f);
  const auto dout = random_floats(x.size(), 2);
  std::vector<float> out(x.size()), dx(x.size());
  const auto loss = [&] {
    ref::softmax_forward({out.data(), x.data(), 2, 7, 0.7f}, context());
    double sum = 0;
    for (size_t i = 0; i < out.size(); ++i) sum += static_cast<double>(out[i]) * dout[i];
    return sum;
  };
  loss();
  ref::softmax_backward({dx.data(), dout.data(), out.data(), 2, 7, 0.7f}, context());
  for (size_t i = 0; i < x.size(); ++i) {
    const double slope = finite_difference(x, i, 0x1p-8, loss);
    EXPECT(std::abs(slope - dx[i]) < 5e-5, "dx[%zu]: %g, slope %g", i, dx[i], slope);
  }
}

}  // namespace vilg::test
