#pragma once

#include <cstdint>

namespace vilg {

// The largest of each 2 x 2 pixels over NHWC, two apart; the last row and column of odd sides are
// left out. A NaN counts as the largest.
struct MaxPoolForwardParams {
  float* out = nullptr;                                    // (B, H / 2, W / 2, C)
  const float* x = nullptr;                                // (B, H, W, C), sides of at least 2
  int64_t batch = 0, height = 0, width = 0, channels = 0;  // of x
};
void validate(const MaxPoolForwardParams& params);

// dx = dout where the pixel was the one taken, the first in raster order of equal ones; 0
// elsewhere.
struct MaxPoolBackwardParams {
  float* dx = nullptr;          // (B, H, W, C)
  const float* dout = nullptr;  // (B, H / 2, W / 2, C)
  const float* x = nullptr;
  int64_t batch = 0, height = 0, width = 0, channels = 0;
};
void validate(const MaxPoolBackwardParams& params);

}  // namespace vilg
