#include "kernels/activation.h"

#include "kernels/checks.h"

namespace vilg {
namespace {

void check_slope(const char* op, float slope) {
  VILG_CHECK(slope >= 0 && slope < 1, kInvalidArgument,
             "%s: expected a slope from 0 to below 1, received %g", op, static_cast<double>(slope));
}

}  // namespace

void validate(const LeakyReluForwardParams& p) {
  constexpr const char* kOp = "leaky_relu_forward";
  check_positive(kOp, "num_elements", p.num_elements);
  check_pointer(kOp, "out", p.out);
  check_pointer(kOp, "x", p.x);
  check_slope(kOp, p.slope);
}

void validate(const LeakyReluBackwardParams& p) {
  constexpr const char* kOp = "leaky_relu_backward";
  check_positive(kOp, "num_elements", p.num_elements);
  check_pointer(kOp, "dx", p.dx);
  check_pointer(kOp, "dout", p.dout);
  check_pointer(kOp, "out", p.out);
  check_slope(kOp, p.slope);
}

}  // namespace vilg
