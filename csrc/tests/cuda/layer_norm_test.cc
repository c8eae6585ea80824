#include "tests/layer_norm_problem.h"

#include "tests/cuda/cuda_backend.h"
#include "tests/data.h"

namespace vilg::test {
namespace {

// A warp a row up to 512 channels, then a block; backward in one pass up to 4096, forward in
// registers up to 16384. Multiples of a vector and not; few rows and several runs of them.
constexpr int64_t kShapes[][2] = {{1, 1},    {3, 3},    {9, 15},    {2, 16},   {15, 17},
                                  {16, 31},  {17, 64},  {1031, 96}, {5, 127},  {4, 512},
                                  {5, 513},  {3, 520},  {300, 768}, {7, 1024}, {2, 4096},
                                  {9, 4097}, {9, 4104}, {2, 16384}, {2, 16385}};

// As for the CPU (tests/layer_norm_test.cc): a thread adds 16 terms, then threads add in pairs, so
// that sums are a little better than its chains.
VILG_TEST(cuda_layer_norm) {
  for (const auto& [rows, channels] : kShapes) {
    for (DType dtype : {kF, kH}) {
      const double bound = dtype == kF ? 1e-6 : 0x1p-8;
      LayerNormCase c(rows, channels, dtype, static_cast<uint32_t>(rows * channels));
      if (dtype == kH) c.x = to_float(to_bf16(c.x)), c.dout = to_float(to_bf16(c.dout));
      const LayerNormForward expected = forward(ref_ops(), c), actual = forward(cuda_ops(), c);
      const std::string what =
          format("%s %lld x %lld", dtype_name(dtype), static_cast<long long>(rows),
                 static_cast<long long>(channels));
      EXPECT(relative_error(actual.out, expected.out) < bound, "%s: %g", what.c_str(),
             relative_error(actual.out, expected.out));
      EXPECT(relative_error(actual.mean, expected.mean) < 1e-6, "%s mean", what.c_str());
      EXPECT(relative_error(actual.rstd, expected.rstd) < 1e-6, "%s rstd", what.c_str());
      if (channels < 3) continue;  // dx is 0 but for rounding with one or two channels
      for (bool accumulate : {false, true}) {
        const LayerNormBackward want = backward(ref_ops(), c, expected, accumulate);
        const LayerNormBackward have = backward(cuda_ops(), c, expected, accumulate);
        EXPECT(relative_error(have.dx, want.dx) < 2 * bound, "%s dx: %g", what.c_str(),
               relative_error(have.dx, want.dx));
        EXPECT(relative_error(have.dgamma, want.dgamma) < 2e-6, "%s dgamma: %g", what.c_str(),
               relative_error(have.dgamma, want.dgamma));
        EXPECT(relative_error(have.dbeta, want.dbeta) < 2e-6, "%s dbeta: %g", what.c_str(),
               relative_error(have.dbeta, want.dbeta));
      }
    }
  }
}

VILG_TEST(cuda_layer_norm_same_bits) {
  for (int64_t channels : {200, 1032}) {
    const LayerNormCase c(70, channels, kF, 5);
    const LayerNormForward once = forward(cuda_ops(), c);
    EXPECT(forward(cuda_ops(), c) == once, "forward twice");
    EXPECT(backward(cuda_ops(), c, once, true) == backward(cuda_ops(), c, once, true), "backward");
    // one row alone, at an address that allows no vectors
    LayerNormCase one(1, channels, kF, 5);
    std::vector<float> x(c.x.end() - channels - 1, c.x.end()), out(x.size());
    LayerNormForwardParams p;
    p.x = x.data() + 1, p.out = out.data() + 1;
    p.gamma = c.gamma.data(), p.beta = c.beta.data();
    p.rows = 1, p.channels = channels;
    cuda_ops().layer_norm_forward(p, context());
    EXPECT(std::equal(out.begin() + 1, out.end(), once.out.end() - channels), "a row alone");
  }
}

}  // namespace
}  // namespace vilg::test
