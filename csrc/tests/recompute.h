// Gradients with and without recomputation, for the tests of models.
#pragma once

#include <vector>

#include "model/parameters.h"
#include "tests/harness.h"

namespace vilg::test {

// The buffers that a model's gradients add up in, so that they do not count as memory of a pass.
inline void make_gradients(ParameterList& parameters) {
  for (Parameter& parameter : parameters.all()) {
    parameter.grad = parameters.backend().zeros(DType::kFloat32, parameter.value.shape());
  }
}

// `accumulate(recompute)` returns the loss and adds to the gradients of `parameters`.
template <typename Accumulate>
void expect_same_from_less_memory(ParameterList& parameters, const Accumulate& accumulate) {
  Allocator& allocator = parameters.backend().allocator();
  const char* device = parameters.backend().device();
  struct Pass {
    double loss;
    size_t peak;
    std::vector<std::vector<float>> gradients;
  };
  const auto run = [&](bool recompute) {
    Pass pass;
    parameters.zero_grad();
    allocator.reset_peak();
    const size_t before = allocator.bytes_in_use();
    pass.loss = accumulate(recompute);
    pass.peak = allocator.peak_bytes() - before;
    for (size_t i = 0; i < parameters.specs().size(); ++i) {
      pass.gradients.push_back(parameters.read(i, /*gradient=*/true));
    }
    return pass;
  };
  const Pass kept = run(false), again = run(true);
  EXPECT(kept.loss == again.loss, "%s: loss %g, recomputed %g", device, kept.loss, again.loss);
  EXPECT(kept.gradients == again.gradients, "%s: gradients", device);
  EXPECT(again.peak < kept.peak, "%s: %zu bytes, without %zu", device, again.peak, kept.peak);
}

}  // namespace vilg::test
