#include <cmath>

#include "ref/ref_ops.h"

namespace vilg::ref {

void absolute_error(const AbsoluteErrorParams& p, OpContext&) {
  validate(p);
  double sum = 0;
  for (int64_t i = 0; i < p.num_elements; ++i) {
    const double d = static_cast<double>(p.x[i]) - p.y[i];
    sum += std::abs(d);
    if (p.dx) {
      p.dx[i] = static_cast<float>((p.accumulate ? p.dx[i] : 0.0) + p.scale * ((d > 0) - (d < 0)));
    }
  }
  if (p.sum) *p.sum = sum;
}

}  // namespace vilg::ref
