#include "tests/optimizer_problem.h"

#include "tests/cuda/cuda_backend.h"

namespace vilg::test {
namespace {

VILG_TEST(cuda_adamw) {
  for (size_t count : {1, 3, 4, 1021, 1024, 1025, 16388}) {
    for (float weight_decay : {0.0f, 0.1f}) {
      const AdamWState expected = train(ref_ops(), count, 4, weight_decay);
      const AdamWState actual = train(cuda_ops(), count, 4, weight_decay);
      // one step's update is at most about lr and off by some 6 ulp; the parameter rounds once:
      // four steps of (6 * 0.01 + 0.5) * 2^-23
      EXPECT(max_abs_error(actual.parameter, expected.parameter) < 4 * 0x1p-23, "%zu: %g", count,
             max_abs_error(actual.parameter, expected.parameter));
      EXPECT(relative_error(actual.m, expected.m) < 5e-7, "m");
      EXPECT(relative_error(actual.v, expected.v) < 5e-7, "v");
      EXPECT(actual.low_precision == to_bf16(actual.parameter), "rounded copy");
      EXPECT(train(cuda_ops(), count, 4, weight_decay) == actual, "same bits");
    }
  }
}

// Without a rounded copy, and an address that allows no vectors: the same bits.
VILG_TEST(cuda_adamw_anywhere) {
  constexpr size_t kCount = 64;
  const auto step = [](size_t shift) {
    std::vector<float> x[4];
    for (uint32_t i = 0; i < 4; ++i) {
      x[i] = random_floats(kCount, i + 1);
      for (float& value : x[i]) value = std::abs(value);
      x[i].insert(x[i].begin(), shift, 0.0f);
    }
    AdamWParams p;
    p.parameter = x[0].data() + shift, p.m = x[1].data() + shift, p.v = x[2].data() + shift;
    p.grad = x[3].data() + shift;
    p.num_elements = kCount, p.learning_rate = 0.1f, p.step = 3;
    cuda_ops().adamw(p, context());
    return std::vector<float>(x[0].begin() + static_cast<std::ptrdiff_t>(shift), x[0].end());
  };
  EXPECT(step(0) == step(1), "the same bits");
}

}  // namespace
}  // namespace vilg::test
