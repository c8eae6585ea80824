#include "kernels/checks.h"
#include "kernels/normalization.h"

namespace vilg {

void validate(const LayerNormForwardParams& p) {
  constexpr const char* kOp = "layer_norm_forward";
  check_positive(kOp, "rows", p.rows);
  check_positive(kOp, "channels", p.channels);
  check_float_dtype(kOp, "x", p.dtype);
  check_pointer(kOp, "out", p.out);
  check_pointer(kOp, "x", p.x);
  check_pointer(kOp, "gamma", p.gamma);
  check_pointer(kOp, "beta", p.beta);
  VILG_CHECK((p.mean == nullptr) == (p.rstd == nullptr), kInvalidArgument,
             "%s: expected memory for both mean and rstd or for neither", kOp);
  check_range(kOp, "epsilon", p.epsilon, 0, 1);
}

void validate(const LayerNormBackwardParams& p) {
  constexpr const char* kOp = "layer_norm_backward";
  check_positive(kOp, "rows", p.rows);
  check_positive(kOp, "channels", p.channels);
  check_float_dtype(kOp, "x", p.dtype);
  check_pointer(kOp, "dx", p.dx);
  check_pointer(kOp, "dgamma", p.dgamma);
  check_pointer(kOp, "dbeta", p.dbeta);
  check_pointer(kOp, "dout", p.dout);
  check_pointer(kOp, "x", p.x);
  check_pointer(kOp, "gamma", p.gamma);
  check_pointer(kOp, "mean", p.mean);
  check_pointer(kOp, "rstd", p.rstd);
}

}  // namespace vilg
