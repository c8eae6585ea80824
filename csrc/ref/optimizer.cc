#include <cmath>

#include "ref/ref_ops.h"

namespace vilg::ref {

void adamw(const AdamWParams& p, OpContext&) {
  validate(p);
  const double beta1 = p.beta1, beta2 = p.beta2, t = static_cast<double>(p.step);
  const double correction1 = 1 - std::pow(beta1, t), correction2 = 1 - std::pow(beta2, t);
  for (int64_t i = 0; i < p.num_elements; ++i) {
    const double g = static_cast<double>(p.grad_scale) * p.grad[i];
    const double m = beta1 * p.m[i] + (1 - beta1) * g;
    const double v = beta2 * p.v[i] + (1 - beta2) * g * g;
    const double update = (m / correction1) / (std::sqrt(v / correction2) + p.epsilon);
    p.m[i] = static_cast<float>(m);
    p.v[i] = static_cast<float>(v);
    p.parameter[i] = static_cast<float>(
        p.parameter[i] -
        p.learning_rate * (p.weight_decay * static_cast<double>(p.parameter[i]) + update));
    if (p.low_precision) p.low_precision[i] = float_to_bf16(p.parameter[i]);
  }
}

void squared_norm(const SquaredNormParams& p, OpContext&) {
  validate(p);
  double sum = 0;
  for (int64_t i = 0; i < p.num_elements; ++i) sum += static_cast<double>(p.x[i]) * p.x[i];
  *p.sum = sum;
}

}  // namespace vilg::ref
