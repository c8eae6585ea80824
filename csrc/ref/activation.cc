#include "ref/ref_ops.h"

namespace vilg::ref {

void leaky_relu_forward(const LeakyReluForwardParams& p, OpContext&) {
  validate(p);
  for (int64_t i = 0; i < p.num_elements; ++i) p.out[i] = p.x[i] > 0 ? p.x[i] : p.slope * p.x[i];
}

void leaky_relu_backward(const LeakyReluBackwardParams& p, OpContext&) {
  validate(p);
  for (int64_t i = 0; i < p.num_elements; ++i) {
    const float dx = p.out[i] > 0 ? p.dout[i] : p.slope * p.dout[i];
    p.dx[i] = p.accumulate ? p.dx[i] + dx : dx;
  }
}

}  // namespace vilg::ref
