#pragma once

#include "cuda/device.h"

namespace vilg::cuda {

// 1 / (1 + e^-t)
__device__ __forceinline__ float sigmoid(float t) {
  constexpr float kLog2E = 1.44269504f;
  return reciprocal_fast(1.0f + exp2_fast(-kLog2E * t));
}

}  // namespace vilg::cuda
