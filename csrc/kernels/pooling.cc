#include "kernels/pooling.h"

#include "kernels/checks.h"

namespace vilg {
namespace {

template <typename Params>
void check_sizes(const char* op, const Params& p) {
  check_positive(op, "batch", p.batch);
  check_positive(op, "channels", p.channels);
  VILG_CHECK(p.height >= 2 && p.width >= 2, kShapeMismatch,
             "%s: expected pictures of at least 2 x 2, received %lld x %lld", op,
             static_cast<long long>(p.height), static_cast<long long>(p.width));
}

}  // namespace

void validate(const MaxPoolForwardParams& p) {
  constexpr const char* kOp = "max_pool_forward";
  check_sizes(kOp, p);
  check_pointer(kOp, "out", p.out);
  check_pointer(kOp, "x", p.x);
}

void validate(const MaxPoolBackwardParams& p) {
  constexpr const char* kOp = "max_pool_backward";
  check_sizes(kOp, p);
  check_pointer(kOp, "dx", p.dx);
  check_pointer(kOp, "dout", p.dout);
  check_pointer(kOp, "x", p.x);
}

}  // namespace vilg
