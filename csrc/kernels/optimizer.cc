#include "kernels/optimizer.h"

#include <cfloat>

#include "kernels/checks.h"

namespace vilg {

void validate(const AdamWParams& p) {
  constexpr const char* kOp = "adamw";
  check_positive(kOp, "num_elements", p.num_elements);
  check_positive(kOp, "step", p.step);
  check_pointer(kOp, "parameter", p.parameter);
  check_pointer(kOp, "m", p.m);
  check_pointer(kOp, "v", p.v);
  check_pointer(kOp, "grad", p.grad);
  check_range(kOp, "learning_rate", p.learning_rate, 0, FLT_MAX);
  check_range(kOp, "beta1", p.beta1, 0, 1 - FLT_EPSILON / 2);  // 1 would divide by 0
  check_range(kOp, "beta2", p.beta2, 0, 1 - FLT_EPSILON / 2);
  check_range(kOp, "epsilon", p.epsilon, FLT_MIN, FLT_MAX);  // 0 / 0 where a gradient was never
  check_range(kOp, "weight_decay", p.weight_decay, 0, FLT_MAX);
  check_range(kOp, "grad_scale", p.grad_scale, -FLT_MAX, FLT_MAX);
}

void validate(const SquaredNormParams& p) {
  constexpr const char* kOp = "squared_norm";
  check_positive(kOp, "num_elements", p.num_elements);
  check_pointer(kOp, "sum", p.sum);
  check_pointer(kOp, "x", p.x);
}

}  // namespace vilg
