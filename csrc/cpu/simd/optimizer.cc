#include "cpu/simd/optimizer.h"

#include "cpu/simd/vec.h"

namespace vilg::cpu {
namespace {

inline void update(vf& p, vf& m, vf& v, vf g, const AdamWStep& s) {
  g = s.grad_scale * g;
  m = s.beta1 * m + (1.0f - s.beta1) * g;
  v = s.beta2 * v + (1.0f - s.beta2) * (g * g);
  const vf step = (m * s.correction1) / (sqrt(v * s.correction2) + s.epsilon);
  p = p - s.learning_rate * (s.weight_decay * p + step);
}

void adamw(float* parameter, uint16_t* low_precision, float* m, float* v, const float* grad,
           int64_t n, const AdamWStep* step) {
  const AdamWStep s = *step;
  int64_t i = 0;
  for (; i + kWidth <= n; i += kWidth) {
    vf p = load(parameter + i), first = load(m + i), second = load(v + i);
    update(p, first, second, load(grad + i), s);
    store(parameter + i, p);
    store(m + i, first);
    store(v + i, second);
    if (low_precision) store(low_precision + i, p);
  }
  if (const int64_t tail = n - i; tail > 0) {
    vf p = load_partial(parameter + i, tail), first = load_partial(m + i, tail);
    vf second = load_partial(v + i, tail);
    update(p, first, second, load_partial(grad + i, tail), s);
    store_partial(parameter + i, p, tail);
    store_partial(m + i, first, tail);
    store_partial(v + i, second, tail);
    if (low_precision) store_partial(low_precision + i, p, tail);
  }
}

}  // namespace

VILG_SIMD_ENTRY(OptimizerSimd, optimizer) {
  static const OptimizerSimd table = {adamw};
  return &table;
}

}  // namespace vilg::cpu
