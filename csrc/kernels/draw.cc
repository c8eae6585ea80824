#include "kernels/draw.h"

#include <cfloat>

#include "kernels/checks.h"

namespace vilg {

void validate(const DrawParams& p) {
  constexpr const char* kOp = "draw";
  check_positive(kOp, "rows", p.rows);
  check_positive(kOp, "vocab", p.vocab);
  check_pointer(kOp, "tokens", p.tokens);
  check_pointer(kOp, "logits", p.logits);
  check_pointer(kOp, "streams", p.streams);
  // 2^23 masses of up to 2^40 fit 64 bits
  check_range(kOp, "vocab", static_cast<double>(p.vocab), 1, 0x1p23);
  VILG_CHECK(p.logits_stride >= p.vocab, kInvalidArgument,
             "%s: expected logits_stride to be at least vocab = %lld, received %lld", kOp,
             static_cast<long long>(p.vocab), static_cast<long long>(p.logits_stride));
  check_range(kOp, "temperature", p.temperature, 0, FLT_MAX);
  VILG_CHECK(p.top_k >= 0, kInvalidArgument,
             "%s: expected a top_k of at least 0 (0: off), received %lld", kOp,
             static_cast<long long>(p.top_k));
  VILG_CHECK(p.top_p > 0 && p.top_p <= 1, kInvalidArgument,
             "%s: expected a top_p above 0 and at most 1 (1: off), received %g", kOp,
             static_cast<double>(p.top_p));
}

}  // namespace vilg
