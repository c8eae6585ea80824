#include <cmath>
#include <limits>

#include "cpu/cpu_ops.h"
#include "ref/ref_ops.h"
#include "tests/data.h"

namespace vilg::test {
namespace {

// float32: a handful of roundings and a 2 ulp exponential on values of the result's size; sums are
// finished in double. bfloat16: results that round the other way are fewer than one in a hundred.
constexpr double kSingle = 16 * 0x1p-24;
double tolerance(DType dtype) { return dtype == kH ? 0x1p-11 : kSingle; }

struct Case {
  int64_t batch, pixels, channels, groups;
  float offset = 0;  // added to x: the mean in standard deviations, nearly
};
constexpr Case kCases[] = {{1, 1, 15, 3},    {2, 5, 6, 3},    {1, 17, 16, 4},
                           {2, 7, 32, 32},   {1, 33, 33, 11}, {3, 4, 48, 8},
                           {1, 600, 64, 32}, {2, 1031, 5, 5}, {1, 1500, 128, 32, 30.0f}};

std::string describe(const Case& c, DType dtype, bool swish) {
  return format("batch %d, %d pixels, %d channels, %d groups, offset %g, %s%s", (int)c.batch,
                (int)c.pixels, (int)c.channels, (int)c.groups, static_cast<double>(c.offset),
                dtype_name(dtype), swish ? ", swish" : "");
}

Data input(const Case& c, DType dtype, uint32_t seed) {
  Data x(dtype, static_cast<size_t>(c.batch * c.pixels * c.channels), seed);
  for (float& value : x.f32) value += c.offset;
  if (dtype == kH) {
    x.half = to_bf16(x.f32);
    x.f32 = to_float(x.half);
  }
  return x;
}

}  // namespace

VILG_TEST(group_norm_forward_against_ref) {
  for (const Case& c : kCases) {
    for (DType dtype : {kF, kH}) {
      for (bool swish : {false, true}) {
        const Data x = input(c, dtype, 1);
        const auto gamma = random_floats(static_cast<size_t>(c.channels), 2);
        const auto beta = random_floats(static_cast<size_t>(c.channels), 3);
        GroupNormForwardParams p;
        p.x = x.data();
        p.gamma = gamma.data();
        p.beta = beta.data();
        p.dtype = dtype;
        p.batch = c.batch;
        p.pixels = c.pixels;
        p.channels = c.channels;
        p.groups = c.groups;
        p.swish = swish;
        struct Result {
          std::vector<float> out, mean, rstd;
        };
        const auto run = [&](auto op, bool with_out) {
          Output out(dtype, x.f32.size());
          Guarded<float> mean(static_cast<size_t>(c.batch * c.groups)), rstd(mean.size());
          p.out = with_out ? out.data() : nullptr;
          p.mean = mean.data();
          p.rstd = rstd.data();
          op(p, context());
          EXPECT(out.intact() && mean.intact() && rstd.intact(), "%s: wrote outside",
                 describe(c, dtype, swish).c_str());
          return Result{out.values(), mean.values(), rstd.values()};
        };
        const Result expected = run(ref::group_norm_forward, true);
        for_each_isa([&](const char* isa) {
          const Result actual = run(cpu::group_norm_forward, true);
          const auto check = [&](const char* name, const std::vector<float>& a,
                                 const std::vector<float>& e, double bound) {
            const double error = relative_error(a, e);
            EXPECT(error <= bound, "%s, %s, %s: %.3g, bound %.3g", isa,
                   describe(c, dtype, swish).c_str(), name, error, bound);
          };
          // (x - mean) * rstd with a mean rounded to float32: off by offset * 2^-24 of a deviation
          // of a uniform's 1 / sqrt(3)
          const double cancelled = static_cast<double>(c.offset) * 2 * 0x1p-24;
          check("out", actual.out, expected.out, tolerance(dtype) + cancelled);
          // values of few bits are rounded alike, not at random, by the subtraction of the block's
          // mean (2^-25 of them) and by the additions: absolute, for the mean may be near 0
          const double off = max_abs_error(actual.mean, expected.mean);
          EXPECT(off <= 0x1p-23 * (1 + c.offset), "%s, %s, mean: off by %.3g", isa,
                 describe(c, dtype, swish).c_str(), off);
          check("rstd", actual.rstd, expected.rstd, kSingle);
          const Result statistics = run(cpu::group_norm_forward, false);
          EXPECT(same_bits(statistics.mean, actual.mean) && same_bits(statistics.rstd, actual.rstd),
                 "%s: statistics alone differ", isa);
          for (int threads : {1, 3}) {
            with_threads(threads, [&] {
              const Result again = run(cpu::group_norm_forward, true);
              EXPECT(same_bits(again.out, actual.out) && same_bits(again.mean, actual.mean),
                     "%s: %d threads differ", isa, threads);
            });
          }
        });
      }
    }
  }
}

VILG_TEST(group_norm_backward_against_ref) {
  for (const Case& c : kCases) {
    for (DType dtype : {kF, kH}) {
      for (bool swish : {false, true}) {
        const bool accumulate = swish != (dtype == kH);
        const Data x = input(c, dtype, 1), dout(dtype, x.f32.size(), 2),
                   before(dtype, x.f32.size(), 3);
        const size_t channels = static_cast<size_t>(c.channels);
        const auto gamma = random_floats(channels, 4), beta = random_floats(channels, 5);
        const auto dgamma_before = random_floats(channels, 6),
                   dbeta_before = random_floats(channels, 7);
        std::vector<float> mean(static_cast<size_t>(c.batch * c.groups)), rstd(mean.size());
        GroupNormForwardParams f;
        f.x = x.data();
        f.mean = mean.data();
        f.rstd = rstd.data();
        f.dtype = dtype;
        f.batch = c.batch;
        f.pixels = c.pixels;
        f.channels = c.channels;
        f.groups = c.groups;
        ref::group_norm_forward(f, context());
        GroupNormBackwardParams p;
        p.dout = dout.data();
        p.x = x.data();
        p.gamma = gamma.data();
        p.beta = beta.data();
        p.mean = mean.data();
        p.rstd = rstd.data();
        p.dtype = dtype;
        p.batch = c.batch;
        p.pixels = c.pixels;
        p.channels = c.channels;
        p.groups = c.groups;
        p.swish = swish;
        p.accumulate = accumulate;
        struct Result {
          std::vector<float> dx, dgamma, dbeta;
        };
        const auto run = [&](auto op) {
          Output dx(dtype, x.f32.size());
          if (accumulate) dx.fill(before);
          Guarded<float> dgamma(channels), dbeta(channels);
          std::copy(dgamma_before.begin(), dgamma_before.end(), dgamma.data());
          std::copy(dbeta_before.begin(), dbeta_before.end(), dbeta.data());
          p.dx = dx.data();
          p.dgamma = dgamma.data();
          p.dbeta = dbeta.data();
          op(p, context());
          EXPECT(dx.intact() && dgamma.intact() && dbeta.intact(), "%s: wrote outside",
                 describe(c, dtype, swish).c_str());
          return Result{dx.values(), dgamma.values(), dbeta.values()};
        };
        const Result expected = run(ref::group_norm_backward);
        for_each_isa([&](const char* isa) {
          const Result actual = run(cpu::group_norm_backward);
          const auto check = [&](const char* name, const std::vector<float>& a,
                                 const std::vector<float>& e, double bound) {
            const double error = relative_error(a, e);
            EXPECT(error <= bound, "%s, %s, %s: %.3g, bound %.3g", isa,
                   describe(c, dtype, swish).c_str(), name, error, bound);
          };
          check("dx", actual.dx, expected.dx, tolerance(dtype));
          check("dgamma", actual.dgamma, expected.dgamma, 2 * kSingle);
          check("dbeta", actual.dbeta, expected.dbeta, 2 * kSingle);
          for (int threads : {1, 3}) {
            with_threads(threads, [&] {
              const Result again = run(cpu::group_norm_backward);
              EXPECT(same_bits(again.dx, actual.dx) && same_bits(again.dgamma, actual.dgamma) &&
                         same_bits(again.dbeta, actual.dbeta),
                     "%s: %d threads differ", isa, threads);
            });
          }
        });
      }
    }
  }
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
