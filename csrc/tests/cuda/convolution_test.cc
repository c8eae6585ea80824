#include "tests/convolution_problem.h"

#include <utility>

#include "ref/ref_ops.h"
#include "tests/cuda/cuda_backend.h"
#include "tests/cuda/emulation.h"

namespace vilg::test {
namespace {

using Case = ConvolutionCase;
using Types = ConvolutionTypes;

void check_forward(const Case& c, const Types& types) {
  ForwardConvolution problem(c, types);
  const auto expected = problem.run(ref::conv2d_forward);
  const auto actual = problem.run(cuda_ops().conv2d_forward);
  const double error = relative_error(actual, expected);
  EXPECT(error <= problem.tolerance(), "%s, %s: error %.3g, bound %.3g", c.name().c_str(),
         types.name().c_str(), error, problem.tolerance());
}

void check_forward(const Case& c) {
  for (const Types& types : kConvolutionTypes) check_forward(c, types);
}

void check_backward(const Case& c, const Types& types, bool accumulate) {
  BackwardConvolution problem(c, types, accumulate);
  const auto expected = problem.run(ref::conv2d_backward);
  const auto actual = problem.run(cuda_ops().conv2d_backward);
  problem.check("cuda", actual, expected);
  EXPECT(problem.same(problem.run(cuda_ops().conv2d_backward), actual), "%s: another run differs",
         c.name().c_str());
}

void check_backward(const Case& c) {
  bool accumulate = false;
  for (const Types& types : kConvolutionTypes) check_backward(c, types, accumulate = !accumulate);
}

// Every time that asynchronous copies may arrive, and another order of the threads.
template <typename Body>
void for_each_strictness(const Body& body) {
  using cuda::emulation::CopyTime;
  if (!cuda_emulated()) return;
  for (const auto& [copies, order_seed] :
       {std::pair{CopyTime::kEarliest, 0u}, {CopyTime::kLatest, 7u}, {CopyTime::kEarliest, 8u}}) {
    const Strict strict(copies, order_seed);
    body();
  }
}

}  // namespace

VILG_TEST(cuda_conv_forward_channels) {
  // slices of 32 floats and 64 bfloat16; tiles of 16 and 64 channels
  for (int64_t cin : {1, 3, 8, 32, 33, 64, 72}) {
    for (int64_t cout : {1, 3, 16, 17, 33, 65}) {
      const Case c{1, 3, 5, cin, cout, 3, 3, 1, 1, 1, 1, 1};
      check_forward(c, {kF, kF, kF});
      check_forward(c, {kH, kH, kH});
    }
  }
  check_forward({1, 2, 3, 140, 5, 3, 3, 1, 1, 1, 1, 1, 7});
}

VILG_TEST(cuda_conv_forward_sizes) {
  // tiles of 8 x 8 and 8 x 16 pixels
  for (int64_t width : {1, 7, 8, 9, 15, 16, 17, 33}) {
    check_forward({2, 3, width, 6, 7, 3, 3, 1, 1, 1, 1, 1});
  }
  check_forward({1, 17, 3, 4, 20, 3, 3, 1, 1, 1, 1, 1});
  check_forward({17, 3, 2, 4, 5, 3, 3, 1, 1, 1, 1, 1}, {kF, kF, kF});
}

// Enough blocks that the larger tiles are chosen.
VILG_TEST(cuda_conv_forward_large_tiles) {
  check_forward({1, 17, 18, 80, 130, 3, 3, 1, 1, 1, 1, 1, 8, 1, true, true}, {kF, kH, kH});
  check_forward({1, 9, 40, 64, 129, 3, 3, 1, 1, 1, 1, 1}, {kH, kF, kH});
  check_forward({2, 17, 18, 24, 40, 3, 3, 1, 1, 1, 1, 1, 6, 1, true, true}, {kH, kH, kH});
  check_forward({2, 17, 18, 24, 40, 3, 3, 1, 1, 1, 1, 1, 0, 2}, {kF, kF, kH});
  check_forward({1, 24, 33, 16, 130, 1, 1, 1, 0, 0, 0, 0}, {kF, kF, kH});
  check_forward({1, 35, 36, 16, 72, 3, 3, 2, 0, 0, 1, 1}, {kF, kF, kH});
}

VILG_TEST(cuda_conv_forward_kernels_strides_padding) {
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
  check_forward({1, 4, 4, 32, 16, 3, 3, 1, 0, 0, 0, 0, 0, 1, false});
  // halos that do not fit: a tap at a time
  check_forward({1, 6, 5, 3, 4, 31, 21, 1, 15, 10, 15, 10, 3, 1, true, true});
  check_forward({1, 70, 64, 2, 3, 63, 63, 1, 0, 0, 0, 0}, {kF, kF, kF});
  check_forward({1, 40, 40, 70, 3, 3, 3, 9, 1, 1, 1, 1, 7}, {kF, kF, kH});
  check_forward({1, 40, 40, 40, 20, 5, 4, 5, 1, 1, 1, 1, 8, 1, true, true}, {kH, kH, kH});
}

VILG_TEST(cuda_conv_forward_prologue_and_upsampling) {
  check_forward({2, 5, 6, 32, 33, 3, 3, 1, 1, 1, 1, 1, 8, 1, true, true});
  check_forward({2, 4, 5, 18, 3, 3, 3, 1, 1, 1, 1, 1, 9});
  check_forward({1, 4, 5, 64, 3, 3, 3, 1, 1, 1, 1, 1, 32});
  check_forward({1, 4, 15, 5, 7, 3, 3, 1, 1, 1, 1, 1, 5, 2});
  check_forward({2, 5, 3, 16, 20, 3, 3, 1, 1, 1, 1, 1, 0, 2, true, true});
  check_forward({1, 3, 4, 6, 5, 4, 2, 1, 2, 0, 1, 1, 3, 2});
  check_forward({1, 3, 4, 6, 5, 1, 1, 1, 0, 0, 0, 0, 3, 2});
  check_forward({1, 3, 4, 6, 5, 3, 3, 2, 0, 0, 1, 1, 3, 2});  // upsampled while it is read
  check_forward({1, 3, 5, 6, 5, 5, 5, 1, 2, 2, 2, 2, 2, 2});
}

// A picture's result has the same bits whatever runs beside it, though the tiles differ.
VILG_TEST(cuda_conv_does_not_depend_on_the_batch) {
  const auto forward = [](int64_t batch) {
    const Case c{batch, 9, 18, 72, 130, 3, 3, 1, 1, 1, 1, 1};
    std::vector<float> one = random_floats(static_cast<size_t>(9 * 18 * 72), 1), x;
    for (int64_t b = 0; b < batch; ++b) x.insert(x.end(), one.begin(), one.end());
    const Data w(kH, c.weight_count(), 2);
    Output out(kF, static_cast<size_t>(batch * 9 * 18 * 130));
    Conv2dForwardParams p;
    c.set_sizes(p);
    p.out = out.data(), p.x = x.data(), p.weight = w.data();
    p.weight_dtype = p.compute = kH;
    cuda_ops().conv2d_forward(p, context());
    return out.values();
  };
  const auto alone = forward(1), together = forward(3);
  for (size_t b = 0; b < 3; ++b) {
    const auto begin = together.begin() + static_cast<std::ptrdiff_t>(b * alone.size());
    EXPECT(same_bits({begin, begin + static_cast<std::ptrdiff_t>(alone.size())}, alone),
           "picture %zu", b);
  }
}

VILG_TEST(cuda_conv_whenever_copies_arrive) {
  const Case c{1, 10, 11, 136, 70, 3, 3, 1, 1, 1, 1, 1, 8, 1, true, true};
  for (const Types& types : {Types{kF, kH, kH}, Types{kF, kF, kF}}) {
    ForwardConvolution forward(c, types);
    const Case small{2, 9, 18, 40, 36, 3, 3, 1, 1, 1, 1, 1};
    BackwardConvolution backward(small, types, true);
    const auto out = forward.run(cuda_ops().conv2d_forward);
    const auto gradients = backward.run(cuda_ops().conv2d_backward);
    for_each_strictness([&] {
      EXPECT(same_bits(forward.run(cuda_ops().conv2d_forward), out), "forward, %s",
             types.name().c_str());
      EXPECT(backward.same(backward.run(cuda_ops().conv2d_backward), gradients), "backward, %s",
             types.name().c_str());
    });
  }
}

VILG_TEST(cuda_conv_backward_against_ref) {
  for (int64_t cin : {1, 3, 16, 33}) {
    for (int64_t cout : {1, 3, 17, 32}) check_backward({2, 5, 7, cin, cout, 3, 3, 1, 1, 1, 1, 1});
  }
  check_backward({1, 5, 9, 70, 66, 3, 3, 1, 1, 1, 1, 1});
  check_backward({2, 6, 8, 16, 17, 3, 3, 2, 0, 0, 1, 1});
  check_backward({2, 7, 9, 5, 6, 3, 3, 2, 0, 0, 1, 1});
  check_backward({1, 9, 11, 5, 6, 4, 4, 2, 1, 1, 1, 1});
  check_backward({1, 9, 11, 3, 64, 4, 4, 1, 1, 1, 1, 1});
  check_backward({2, 5, 7, 20, 9, 1, 1, 1, 0, 0, 0, 0});
  check_backward({1, 7, 8, 4, 5, 1, 1, 2, 0, 0, 0, 0});  // inputs that nobody reads
  check_backward({1, 7, 8, 4, 5, 2, 3, 3, 0, 2, 2, 1});
  check_backward({1, 2, 3, 4, 5, 2, 3, 5, 0, 2, 2, 1});  // a stride beyond the picture
  check_backward({1, 3, 3, 2, 3, 3, 3, 1, 4, 5, 6, 4});
  check_backward({2, 17, 20, 4, 5, 3, 3, 1, 1, 1, 1, 1});  // several parts
  check_backward({1, 1, 300, 4, 40, 1, 1, 1, 0, 0, 0, 0});
  check_backward({1, 9, 8, 3, 2, 7, 8, 1, 3, 3, 3, 4});
}

VILG_TEST(cuda_conv_backward_takes_any_subset_of_outputs) {
  const Case c{1, 4, 5, 3, 6, 3, 3, 1, 1, 1, 1, 1};
  BackwardConvolution problem(c, {kF, kF, kF}, false);
  ConvolutionGradients all = problem.run(cuda_ops().conv2d_backward);
  for (int given = 1; given < 7; ++given) {
    const auto some = problem.run([&](Conv2dBackwardParams p, OpContext& ctx) {
      if (!(given & 1)) p.dx = nullptr;
      if (!(given & 2)) p.dweight = nullptr, p.x = nullptr;
      if (!(given & 4)) p.dbias = nullptr;
      if (!p.dx) p.weight = nullptr;
      cuda_ops().conv2d_backward(p, ctx);
    });
    EXPECT(same_bits(some.dx, all.dx) == bool(given & 1), "dx of %d", given);
    EXPECT(same_bits(some.dweight, all.dweight) == bool(given & 2), "dweight of %d", given);
    EXPECT(same_bits(some.dbias, all.dbias) == bool(given & 4), "dbias of %d", given);
  }
}

}  // namespace vilg::test
