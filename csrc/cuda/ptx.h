// The wrappers of device.h on a GPU: inline PTX for sm_80 and newer. Each has a twin of the same
// name in emulation/device.h, and a test compares the two on a GPU bit for bit.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

// extern __shared__ arrays of one name must have one type in the whole program
#define VILG_SHARED_MEMORY(name) extern __shared__ __align__(128) unsigned char name[]

namespace vilg::cuda {

__device__ __forceinline__ float bits_to_float(uint32_t bits) { return __uint_as_float(bits); }
__device__ __forceinline__ uint32_t float_to_bits(float x) { return __float_as_uint(x); }

// threadIdx.x, read anew at every call: what a loop computes from it stays in the loop, where the
// compiler would otherwise compute it once and keep it in registers all the while.
__device__ __forceinline__ unsigned thread_number_again() {
  unsigned x;
  asm volatile("mov.u32 %0, %%tid.x;" : "=r"(x));
  return x;
}

// Two floats rounded to nearest even, the first in the lower half.
__device__ __forceinline__ uint32_t pack_bf16(float low, float high) {
  uint32_t pair;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  return pair;
}

// 2^x, to about two units in the last place; 0 for -infinity.
__device__ __forceinline__ float exp2_fast(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

// 1 / x, to about one unit in the last place; subnormal arguments and results are zero.
__device__ __forceinline__ float reciprocal_fast(float x) {
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

template <typename T>
__device__ __forceinline__ T shuffle_xor(T x, int lane_mask) {
  return __shfl_xor_sync(0xffffffffu, x, lane_mask);
}
template <typename T>
__device__ __forceinline__ T shuffle(T x, int lane) {
  return __shfl_sync(0xffffffffu, x, lane);
}
// The value of the lane `delta` below, one's own where there is none.
template <typename T>
__device__ __forceinline__ T shuffle_up(T x, int delta) {
  return __shfl_up_sync(0xffffffffu, x, static_cast<unsigned>(delta));
}
template <typename T>
__device__ __forceinline__ T shuffle_down(T x, int delta) {
  return __shfl_down_sync(0xffffffffu, x, static_cast<unsigned>(delta));
}
__device__ __forceinline__ uint32_t ballot(bool predicate) {
  return __ballot_sync(0xffffffffu, predicate);
}

// The sum (modulo 2^32), the smallest, the largest of all 32 lanes' numbers, for every lane.
__device__ __forceinline__ uint32_t reduce_add(uint32_t x) {
  return __reduce_add_sync(0xffffffffu, x);
}
__device__ __forceinline__ uint32_t reduce_min(uint32_t x) {
  return __reduce_min_sync(0xffffffffu, x);
}
__device__ __forceinline__ uint32_t reduce_max(uint32_t x) {
  return __reduce_max_sync(0xffffffffu, x);
}

// 16 bytes from global to shared memory, past the registers; the first `copied` of them, zeros
// after. Both addresses are 16-byte aligned.
__device__ __forceinline__ void copy_async_16(void* to_shared, const void* from_global,
                                              int copied = 16) {
  const auto address = static_cast<uint32_t>(__cvta_generic_to_shared(to_shared));
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(address), "l"(from_global),
               "r"(copied)
               : "memory");
}
__device__ __forceinline__ void copy_async_commit() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}
// Until at most `kPending` groups of this thread are under way. Other threads' need a barrier too.
template <int kPending>
__device__ __forceinline__ void copy_async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

// Four 8 x 8 matrices of 16-bit elements. Lane l gives the address of row l % 8 of matrix l / 8 (16
// bytes, aligned), and gets of matrix i the pair at row l / 4, columns 2 (l % 4) and the next.
__device__ __forceinline__ void load_matrices(uint32_t (&out)[4], const void* row_in_shared) {
  const auto address = static_cast<uint32_t>(__cvta_generic_to_shared(row_in_shared));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
               : "r"(address)
               : "memory");
}
// The same, each matrix transposed.
__device__ __forceinline__ void load_matrices_transposed(uint32_t (&out)[4],
                                                         const void* row_in_shared) {
  const auto address = static_cast<uint32_t>(__cvta_generic_to_shared(row_in_shared));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
               : "r"(address)
               : "memory");
}

// d += a . b with a 16 x 16 (row-major), b 16 x 8 (column-major) in bf16, d 16 x 8 in float. Lane
// l, group g = l / 4, pair p = 2 (l % 4):
//   a[0]: row g, columns p; a[1]: row g + 8, p; a[2]: row g, p + 8; a[3]: row g + 8, p + 8
//   b[0]: rows p, column g; b[1]: rows p + 8, column g
//   d[0], d[1]: row g, columns p, p + 1; d[2], d[3]: row g + 8
__device__ __forceinline__ void multiply_bf16(float (&d)[4], const uint32_t (&a)[4], uint32_t b0,
                                              uint32_t b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// 16 bytes that nobody reads again soon (weights while decoding): past the first-level cache.
__device__ __forceinline__ uint4 load_streaming(const void* from) {
  uint4 x;
  asm volatile("ld.global.nc.L1::no_allocate.L2::128B.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(x.x), "=r"(x.y), "=r"(x.z), "=r"(x.w)
               : "l"(from));
  return x;
}

// Brings memory to the second-level cache (sm_90; nothing on older ones), where writes that come
// later still reach it: allowed before wait_for_previous_kernel(). 16-byte aligned, as is the size.
__device__ __forceinline__ void prefetch_to_second_level([[maybe_unused]] const void* from,
                                                         [[maybe_unused]] int size_bytes) {
#if __CUDA_ARCH__ >= 900
  if (size_bytes > 0) {
    asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"(from), "r"(size_bytes));
  }
#endif
}

// Programmatic dependent launch (sm_90): wait until the kernels before this one have finished and
// their writes are seen; and let the next kernel begin its part before its own wait.
__device__ __forceinline__ void wait_for_previous_kernel() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}
__device__ __forceinline__ void let_next_kernel_begin() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

template <typename T>
__device__ __forceinline__ T atomic_add(T* address, T value) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8);
  if constexpr (sizeof(T) == 8) {
    return static_cast<T>(atomicAdd(reinterpret_cast<unsigned long long*>(address),
                                    static_cast<unsigned long long>(value)));
  } else {
    return static_cast<T>(
        atomicAdd(reinterpret_cast<unsigned int*>(address), static_cast<unsigned int>(value)));
  }
}
// Integers only.
template <typename T>
__device__ __forceinline__ T atomic_min(T* address, T value) {
  return atomicMin(address, value);
}
template <typename T>
__device__ __forceinline__ T atomic_max(T* address, T value) {
  return atomicMax(address, value);
}
__device__ __forceinline__ void thread_fence() { __threadfence(); }

}  // namespace vilg::cuda
