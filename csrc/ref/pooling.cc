#include <algorithm>

#include "ref/ref_ops.h"

namespace vilg::ref {
namespace {

// Calls body(index of a result, index of the pixel that it takes).
template <typename Params, typename Body>
void for_each_largest(const Params& p, const Body& body) {
  const int64_t height = p.height / 2, width = p.width / 2;
  for (int64_t b = 0; b < p.batch; ++b) {
    for (int64_t y = 0; y < height; ++y) {
      for (int64_t x = 0; x < width; ++x) {
        for (int64_t c = 0; c < p.channels; ++c) {
          const auto at = [&](int64_t ky, int64_t kx) {
            return ((b * p.height + 2 * y + ky) * p.width + 2 * x + kx) * p.channels + c;
          };
          int64_t best = at(0, 0);
          for (const int64_t other : {at(0, 1), at(1, 0), at(1, 1)}) {
            if (p.x[other] > p.x[best] || p.x[other] != p.x[other]) best = other;
          }
          body(((b * height + y) * width + x) * p.channels + c, best);
        }
      }
    }
  }
}

}  // namespace

void max_pool_forward(const MaxPoolForwardParams& p, OpContext&) {
  validate(p);
  for_each_largest(p, [&](int64_t to, int64_t from) { p.out[to] = p.x[from]; });
}

void max_pool_backward(const MaxPoolBackwardParams& p, OpContext&) {
  validate(p);
  std::fill_n(p.dx, p.batch * p.height * p.width * p.channels, 0.0f);
  for_each_largest(p, [&](int64_t to, int64_t from) { p.dx[from] = p.dout[to]; });
}

}  // namespace vilg::ref
