#include <cmath>

#include "tests/layer_norm_problem.h"

namespace vilg::test {
namespace {

constexpr int64_t kShapes[][2] = {{1, 1},   {3, 2},     {1, 15},   {2, 16},  {15, 17},
                                  {16, 31}, {17, 33},   {33, 63},  {5, 127}, {64, 64},
                                  {65, 65}, {1031, 96}, {7, 1024}, {2, 4099}};

}  // namespace

VILG_TEST(layer_norm_by_hand) {
  LayerNormCase c(1, 4, DType::kFloat32, 1);
  c.x = {1, 2, 3, 6};  // mean 3, variance 3.5
  c.gamma = {1, 2, 1, -1};
  c.beta = {0, 1, 0, 0};
  const double rstd = 1 / std::sqrt(3.5 + 1e-5);
  const std::vector<float> expected = {static_cast<float>(-2 * rstd),
                                       static_cast<float>(1 - 2 * rstd), 0,
                                       static_cast<float>(-3 * rstd)};
  for (const OpTable* ops : {&ref_ops(), &cpu_ops()}) {
    const LayerNormForward result = forward(*ops, c);
    EXPECT(max_abs_error(result.out, expected) < 3e-7, "%s", ops->name);
    EXPECT(result.mean[0] == 3 && std::abs(result.rstd[0] - rstd) < 1e-7, "%s", ops->name);
  }
}

VILG_TEST(layer_norm_backward_against_finite_differences) {
  LayerNormCase c(3, 7, DType::kFloat32, 10);
  const auto loss = [&] {
    double sum = 0;
    // the float32 output's rounding would drown the difference: measure in double here
    for (int64_t r = 0; r < c.rows; ++r) {
      double mean = 0, variance = 0;
      for (int64_t k = 0; k < 7; ++k) mean += c.x[static_cast<size_t>(r * 7 + k)] / 7.0;
      for (int64_t k = 0; k < 7; ++k) {
        const double d = c.x[static_cast<size_t>(r * 7 + k)] - mean;
        variance += d * d / 7.0;
      }
      for (int64_t k = 0; k < 7; ++k) {
        const auto i = static_cast<size_t>(r * 7 + k), j = static_cast<size_t>(k);
        sum += c.dout[i] * ((c.x[i] - mean) / std::sqrt(variance + 1e-5f) * c.gamma[j] + c.beta[j]);
      }
    }
    return sum;
  };
  // the double above is the op: forward agrees with it
  const LayerNormForward f = forward(ref_ops(), c);
  double inner = 0;
  for (size_t i = 0; i < f.out.size(); ++i) inner += static_cast<double>(c.dout[i]) * f.out[i];
  EXPECT(std::abs(inner - loss()) < 1e-5, "%g against %g", inner, loss());

  const LayerNormBackward g = backward(ref_ops(), c, f, false);
  for (size_t i = 0; i < c.x.size(); ++i) {
    const double expected = finite_difference(c.x, i, 1e-3, loss);
    EXPECT(std::abs(g.dx[i] - expected) < 2e-5, "dx[%zu] %g, %g", i, g.dx[i], expected);
  }
  for (size_t k = 0; k < 7; ++k) {
    const double by_gamma = finite_difference(c.gamma, k, 1e-2, loss);
    const double by_beta = finite_difference(c.beta, k, 1e-2, loss);
    EXPECT(std::abs(g.dgamma[k] - c.dgamma[k] - by_gamma) < 1e-5, "dgamma[%zu]", k);
    EXPECT(std::abs(g.dbeta[k] - c.dbeta[k] - by_beta) < 1e-5, "dbeta[%zu]", k);
  }
}

// float32: sums of C terms in some 16 chains, relative error of a few 2^-24; |x - mean| loses up to
// 2^-24 |mean| more, here at most as much again. bfloat16: the output's own rounding, 2^-9 of each
// element, so below 2^-8 of the norm even where all round the same way.
VILG_TEST(layer_norm_cpu_against_ref) {
  for_each_isa([](const char* isa) {
    for (const auto& [rows, channels] : kShapes) {
      for (DType dtype : {DType::kFloat32, DType::kBFloat16}) {
        const double bound = dtype == DType::kFloat32 ? 1e-6 : 0x1p-8;
        LayerNormCase c(rows, channels, dtype, static_cast<uint32_t>(rows * channels));
        if (dtype == DType::kBFloat16)
          c.x = to_float(to_bf16(c.x)), c.dout = to_float(to_bf16(c.dout));
        const LayerNormForward expected = forward(ref_ops(), c), actual = forward(cpu_ops(), c);
        EXPECT(relative_error(actual.out, expected.out) < bound, "%s %lld x %lld: %g", isa,
               static_cast<long long>(rows), static_cast<long long>(channels),
               relative_error(actual.out, expected.out));
        EXPECT(relative_error(actual.mean, expected.mean) < 1e-6, "%s mean", isa);
        EXPECT(relative_error(actual.rstd, expected.rstd) < 1e-6, "%s rstd", isa);
        if (channels < 3) continue;  // dx is 0 but for rounding with one or two channels
        for (bool accumulate : {false, true}) {
          const LayerNormBackward want = backward(ref_ops(), c, expected, accumulate);
          const LayerNormBackward have = backward(cpu_ops(), c, expected, accumulate);
          EXPECT(relative_error(have.dx, want.dx) < 2 * bound, "%s %lld x %lld dx: %g", isa,
                 static_cast<long long>(rows), static_cast<long long>(channels),
                 relative_error(have.dx, want.dx));
          EXPECT(relative_error(have.dgamma, want.dgamma) < 2e-6, "%s dgamma", isa);
          EXPECT(relative_error(have.dbeta, want.dbeta) < 2e-6, "%s dbeta", isa);
        }
      }
    }
  });
}

VILG_TEST(layer_norm_same_bits_with_any_thread_count) {
  for (DType dtype : {DType::kFloat32, DType::kBFloat16}) {
    const LayerNormCase c(333, 517, dtype, 7);
    LayerNormForward f;
    LayerNormBackward g;
    with_threads(1, [&] {
      f = forward(cpu_ops(), c);
      g = backward(cpu_ops(), c, f, true);
    });
    for (int threads : {2, 3}) {
      with_threads(threads, [&] {
        EXPECT(forward(cpu_ops(), c) == f, "forward, %d threads", threads);
        EXPECT(backward(cpu_ops(), c, f, true) == g, "backward, %d threads", threads);
      });
    }
  }
}

VILG_TEST(layer_norm_refuses) {
  float x[4] = {1, 2, 3, 4}, mean[2] = {0, 0};
  for (const OpTable* ops : {&ref_ops(), &cpu_ops()}) {
    LayerNormForwardParams p;
    p.out = x;
    p.x = x;
    p.gamma = p.beta = x;
    p.rows = 2;
    p.channels = 2;
    auto bad = p;
    bad.rows = 0;
    EXPECT_ERROR(kInvalidArgument, ops->layer_norm_forward(bad, context()));
    bad = p;
    bad.channels = -1;
    EXPECT_ERROR(kInvalidArgument, ops->layer_norm_forward(bad, context()));
    bad = p;
    bad.gamma = nullptr;
    EXPECT_ERROR(kInvalidArgument, ops->layer_norm_forward(bad, context()));
    bad = p;
    bad.mean = mean;
    EXPECT_ERROR(kInvalidArgument, ops->layer_norm_forward(bad, context()));
    bad = p;
    bad.dtype = DType::kInt32;
    EXPECT_ERROR(kUnsupported, ops->layer_norm_forward(bad, context()));
    LayerNormBackwardParams q;
    q.rows = 2;
    q.channels = 2;
    EXPECT_ERROR(kInvalidArgument, ops->layer_norm_backward(q, context()));
  }
}

}  // namespace vilg::test
