#include <algorithm>
#include <cmath>
#include <cstring>

#include "cpu/cpu_ops.h"
#include "ref/ref_ops.h"
#include "tests/convolution_problem.h"

namespace vilg::test {
namespace {

using Case = ConvolutionCase;
using Types = ConvolutionTypes;

void check_forward(const Case& c, DType dtype, DType weight_dtype, DType compute) {
  const Types types{dtype, weight_dtype, compute};
  ForwardConvolution problem(c, types);
  const auto expected = problem.run(ref::conv2d_forward);
  for_each_isa([&](const char* isa) {
    const auto actual = problem.run(cpu::conv2d_forward);
    const double error = relative_error(actual, expected);
    EXPECT(error <= problem.tolerance(), "%s, %s, %s: error %.3g, bound %.3g", isa,
           c.name().c_str(), types.name().c_str(), error, problem.tolerance());
    for (int threads : {1, 3}) {
      with_threads(threads, [&] {
        EXPECT(same_bits(problem.run(cpu::conv2d_forward), actual), "%s, %s: %d threads differ",
               isa, c.name().c_str(), threads);
      });
    }
  });
}

void check_forward(const Case& c) {
  for (const Types& t : kConvolutionTypes) check_forward(c, t.dtype, t.weight, t.compute);
}

}  // namespace

VILG_TEST(conv_forward_channels) {
  for (int64_t cin : {1, 3, 5, 16, 17, 32, 33, 64}) {
    for (int64_t cout : {1, 3, 4, 5, 16, 17, 31, 32, 33, 64}) {
      check_forward({1, 3, 5, cin, cout, 3, 3, 1, 1, 1, 1, 1}, kF, kF, kF);
      check_forward({1, 3, 5, cin, cout, 3, 3, 1, 1, 1, 1, 1}, kH, kH, kH);
    }
  }
}

VILG_TEST(conv_forward_sizes) {
  // widths that straddle the tile's 4, 6, 8 or 14 rows
  for (int64_t width : {1, 2, 4, 7, 13, 14, 15, 17, 29, 31}) {
    check_forward({2, 3, width, 6, 7, 3, 3, 1, 1, 1, 1, 1});
  }
  check_forward({1, 1, 700, 3, 5, 1, 3, 1, 0, 1, 0, 1}, kF, kF, kF);  // several strips
  check_forward({1, 40, 3, 4, 5, 3, 3, 1, 1, 1, 1, 1}, kF, kF, kF);   // several bands
  check_forward({17, 3, 2, 4, 5, 3, 3, 1, 1, 1, 1, 1}, kF, kF, kF);
  // panels longer than a block of runs (320 KB), several passes of one band
  check_forward({1, 17, 4, 520, 33, 3, 3, 1, 1, 1, 1, 1}, kF, kF, kF);
  check_forward({1, 3, 4, 1030, 3, 3, 3, 1, 1, 1, 1, 1}, kH, kH, kH);
}

VILG_TEST(conv_forward_kernels_strides_padding) {
  check_forward({2, 5, 7, 8, 9, 1, 1, 1, 0, 0, 0, 0, 0, 1, true, true});
  check_forward({2, 5, 7, 32, 33, 1, 1, 1, 0, 0, 0, 0, 4, 1, true, true});
  check_forward({1, 9, 11, 5, 6, 4, 4, 2, 1, 1, 1, 1});
  check_forward({1, 9, 11, 5, 6, 4, 4, 1, 1, 1, 1, 1});
  check_forward({2, 8, 10, 16, 17, 3, 3, 2, 0, 0, 1, 1});  // taming's downsampling
  check_forward({2, 9, 7, 6, 3, 3, 3, 2, 0, 0, 1, 1, 3});
  check_forward({1, 6, 9, 3, 4, 7, 5, 1, 3, 2, 3, 2});
  check_forward({1, 6, 9, 3, 4, 2, 3, 3, 0, 2, 5, 1});
  check_forward({1, 3, 3, 2, 3, 3, 3, 1, 4, 5, 6, 4});  // more padding than kernel
  check_forward({1, 1, 1, 3, 2, 1, 1, 1, 0, 0, 0, 0, 0, 1, false});
  check_forward({1, 4, 4, 32, 16, 3, 3, 1, 0, 0, 0, 0, 0, 1, false});  // read in place
}

VILG_TEST(conv_forward_prologue_and_upsampling) {
  check_forward({2, 5, 6, 32, 33, 3, 3, 1, 1, 1, 1, 1, 8, 1, true, true});
  check_forward({2, 4, 5, 18, 3, 3, 3, 1, 1, 1, 1, 1, 9});
  check_forward({1, 4, 5, 64, 3, 3, 3, 1, 1, 1, 1, 1, 32});  // few output channels
  check_forward({1, 4, 15, 5, 7, 3, 3, 1, 1, 1, 1, 1, 5, 2});
  check_forward({2, 5, 3, 16, 20, 3, 3, 1, 1, 1, 1, 1, 0, 2, true, true});
  check_forward({1, 3, 4, 6, 5, 4, 2, 1, 2, 0, 1, 1, 3, 2});
  check_forward({1, 3, 4, 6, 5, 1, 1, 1, 0, 0, 0, 0, 3, 2});
  check_forward({1, 3, 4, 6, 5, 3, 3, 2, 0, 0, 1, 1, 3, 2});  // gathered
  check_forward({1, 3, 5, 6, 5, 5, 5, 1, 2, 2, 2, 2, 2, 2});
}

namespace {

Conv2dBackwardParams backward_params(const Case& c) {
  Conv2dBackwardParams p;
  c.set_sizes(p);
  return p;
}

void check_backward(const Case& c, const Types& types, bool accumulate) {
  BackwardConvolution problem(c, types, accumulate);
  const ConvolutionGradients expected = problem.run(ref::conv2d_backward);
  for_each_isa([&](const char* isa) {
    const ConvolutionGradients actual = problem.run(cpu::conv2d_backward);
    problem.check(isa, actual, expected);
    for (int threads : {1, 3}) {
      with_threads(threads, [&] {
        EXPECT(problem.same(problem.run(cpu::conv2d_backward), actual), "%s, %s: %d threads differ",
               isa, c.name().c_str(), threads);
      });
    }
  });
}

void check_backward(const Case& c) {
  bool accumulate = false;
  for (const Types& t : kConvolutionTypes) check_backward(c, t, accumulate = !accumulate);
}

}  // namespace

VILG_TEST(conv_backward_against_ref) {
  for (int64_t cin : {1, 3, 16, 33}) {
    for (int64_t cout : {1, 3, 17, 32}) check_backward({2, 5, 7, cin, cout, 3, 3, 1, 1, 1, 1, 1});
  }
  check_backward({2, 6, 8, 16, 17, 3, 3, 2, 0, 0, 1, 1});
  check_backward({2, 7, 9, 5, 6, 3, 3, 2, 0, 0, 1, 1});
  check_backward({1, 9, 11, 5, 6, 4, 4, 2, 1, 1, 1, 1});
  check_backward({1, 9, 11, 3, 64, 4, 4, 1, 1, 1, 1, 1});
  check_backward({2, 5, 7, 20, 9, 1, 1, 1, 0, 0, 0, 0});
  check_backward({1, 7, 8, 4, 5, 1, 1, 2, 0, 0, 0, 0});  // inputs that nobody reads
  check_backward({1, 7, 8, 4, 5, 2, 3, 3, 0, 2, 2, 1});
  check_backward({1, 3, 3, 2, 3, 3, 3, 1, 4, 5, 6, 4});
  check_backward({3, 40, 30, 4, 5, 3, 3, 1, 1, 1, 1, 1});  // several chunks
  check_backward({1, 1, 300, 4, 40, 1, 1, 1, 0, 0, 0, 0});
}

VILG_TEST(conv_backward_takes_any_subset_of_outputs) {
  const Case c{1, 4, 5, 3, 6, 3, 3, 1, 1, 1, 1, 1};
  Conv2dBackwardParams p = backward_params(c);
  const Data x(kF, 60, 1), dout(kF, 120, 2), w(kF, 162, 3);
  p.dout = dout.data();
  EXPECT_ERROR(kInvalidArgument, cpu::conv2d_backward(p, context()));
  Guarded<float> dbias(6), dweight(162), dx(60);
  std::fill_n(dbias.data(), 6, 0.0f);
  p.dbias = dbias.data();
  cpu::conv2d_backward(p, context());  // neither x nor weight is needed
  double sum = 0;
  for (size_t i = 0; i < 20; ++i) sum += dout.f32[i * 6 + 2];
  EXPECT(std::abs(dbias.values()[2] - sum) < 1e-5, "%g, expected %g", dbias.values()[2], sum);
  p.dbias = nullptr;
  p.dx = dx.data();
  EXPECT_ERROR(kInvalidArgument, cpu::conv2d_backward(p, context()));
  p.weight = w.data();
  cpu::conv2d_backward(p, context());
  p.dx = nullptr;
  p.dweight = dweight.data();
  EXPECT_ERROR(kInvalidArgument, cpu::conv2d_backward(p, context()));
}

// ref::conv2d_backward against the slope of sum(out * dout)
VILG_TEST(conv_backward_finite_differences) {
  for (const Case& c :
       {Case{2, 4, 5, 3, 2, 3, 3, 1, 1, 1, 1, 1}, Case{1, 6, 5, 2, 3, 3, 3, 2, 0, 0, 1, 1},
        Case{1, 5, 6, 2, 2, 4, 4, 2, 1, 1, 1, 1}}) {
    Conv2dBackwardParams p = backward_params(c);
    auto x = random_floats(static_cast<size_t>(c.batch * c.height * c.width * c.cin), 21);
    auto w = random_floats(static_cast<size_t>(c.cout * c.kernel_y * c.kernel_x * c.cin), 22);
    auto bias = random_floats(static_cast<size_t>(c.cout), 23);
    const size_t out_count = static_cast<size_t>(c.batch * p.out_height() * p.out_width() * c.cout);
    const auto dout = random_floats(out_count, 24);
    std::vector<float> out(out_count), dx(x.size()), dw(w.size()), db(bias.size());
    Conv2dForwardParams f;
    f.out = out.data();
    f.x = x.data();
    f.weight = w.data();
    f.bias = bias.data();
    c.set_sizes(f);
    const auto loss = [&] {
      ref::conv2d_forward(f, context());
      double sum = 0;
      for (size_t i = 0; i < out_count; ++i) sum += static_cast<double>(out[i]) * dout[i];
      return sum;
    };
    p.dx = dx.data();
    p.dweight = dw.data();
    p.dbias = db.data();
    p.dout = dout.data();
    p.x = x.data();
    p.weight = w.data();
    ref::conv2d_backward(p, context());
    // linear in each of the three: only the float32 outputs' rounding (2^-24 of sums near 3, over
    // about 100 of them) is left, divided by the step
    const auto check = [&](const char* name, std::vector<float>& v,
                           const std::vector<float>& grad) {
      for (size_t i = 0; i < v.size(); ++i) {
        const double slope = finite_difference(v, i, 0.25, loss);
        EXPECT(std::abs(slope - grad[i]) < 2e-5, "%s, %s[%zu]: %g, slope %g", c.name().c_str(),
               name, i, grad[i], slope);
      }
    };
    check("dx", x, dx);
    check("dweight", w, dw);
    check("dbias", bias, db);
  }
}

VILG_TEST(conv_refuses_what_it_cannot_do) {
  std::vector<float> memory(4096, 1.0f);
  Conv2dForwardParams good;
  good.out = memory.data();
  good.x = memory.data() + 1024;
  good.weight = memory.data() + 2048;
  good.batch = 1;
  good.height = good.width = 4;
  good.in_channels = good.out_channels = 2;
  good.kernel_y = good.kernel_x = 3;
  good.pad_top = good.pad_left = good.pad_bottom = good.pad_right = 1;
  for (auto op : {ref::conv2d_forward, cpu::conv2d_forward}) {
    op(good, context());
    const auto refuses = [&](auto change) {
      Conv2dForwardParams p = good;
      change(p);
      op(p, context());
    };
    using P = Conv2dForwardParams;
    EXPECT_ERROR(kInvalidArgument, refuses([](P& p) { p.x = nullptr; }));
    EXPECT_ERROR(kInvalidArgument, refuses([](P& p) { p.out = nullptr; }));
    EXPECT_ERROR(kInvalidArgument, refuses([](P& p) { p.weight = nullptr; }));
    EXPECT_ERROR(kInvalidArgument, refuses([](P& p) { p.batch = 0; }));
    EXPECT_ERROR(kInvalidArgument, refuses([](P& p) { p.width = -1; }));
    EXPECT_ERROR(kInvalidArgument, refuses([](P& p) { p.stride = 0; }));
    EXPECT_ERROR(kShapeMismatch, refuses([](P& p) { p.pad_left = -1; }));
    EXPECT_ERROR(kShapeMismatch, refuses([](P& p) { p.kernel_y = 7; }));
    EXPECT_ERROR(kUnsupported, refuses([](P& p) { p.kernel_x = 64; }));
    EXPECT_ERROR(kUnsupported, refuses([](P& p) { p.dtype = DType::kInt32; }));
    EXPECT_ERROR(kUnsupported, refuses([](P& p) { p.compute = DType::kUInt8; }));
    EXPECT_ERROR(kUnsupported, refuses([](P& p) { p.upsample = 3; }));
    EXPECT_ERROR(kInvalidArgument, refuses([&](P& p) { p.norm_mean = memory.data(); }));
    EXPECT_ERROR(kShapeMismatch, refuses([&](P& p) {
                   p.norm_mean = p.norm_rstd = p.norm_gamma = p.norm_beta = memory.data();
                   p.norm_groups = 3;
                 }));
  }
}

VILG_TEST(conv_stops_when_asked) {
  std::vector<float> memory(4096, 1.0f);
  Conv2dForwardParams p;
  p.out = memory.data();
  p.x = memory.data() + 1024;
  p.weight = memory.data() + 2048;
  p.batch = 1;
  p.height = p.width = 4;
  p.in_channels = p.out_channels = 2;
  StopFlag stop;
  stop.raise();
  OpContext ctx = context();
  ctx.stop = &stop;
  bool stopped = false;
  try {
    cpu::conv2d_forward(p, ctx);
  } catch (const Stopped&) {
    stopped = true;
  }
  EXPECT(stopped, "ran to the end");
}

VILG_TEST(upsample_against_ref) {
  for (const Types& t : {kConvolutionTypes[0], kConvolutionTypes[1]}) {
    for (int64_t channels : {1, 3, 16, 17, 40}) {
      const int64_t batch = 2, height = 3, width = 5, count = batch * height * width * channels;
      const Data x(t.dtype, static_cast<size_t>(count), 1);
      const Data dout(t.dtype, static_cast<size_t>(4 * count), 2);
      const auto forward = [&](auto op) {
        Output out(t.dtype, static_cast<size_t>(4 * count));
        op({out.data(), x.data(), t.dtype, batch, height, width, channels}, context());
        EXPECT(out.intact(), "%d channels: wrote outside", (int)channels);
        return out.values();
      };
      const auto backward = [&](auto op) {
        Output dx(t.dtype, static_cast<size_t>(count));
        op({dx.data(), dout.data(), t.dtype, batch, height, width, channels}, context());
        EXPECT(dx.intact(), "%d channels: wrote outside", (int)channels);
        return dx.values();
      };
      const auto up = forward(ref::upsample_forward), down = backward(ref::upsample_backward);
      for_each_isa([&](const char* isa) {
        EXPECT(same_bits(forward(cpu::upsample_forward), up), "%s, %d channels", isa,
               (int)channels);
        const double error = relative_error(backward(cpu::upsample_backward), down);
        EXPECT(error <= convolution_tolerance(4, t.dtype, kF), "%s, %d channels: %g", isa,
               (int)channels, error);
      });
    }
  }
}

VILG_TEST(transpose_is_exact) {
  for (const auto& [from, to] : {std::pair{kF, kF}, {kF, kH}, {kH, kF}, {kH, kH}}) {
    for (const auto& [rows, columns] :
         {std::pair<int64_t, int64_t>{3, 35}, {35, 3}, {16, 16}, {17, 33}, {1, 7}, {300, 5}}) {
      const Data x(from, static_cast<size_t>(2 * rows * columns), 1);
      const auto run = [&](auto op) {
        Output out(to, x.f32.size());
        op({out.data(), x.data(), from, to, 2, rows, columns}, context());
        EXPECT(out.intact(), "%d x %d: wrote outside", (int)rows, (int)columns);
        return out.values();
      };
      const auto expected = run(ref::transpose);
      const float rounded = to == kH ? bf16_to_float(float_to_bf16(x.f32[1])) : x.f32[1];
      EXPECT(expected[static_cast<size_t>(columns > 1 ? rows : 1)] == rounded, "ref");
      for_each_isa([&](const char* isa) {
        EXPECT(same_bits(run(cpu::transpose), expected), "%s, %d x %d", isa, (int)rows,
               (int)columns);
      });
    }
  }
}

}  // namespace vilg::test
