#pragma once

#include "cuda/device.h"

namespace vilg::cuda {

// The smallest score wins, the lowest index on a tie, NaN and +infinity against nobody.
struct BestCode {
  float score = INFINITY;
  int32_t index = 0;
  __device__ __forceinline__ void add(float other_score, int32_t other_index) {
    if (other_score < score || (other_score == score && other_index < index)) {
      score = other_score;
      index = other_index;
    }
  }
  // With those of the lanes that differ in the bits of `lanes`.
  template <int kLaneBits>
  __device__ __forceinline__ void reduce() {
#pragma unroll
    for (int step = 1; step < kLaneBits; step *= 2) {
      const float other_score = shuffle_xor(score, step);
      const int32_t other_index = shuffle_xor(index, step);
      add(other_score, other_index);
    }
  }
};

}  // namespace vilg::cuda
