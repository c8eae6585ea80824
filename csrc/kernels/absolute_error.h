#pragma once

#include <cstdint>

namespace vilg {

// sum |x - y| as a double, in fixed blocks; dx = (or +=) scale * sign(x - y), 0 where they are
// equal. dx or sum may be null.
struct AbsoluteErrorParams {
  double* sum = nullptr;
  float* dx = nullptr;
  const float* x = nullptr;
  const float* y = nullptr;
  int64_t num_elements = 0;
  float scale = 1.0f;
  bool accumulate = false;
};
void validate(const AbsoluteErrorParams& params);

}  // namespace vilg
