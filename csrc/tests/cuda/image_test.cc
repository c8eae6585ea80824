// Upsampling, transposition and softmax.
#include <cmath>
#include <limits>
#include <utility>

#include "kernels/convolution.h"
#include "ref/ref_ops.h"
#include "tests/cuda/cuda_backend.h"
#include "tests/data.h"

namespace vilg::test {

VILG_TEST(cuda_upsample) {
  for (DType dtype : {kF, kH}) {
    for (int64_t channels : {1, 3, 4, 8, 12, 40, 300}) {
      const int64_t batch = 2, height = 3, width = 5, count = batch * height * width * channels;
      const Data x(dtype, static_cast<size_t>(count), 1);
      const Data dout(dtype, static_cast<size_t>(4 * count), 2);
      const auto forward = [&](auto op) {
        Output out(dtype, static_cast<size_t>(4 * count));
        op({out.data(), x.data(), dtype, batch, height, width, channels}, context());
        EXPECT(out.intact(), "%d channels: wrote outside", (int)channels);
        return out.values();
      };
      const auto backward = [&](auto op) {
        Output dx(dtype, static_cast<size_t>(count));
        op({dx.data(), dout.data(), dtype, batch, height, width, channels}, context());
        EXPECT(dx.intact(), "%d channels: wrote outside", (int)channels);
        return dx.values();
      };
      EXPECT(same_bits(forward(cuda_ops().upsample_forward), forward(ref::upsample_forward)),
             "%s, %d channels", dtype_name(dtype), (int)channels);
      // two additions one after the other, then the rounding to the storage type, which is the
      // same but for values next to a tie
      const double error =
          relative_error(backward(cuda_ops().upsample_backward), backward(ref::upsample_backward));
      EXPECT(error <= 3 * 0x1p-24 + (dtype == kH ? 0x1p-11 : 0), "%s, %d channels: %.3g",
             dtype_name(dtype), (int)channels, error);
    }
  }
}

VILG_TEST(cuda_transpose_is_exact) {
  for (const auto& [from, to] : {std::pair{kF, kF}, {kF, kH}, {kH, kF}, {kH, kH}}) {
    for (const auto& [rows, columns] : {std::pair<int64_t, int64_t>{3, 35},
                                        {35, 3},
                                        {1, 1},
                                        {8, 9},
                                        {9, 8},
                                        {9, 9},
                                        {32, 32},
                                        {33, 65},
                                        {1, 7},
                                        {300, 5},
                                        {300, 50}}) {
      const Data x(from, static_cast<size_t>(2 * rows * columns), 1);
      const auto run = [&](auto op) {
        Output out(to, x.f32.size());
        op({out.data(), x.data(), from, to, 2, rows, columns}, context());
        EXPECT(out.intact(), "%d x %d: wrote outside", (int)rows, (int)columns);
        return out.values();
      };
      EXPECT(same_bits(run(cuda_ops().transpose), run(ref::transpose)), "%s to %s, %d x %d",
             dtype_name(from), dtype_name(to), (int)rows, (int)columns);
    }
  }
}

VILG_TEST(cuda_softmax) {
  // around the lengths where a row gets more threads
  for (int64_t n : {1, 2, 31, 33, 128, 129, 1024, 1025, 5000}) {
    for (float scale : {1.0f, 0.125f, -3.0f, 40.0f}) {
      const int64_t rows = 5;
      auto x = random_floats(static_cast<size_t>(rows * n), 1, 5.0f);
      if (n > 2 && scale > 0) {
        x[static_cast<size_t>(n + 1)] = -std::numeric_limits<float>::infinity();
      }
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
      const auto actual = forward(cuda_ops().softmax_forward, false);
      // scale * x - top is up to 400 and rounded, and so is its product with log2 e: errors of
      // 2^-24 of it that the exponential makes relative; entries that matter are within 20 of it
      const double bound = 32 * 0x1p-24 * (1 + std::abs(scale) / 4.0);
      const double error = relative_error(actual, expected);
      EXPECT(error <= bound, "n %d, scale %g: %.3g, bound %.3g", (int)n, static_cast<double>(scale),
             error, bound);
      EXPECT(same_bits(forward(cuda_ops().softmax_forward, true), actual), "in place");
      const auto dx = backward(cuda_ops().softmax_backward, false);
      const double largest = max_abs_error(dx, backward(ref::softmax_backward, false));
      EXPECT(largest <= 16 * 0x1p-24 * std::abs(scale), "n %d: %.3g", (int)n, largest);
      EXPECT(same_bits(backward(cuda_ops().softmax_backward, true), dx), "in place");
    }
  }
}

VILG_TEST(cuda_softmax_keeps_zeros_and_nan) {
  const float inf = std::numeric_limits<float>::infinity();
  std::vector<float> x(200, 0.5f), out(200);
  x[3] = x[199] = -inf;
  cuda_ops().softmax_forward({out.data(), x.data(), 1, 200, 1.0f}, context());
  EXPECT(out[3] == 0 && out[199] == 0, "%g, %g", out[3], out[199]);
  x[190] = std::numeric_limits<float>::quiet_NaN();
  cuda_ops().softmax_forward({out.data(), x.data(), 1, 200, 1.0f}, context());
  EXPECT(std::isnan(out[0]) && std::isnan(out[190]), "NaN is lost");
}

}  // namespace vilg::test
