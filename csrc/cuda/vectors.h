// Runs of consecutive elements as floats, for kernels over rows of either storage type.
#pragma once

#include "cuda/launch.h"

namespace vilg::cuda {

// As many elements as 16 bytes hold: what one thread takes of a row at a time. It takes the same
// elements where 16-byte accesses are impossible, so results do not depend on addresses.
template <typename T>
inline constexpr int kVectorWidth = 16 / static_cast<int>(sizeof(T));

// Such a run, of which the first `count` elements (any number) exist; zeros beyond. kAligned: all
// or none exist, and the address is a multiple of 16 bytes.
template <bool kAligned, typename T>
__device__ __forceinline__ Vector<T, kVectorWidth<T>> load_run(const T* from, int64_t count) {
  Vector<T, kVectorWidth<T>> run{};
  if constexpr (kAligned) {
    if (count > 0) run = load_vector<kVectorWidth<T>>(from);
  } else {
#pragma unroll
    for (int e = 0; e < kVectorWidth<T>; ++e) {
      if (e < count) run[e] = from[e];
    }
  }
  return run;
}

// kWidth elements as floats, with the same meaning of kAligned and count; where kWidth is more than
// a vector, in several accesses, where it is less, aligned to the size of what there is.
template <bool kAligned, int kWidth, typename T>
__device__ __forceinline__ void load_floats(float (&to)[kWidth], const T* from, int64_t count) {
  if constexpr (kAligned) {
    constexpr int kPart = kWidth < kVectorWidth<T> ? kWidth : kVectorWidth<T>;
#pragma unroll
    for (int i = 0; i < kWidth; i += kPart) {
      Vector<T, kPart> part{};
      if (count > 0) part = load_vector<kPart>(from + i);
#pragma unroll
      for (int e = 0; e < kPart; ++e) to[i + e] = to_float(part[e]);
    }
  } else {
#pragma unroll
    for (int e = 0; e < kWidth; ++e) to[e] = e < count ? to_float(from[e]) : 0.0f;
  }
}
template <bool kAligned, int kWidth, typename T>
__device__ __forceinline__ void store_floats(T* to, const float (&from)[kWidth], int64_t count) {
  if constexpr (kAligned) {
    constexpr int kPart = kWidth < kVectorWidth<T> ? kWidth : kVectorWidth<T>;
    if (count <= 0) return;
#pragma unroll
    for (int i = 0; i < kWidth; i += kPart) {
      Vector<T, kPart> part;
#pragma unroll
      for (int e = 0; e < kPart; ++e) part[e] = from_float<T>(from[i + e]);
      store_vector<kPart>(to + i, part);
    }
  } else {
#pragma unroll
    for (int e = 0; e < kWidth; ++e) {
      if (e < count) to[e] = from_float<T>(from[e]);
    }
  }
}

// Calls f(std::bool_constant) with whether rows of `columns` elements can be read as vectors.
template <typename T, typename F, typename... Pointers>
void with_alignment(int64_t columns, const F& f, const Pointers*... pointers) {
  if (columns % kVectorWidth<T> == 0 && aligned_to_16(pointers...)) {
    f(std::true_type{});
  } else {
    f(std::false_type{});
  }
}

}  // namespace vilg::cuda
