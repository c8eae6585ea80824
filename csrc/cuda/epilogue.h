#pragma once

#include "cuda/gelu.h"
#include "kernels/matmul.h"

// What becomes of the sums of a matrix product (kernels/matmul.h), shared by all kernels that make
// them. Every operation is written out, because a row must get the same bits from all of them.
namespace vilg::cuda {

struct Output {
  void* c;
  void* pre_activation;
  const void* residual;
  const float* bias;
  int64_t ldc, batch_stride, split_stride;  // elements; splits only where partial sums are kept
  float alpha;
  Epilogue epilogue;
  bool half;  // c, pre_activation and residual are bfloat16
  bool accumulate;
  bool vector;  // four elements can be accessed as one where column and row allow it
};

inline constexpr int kOutputWidth = 4;  // columns that `vector` speaks of

namespace detail {

template <int kWidth, typename T>
__device__ __forceinline__ void load_as_floats(float (&x)[kWidth], const void* from, int64_t at) {
  const Vector<T, kWidth> v = load_vector<kWidth>(static_cast<const T*>(from) + at);
#pragma unroll
  for (int e = 0; e < kWidth; ++e) x[e] = to_float(v[e]);
}

}  // namespace detail

template <int kWidth>
__device__ __forceinline__ void load_elements(float (&x)[kWidth], const void* from, bool half,
                                              int64_t at) {
  half ? detail::load_as_floats<kWidth, bf16>(x, from, at)
       : detail::load_as_floats<kWidth, float>(x, from, at);
}

template <int kWidth>
__device__ __forceinline__ void store_elements(void* to, bool half, int64_t at,
                                               const float (&x)[kWidth]) {
  if (half) {
    Vector<bf16, kWidth> v;
#pragma unroll
    for (int e = 0; e < kWidth; ++e) v[e] = from_float<bf16>(x[e]);
    store_vector<kWidth>(static_cast<bf16*>(to) + at, v);
  } else {
    Vector<float, kWidth> v;
#pragma unroll
    for (int e = 0; e < kWidth; ++e) v[e] = x[e];
    store_vector<kWidth>(static_cast<float*>(to) + at, v);
  }
}

// The elements of c at offset `at`, which are columns n and following.
template <int kWidth>
__device__ __forceinline__ void finish_elements(const Output& o, const float (&sums)[kWidth],
                                                int64_t at, int n) {
  float x[kWidth], other[kWidth];
#pragma unroll
  for (int e = 0; e < kWidth; ++e) {
    x[e] = o.bias ? fmaf(o.alpha, sums[e], __ldg(o.bias + n + e)) : __fmul_rn(o.alpha, sums[e]);
  }
  if (o.epilogue == Epilogue::kGelu) {
    if (o.pre_activation) store_elements<kWidth>(o.pre_activation, o.half, at, x);
#pragma unroll
    for (int e = 0; e < kWidth; ++e) x[e] = gelu(x[e]);
  } else if (o.epilogue == Epilogue::kGeluBackward) {
    load_elements<kWidth>(other, o.pre_activation, o.half, at);
#pragma unroll
    for (int e = 0; e < kWidth; ++e) x[e] = __fmul_rn(x[e], gelu_slope(other[e]));
  }
  if (o.residual) {
    load_elements<kWidth>(other, o.residual, o.half, at);
#pragma unroll
    for (int e = 0; e < kWidth; ++e) x[e] = __fadd_rn(x[e], other[e]);
  }
  if (o.accumulate) {
    load_elements<kWidth>(other, o.c, o.half, at);
#pragma unroll
    for (int e = 0; e < kWidth; ++e) x[e] = __fadd_rn(x[e], other[e]);
  }
  store_elements<kWidth>(o.c, o.half, at, x);
}

// Finishes a rectangle of sums that a warp has left in its own shared memory, rows `stride` floats
// apart: row r is row `first_row + r * row_step` of c. A line of columns is written by neighbouring
// lanes, 16 bytes (bfloat16: 8) each.
template <int kRows, int kColumns>
__device__ __forceinline__ void finish_rectangle(const Output& o, const float* sums, int stride,
                                                 int64_t base, int first_row, int row_step,
                                                 int first_column, int m, int n) {
  constexpr int kLanesPerRow = kColumns / kOutputWidth;
  static_assert(kLanes % kLanesPerRow == 0);
  const int column = lane_id() % kLanesPerRow * kOutputWidth;
#pragma unroll 1
  for (int r = lane_id() / kLanesPerRow; r < kRows; r += kLanes / kLanesPerRow) {
    const int row = first_row + r * row_step;
    if (row >= m) break;
    const int64_t at = base + int64_t{row} * o.ldc + first_column + column;
    const float* from = sums + r * stride + column;
    if (o.vector && first_column + column + kOutputWidth <= n) {
      float x[kOutputWidth];
      detail::load_as_floats<kOutputWidth, float>(x, from, 0);
      finish_elements<kOutputWidth>(o, x, at, first_column + column);
    } else {
#pragma unroll 1
      for (int e = 0; e < min(kOutputWidth, n - first_column - column); ++e) {
        const float x[1] = {from[e]};
        finish_elements<1>(o, x, at + e, first_column + column + e);
      }
    }
  }
}

}  // namespace vilg::cuda
