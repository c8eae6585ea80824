#include "tests/group_norm_problem.h"

#include "ref/ref_ops.h"
#include "tests/cuda/cuda_backend.h"

namespace vilg::test {

VILG_TEST(cuda_group_norm_forward) {
  for_each_group_norm([](const GroupNormProblem& problem) {
    const GroupNormResult expected = problem.forward(ref::group_norm_forward);
    const GroupNormResult actual = problem.forward(cuda_ops().group_norm_forward);
    problem.check("cuda", actual, expected);
    const GroupNormResult alone =
        problem.forward(cuda_ops().group_norm_forward, /*with_out=*/false);
    EXPECT(same_bits(alone.mean, actual.mean) && same_bits(alone.rstd, actual.rstd),
           "%s: statistics alone differ", problem.name().c_str());
  });
}

VILG_TEST(cuda_group_norm_backward) {
  for_each_group_norm([](const GroupNormProblem& problem) {
    const GroupNormGradients actual = problem.backward(cuda_ops().group_norm_backward);
    problem.check("cuda", actual, problem.backward(ref::group_norm_backward));
    EXPECT(problem.same(problem.backward(cuda_ops().group_norm_backward), actual),
           "%s: another run differs", problem.name().c_str());
  });
}

// More channels than a block has threads, groups across the threads' vectors, more pixels than
// chunks, and a picture whose first pixels are nothing like the others.
VILG_TEST(cuda_group_norm_shapes) {
  for (const GroupNormCase& c : {GroupNormCase{1, 3, 1100, 2},
                                 {2, 5, 2100, 3},
                                 {1, 40, 1030, 206},
                                 {1, 9000, 24, 12},
                                 {1, 300000, 8, 4, 1000.0f}}) {
    for (DType dtype : {kF, kH}) {
      const GroupNormProblem problem(c, dtype, true);
      problem.check("cuda", problem.forward(cuda_ops().group_norm_forward),
                    problem.forward(ref::group_norm_forward));
      if (c.offset == 0) {
        problem.check("cuda", problem.backward(cuda_ops().group_norm_backward),
                      problem.backward(ref::group_norm_backward));
      }
    }
  }
  constexpr int64_t kPixels = 5000, kChannels = 8;
  std::vector<float> x = random_floats(kPixels * kChannels, 1);
  std::fill_n(x.begin(), 3 * kChannels, 1e5f);
  float mean[2], rstd[2], expected_mean[2], expected_rstd[2];
  GroupNormForwardParams p;
  p.x = x.data(), p.batch = 1, p.pixels = kPixels, p.channels = kChannels, p.groups = 2;
  p.mean = expected_mean, p.rstd = expected_rstd;
  ref::group_norm_forward(p, context());
  p.mean = mean, p.rstd = rstd;
  cuda_ops().group_norm_forward(p, context());
  for (int g = 0; g < 2; ++g) {
    // the outliers decide about both: as exact as the sums of a thread, a few dozen roundings
    EXPECT(std::abs(mean[g] / expected_mean[g] - 1) < 32 * 0x1p-24 &&
               std::abs(rstd[g] / expected_rstd[g] - 1) < 32 * 0x1p-24,
           "group %d: %.9g, %.9g, expected %.9g, %.9g", g, mean[g], rstd[g], expected_mean[g],
           expected_rstd[g]);
  }
}

VILG_TEST(cuda_group_norm_does_not_depend_on_the_batch) {
  const auto forward = [](int64_t batch) {
    const std::vector<float> one = random_floats(700 * 32, 1);
    std::vector<float> x;
    for (int64_t b = 0; b < batch; ++b) x.insert(x.end(), one.begin(), one.end());
    std::vector<float> mean(static_cast<size_t>(4 * batch)), rstd(mean.size());
    GroupNormForwardParams p;
    p.x = x.data(), p.mean = mean.data(), p.rstd = rstd.data();
    p.batch = batch, p.pixels = 700, p.channels = 32, p.groups = 4;
    cuda_ops().group_norm_forward(p, context());
    rstd.insert(rstd.end(), mean.end() - 4, mean.end());  // of the last picture
    return std::vector<float>(rstd.end() - 8, rstd.end());
  };
  EXPECT(same_bits(forward(5), forward(1)), "the last of five differs from one alone");
}

}  // namespace vilg::test
