// Some steps of AdamW by the op of any table.
#pragma once

#include "tests/harness.h"

namespace vilg::test {

struct AdamWState {
  std::vector<float> parameter, m, v;
  std::vector<bf16> low_precision;
  bool operator==(const AdamWState&) const = default;
};

// `steps` steps with another gradient each.
inline AdamWState train(const OpTable& ops, size_t count, int steps, float weight_decay) {
  Guarded<float> parameter(count), m(count), v(count);
  Guarded<bf16> low(count);
  const auto start = random_floats(count, 1);
  for (size_t i = 0; i < count; ++i) {
    parameter.data()[i] = start[i];
    m.data()[i] = v.data()[i] = 0;
  }
  for (int t = 1; t <= steps; ++t) {
    const auto grad = random_floats(count, static_cast<uint32_t>(10 + t));
    AdamWParams p;
    p.parameter = parameter.data();
    p.low_precision = low.data();
    p.m = m.data();
    p.v = v.data();
    p.grad = grad.data();
    p.num_elements = static_cast<int64_t>(count);
    p.learning_rate = 0.01f;
    p.weight_decay = weight_decay;
    p.grad_scale = 0.25f;
    p.step = t;
    ops.adamw(p, context());
  }
  EXPECT(parameter.intact() && m.intact() && v.intact() && low.intact(), "writes outside");
  return {parameter.values(), m.values(), v.values(), low.values()};
}

}  // namespace vilg::test
