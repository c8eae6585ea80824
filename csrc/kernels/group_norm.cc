#include "kernels/checks.h"
#include "kernels/normalization.h"

namespace vilg {
namespace {

template <typename Params>
void check_group_norm(const Params& p, const char* op) {
  check_float_dtype(op, "dtype", p.dtype);
  check_positive(op, "batch", p.batch);
  check_positive(op, "pixels", p.pixels);
  check_positive(op, "channels", p.channels);
  VILG_CHECK(p.groups >= 1 && p.channels % p.groups == 0, kShapeMismatch,
             "Expected groups that divide the %lld channels for %s, received %lld",
             static_cast<long long>(p.channels), op, static_cast<long long>(p.groups));
  check_pointer(op, "x", p.x);
  check_pointer(op, "mean", p.mean);
  check_pointer(op, "rstd", p.rstd);
}

}  // namespace

void validate(const GroupNormForwardParams& p) {
  const char* op = "group_norm_forward";
  check_group_norm(p, op);
  VILG_CHECK(p.epsilon > 0, kInvalidArgument, "Expected a positive epsilon for %s, received %g", op,
             static_cast<double>(p.epsilon));
  if (p.out) {
    check_pointer(op, "gamma", p.gamma);
    check_pointer(op, "beta", p.beta);
  }
}

void validate(const GroupNormBackwardParams& p) {
  const char* op = "group_norm_backward";
  check_group_norm(p, op);
  check_pointer(op, "dx", p.dx);
  check_pointer(op, "dgamma", p.dgamma);
  check_pointer(op, "dbeta", p.dbeta);
  check_pointer(op, "dout", p.dout);
  check_pointer(op, "gamma", p.gamma);
  check_pointer(op, "beta", p.beta);
}

void validate(const SoftmaxForwardParams& p) {
  const char* op = "softmax_forward";
  check_pointer(op, "out", p.out);
  check_pointer(op, "x", p.x);
  check_positive(op, "rows", p.rows);
  check_positive(op, "n", p.n);
}

void validate(const SoftmaxBackwardParams& p) {
  const char* op = "softmax_backward";
  check_pointer(op, "dx", p.dx);
  check_pointer(op, "dout", p.dout);
  check_pointer(op, "out", p.out);
  check_positive(op, "rows", p.rows);
  check_positive(op, "n", p.n);
}

}  // namespace vilg
