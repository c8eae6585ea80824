#include "kernels/loss.h"

#include <cfloat>

#include "kernels/checks.h"

namespace vilg {

void validate(const CrossEntropyParams& p) {
  constexpr const char* kOp = "cross_entropy";
  check_positive(kOp, "rows", p.rows);
  check_positive(kOp, "vocab", p.vocab);
  check_pointer(kOp, "loss", p.loss);
  check_pointer(kOp, "logits", p.logits);
  check_pointer(kOp, "targets", p.targets);
  check_range(kOp, "row_scale", p.row_scale, -FLT_MAX, FLT_MAX);
  check_range(kOp, "label_smoothing", p.label_smoothing, 0, 1);
  check_range(kOp, "z_loss", p.z_loss, 0, FLT_MAX);
}

void validate(const SquaredErrorParams& p) {
  constexpr const char* kOp = "squared_error";
  check_positive(kOp, "num_elements", p.num_elements);
  check_pointer(kOp, "x", p.x);
  check_pointer(kOp, "y", p.y);
  VILG_CHECK(p.sum || p.dx, kInvalidArgument, "%s: expected memory for sum, dx or both", kOp);
  check_range(kOp, "scale", p.scale, -FLT_MAX, FLT_MAX);
}

}  // namespace vilg
