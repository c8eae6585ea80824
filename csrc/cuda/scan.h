#pragma once

#include "cuda/device.h"

namespace vilg::cuda {

// The sum of x over the threads before this one, in a one-dimensional block of up to 1024 threads.
// `scratch` is shared memory for 32 values, free again when all have returned. All threads must
// call. For integers: what a thread adds itself is taken away again.
template <typename T>
__device__ __forceinline__ T block_sum_before(T x, T* scratch) {
  const int warps = static_cast<int>(blockDim.x) / kLanes;
  T inclusive = x;
#pragma unroll
  for (int step = 1; step < kLanes; step *= 2) {
    const T below = shuffle_up(inclusive, step);
    if (lane_id() >= step) inclusive += below;
  }
  if (warps == 1) return inclusive - x;
  if (lane_id() == kLanes - 1) scratch[warp_id()] = inclusive;
  __syncthreads();
  T total = lane_id() < warps ? scratch[lane_id()] : T{0};  // of the warp of this lane's number
#pragma unroll
  for (int step = 1; step < kLanes; step *= 2) {
    const T below = shuffle_up(total, step);
    if (lane_id() >= step) total += below;
  }
  const T before = shuffle(total, warp_id() > 0 ? warp_id() - 1 : 0);
  __syncthreads();
  return inclusive - x + (warp_id() > 0 ? before : T{0});
}

}  // namespace vilg::cuda
