// What kernels are written with, the same for a GPU (nvcc) and for the host (any C++20 compiler):
// the words of CUDA C++, and wrappers for the instructions that it has no words for. Shared memory
// is always dynamic, launches go through launch.h, and float atomics do not exist here: every sum
// has a fixed order.
#pragma once

#include <cstdint>
#include <cstring>

#include "core/dtype.h"

#if defined(__CUDACC__)
#include "cuda/ptx.h"
#else
#include "cuda/emulation/device.h"
#endif

namespace vilg::cuda {

// --- storage types -----------------------------------------------------------------------------
// bf16 is uint16_t (core/dtype.h). Kernels over a storage type T compute in float.

__device__ __forceinline__ float to_float(float x) { return x; }
__device__ __forceinline__ float to_float(bf16 x) {
  return bits_to_float(static_cast<uint32_t>(x) << 16);
}
template <typename T>
__device__ __forceinline__ T from_float(float x);
template <>
__device__ __forceinline__ float from_float<float>(float x) {
  return x;
}
template <>
__device__ __forceinline__ bf16 from_float<bf16>(float x) {
  return static_cast<bf16>(pack_bf16(x, 0.0f));
}
// The two halves of a packed pair, the first in the lower half.
__device__ __forceinline__ float low_bf16(uint32_t pair) { return bits_to_float(pair << 16); }
__device__ __forceinline__ float high_bf16(uint32_t pair) {
  return bits_to_float(pair & 0xffff0000u);
}

// N elements that are read or written as one; aligned to their size, at most 16 bytes.
template <typename T, int N>
struct alignas(sizeof(T) * N) Vector {
  static_assert(sizeof(T) * N <= 16, "the widest access has 16 bytes");
  T values[N];
  __device__ __forceinline__ T& operator[](int i) { return values[i]; }
  __device__ __forceinline__ const T& operator[](int i) const { return values[i]; }
};
template <int N, typename T>
__device__ __forceinline__ Vector<T, N> load_vector(const T* from) {
  return *reinterpret_cast<const Vector<T, N>*>(from);
}
template <int N, typename T>
__device__ __forceinline__ void store_vector(T* to, const Vector<T, N>& values) {
  *reinterpret_cast<Vector<T, N>*>(to) = values;
}

// --- positions ---------------------------------------------------------------------------------

inline constexpr int kLanes = 32;

// (of unsigned numbers: a signed remainder takes four instructions)
__device__ __forceinline__ int lane_id() { return static_cast<int>(threadIdx.x % kLanes); }
__device__ __forceinline__ int warp_id() { return static_cast<int>(threadIdx.x / kLanes); }

// --- reductions in a fixed order ----------------------------------------------------------------

// Every lane gets the sum (the largest value) of all 32.
template <typename T>
__device__ __forceinline__ T warp_sum(T x) {
#pragma unroll
  for (int step = kLanes / 2; step > 0; step /= 2) x += shuffle_xor(x, step);
  return x;
}
__device__ __forceinline__ float warp_max(float x) {
#pragma unroll
  for (int step = kLanes / 2; step > 0; step /= 2) x = fmaxf(x, shuffle_xor(x, step));
  return x;
}

// Every thread of a one-dimensional block of up to 1024 threads gets the sum. `scratch` is shared
// memory for 32 values, free again when all have returned. All threads must call.
template <typename T>
__device__ __forceinline__ T block_sum(T x, T* scratch) {
  const int warps = static_cast<int>(blockDim.x) / kLanes;
  x = warp_sum(x);
  if (warps == 1) return x;
  if (lane_id() == 0) scratch[warp_id()] = x;
  __syncthreads();
  x = warp_sum(lane_id() < warps ? scratch[lane_id()] : T{0});
  __syncthreads();
  return x;
}
__device__ __forceinline__ float block_max(float x, float* scratch) {
  const int warps = static_cast<int>(blockDim.x) / kLanes;
  x = warp_max(x);
  if (warps == 1) return x;
  if (lane_id() == 0) scratch[warp_id()] = x;
  __syncthreads();
  x = warp_max(scratch[lane_id() < warps ? lane_id() : 0]);
  __syncthreads();
  return x;
}

}  // namespace vilg::cuda
