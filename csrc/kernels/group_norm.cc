#include "core/error.h"
#include "kernels/normalization.h"

namespace vilg {
namespace {

void check_pointer(const void* pointer, const char* op, const char* name) {
  VILG_CHECK(pointer, kInvalidArgument, "Expected memory for %s of %s, received null", name, op);
}
void check_size(int64_t value, const char* op, const char* name) {
  VILG_CHECK(value >= 1, kShapeMismatch, "Expected a positive %s for %s, received %lld", name, op,
             static_cast<long long>(value));
}

template <typename Params>
void check_group_norm(const Params& p, const char* op) {
  VILG_CHECK(p.dtype == DType::kFloat32 || p.dtype == DType::kBFloat16, kUnsupported,
             "Expected float32 or bfloat16 for dtype of %s, received %s", op, dtype_name(p.dtype));
  check_size(p.batch, op, "batch");
  check_size(p.pixels, op, "pixels");
  check_size(p.channels, op, "channels");
  VILG_CHECK(p.groups >= 1 && p.channels % p.groups == 0, kShapeMismatch,
             "Expected groups that divide the %lld channels for %s, received %lld",
             static_cast<long long>(p.channels), op, static_cast<long long>(p.groups));
  check_pointer(p.x, op, "x");
  check_pointer(p.mean, op, "mean");
  check_pointer(p.rstd, op, "rstd");
}

}  // namespace

void validate(const GroupNormForwardParams& p) {
  const char* op = "group_norm_forward";
  check_group_norm(p, op);
  VILG_CHECK(p.epsilon > 0, kInvalidArgument, "Expected a positive epsilon for %s, received %g", op,
             static_cast<double>(p.epsilon));
  if (p.out) {
    check_pointer(p.gamma, op, "gamma");
    check_pointer(p.beta, op, "beta");
  }
}

void validate(const GroupNormBackwardParams& p) {
  const char* op = "group_norm_backward";
  check_group_norm(p, op);
  check_pointer(p.dx, op, "dx");
  check_pointer(p.dgamma, op, "dgamma");
  check_pointer(p.dbeta, op, "dbeta");
  check_pointer(p.dout, op, "dout");
  check_pointer(p.gamma, op, "gamma");
  check_pointer(p.beta, op, "beta");
}

void validate(const SoftmaxForwardParams& p) {
  const char* op = "softmax_forward";
  check_pointer(p.out, op, "out");
  check_pointer(p.x, op, "x");
  check_size(p.rows, op, "rows");
  check_size(p.n, op, "n");
}

void validate(const SoftmaxBackwardParams& p) {
  const char* op = "softmax_backward";
  check_pointer(p.dx, op, "dx");
  check_pointer(p.dout, op, "dout");
  check_pointer(p.out, op, "out");
  check_size(p.rows, op, "rows");
  check_size(p.n, op, "n");
}

}  // namespace vilg
