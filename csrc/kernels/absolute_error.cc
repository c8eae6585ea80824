#include "kernels/absolute_error.h"

#include "core/error.h"

namespace vilg {

void validate(const AbsoluteErrorParams& p) {
  VILG_CHECK(p.num_elements > 0, kInvalidArgument,
             "absolute_error: expected a positive num_elements, received %lld",
             static_cast<long long>(p.num_elements));
  VILG_CHECK(p.x && p.y, kInvalidArgument,
             "absolute_error: expected memory for x and y, received a null pointer");
  VILG_CHECK(p.sum || p.dx, kInvalidArgument,
             "absolute_error: expected memory for sum, dx or both, received null pointers");
}

}  // namespace vilg
