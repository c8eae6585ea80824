#pragma once

#include <cstdint>

namespace vilg {

// out = x where x > 0, slope * x elsewhere: ReLU with slope 0, LeakyReLU with more. out may be x.
struct LeakyReluForwardParams {
  float* out = nullptr;
  const float* x = nullptr;
  int64_t num_elements = 0;
  float slope = 0;  // 0 <= slope < 1, so that the result has the input's sign
};
void validate(const LeakyReluForwardParams& params);

// dx = dout where out > 0, slope * dout elsewhere (+ dx when `accumulate`). dx may be dout.
struct LeakyReluBackwardParams {
  float* dx = nullptr;
  const float* dout = nullptr;
  const float* out = nullptr;  // of the forward op
  int64_t num_elements = 0;
  float slope = 0;
  bool accumulate = false;
};
void validate(const LeakyReluBackwardParams& params);

}  // namespace vilg
