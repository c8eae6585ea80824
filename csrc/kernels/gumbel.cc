#include "kernels/gumbel.h"

#include "kernels/checks.h"

namespace vilg {

void validate(const GumbelNoiseParams& p) {
  constexpr const char* kOp = "gumbel_noise";
  constexpr double kMost = 4294967295.0;  // counters have 32 bits
  check_range(kOp, "rows", static_cast<double>(p.rows), 1, kMost);
  check_range(kOp, "n", static_cast<double>(p.n), 1, kMost);
  check_pointer(kOp, "out", p.out);
  check_pointer(kOp, "x", p.x);
}

}  // namespace vilg
