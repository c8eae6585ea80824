// Sums of rows by key: table[key of row i] += row i, each in the order of i, without atomics. The
// rows are sorted by key first (sort.h); then a block takes a run of equal keys and some columns.
#pragma once

#include "cuda/sort.h"
#include "cuda/vectors.h"

namespace vilg::cuda {

// Tables that follow each other in the space of keys; rows of larger keys are left out.
struct Tables {
  static constexpr int kCount = 3;
  float* gradients[kCount] = {};
  int64_t rows[kCount] = {};

  __device__ __forceinline__ float* row(int64_t key, int64_t columns) const {
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      if (key < rows[i]) return gradients[i] + key * columns;
      key -= rows[i];
    }
    return nullptr;
  }
  int64_t left_out() const { return rows[0] + rows[1] + rows[2]; }  // a key for such rows
};

inline constexpr int kRunThreads = 128;

// sum += n <= 32 rows in order. Lane l knows the position of the l-th.
template <int kAtOnce, bool kAligned, typename T, int kWidth>
__device__ __forceinline__ void add_some(float (&sum)[kWidth], const T* rows, uint32_t position,
                                         int n, int64_t columns, int64_t left) {
  for (int i = 0; i < n; i += kAtOnce) {
    Vector<T, kWidth> some[kAtOnce];
#pragma unroll
    for (int u = 0; u < kAtOnce; ++u) {
      const int64_t row = shuffle(position, i + u);
      some[u] = load_run<kAligned>(rows + row * columns, i + u < n ? left : 0);
    }
#pragma unroll
    for (int u = 0; u < kAtOnce; ++u) {
      if (i + u >= n) break;
#pragma unroll
      for (int e = 0; e < kWidth; ++e) sum[e] += to_float(some[u][e]);
    }
  }
}

// A block for every row and slice of columns; it works if the row is the first of a run. With some
// 60 registers eight blocks run at a time, which hides the way from keys to positions to rows.
template <typename T, bool kAligned>
__global__ void __launch_bounds__(kRunThreads, 8)
    add_short_runs_kernel(Tables tables, const T* rows, const uint32_t* keys,
                          const uint32_t* positions, int64_t count, int64_t columns) {
  constexpr int kWidth = kVectorWidth<T>;
  const int64_t begin = blockIdx.x, i = begin + lane_id();
  const uint32_t key = keys[begin];
  if (begin > 0 && keys[begin - 1] == key) return;
  const bool same = i < count && keys[i] == key;
  const int n = __popc(ballot(same));
  if (n == kLanes && begin + kLanes < count && keys[begin + kLanes] == key) return;  // a long one
  const uint32_t position = same ? positions[i] : 0;
  float* const table_row = tables.row(key, columns);
  if (!table_row) return;
  const int64_t c = (int64_t{blockIdx.y} * kRunThreads + threadIdx.x) * kWidth, left = columns - c;
  float sum[kWidth];
  load_floats<kAligned>(sum, table_row + c, left);
  add_some<4, kAligned>(sum, rows + c, position, n, columns, left);
  store_floats<kAligned>(table_row + c, sum, left);
}

// Runs of more than 32 rows, such as the padding of texts with thousands: a block for every 32nd
// row and slice of columns, with as many rows on their way as registers allow.
template <typename T, bool kAligned>
__global__ void __launch_bounds__(kRunThreads)
    add_long_runs_kernel(Tables tables, const T* rows, const uint32_t* keys,
                         const uint32_t* positions, int64_t count, int64_t columns) {
  constexpr int kWidth = kVectorWidth<T>, kAtOnce = 128 / kWidth;
  const int64_t at = int64_t{blockIdx.x} * kLanes;
  const uint32_t key = keys[at];
  if (at >= kLanes && keys[at - kLanes] == key) return;  // an earlier block's
  const int64_t back = at - lane_id();
  const int64_t begin = at + 1 - __popc(ballot(back >= 0 && keys[back] == key));
  if (begin + kLanes >= count || keys[begin + kLanes] != key) return;  // a short one
  float* const table_row = tables.row(key, columns);
  if (!table_row) return;
  const int64_t c = (int64_t{blockIdx.y} * kRunThreads + threadIdx.x) * kWidth, left = columns - c;
  float sum[kWidth];
  load_floats<kAligned>(sum, table_row + c, left);
  uint32_t next_position = 0;
  bool next_same = false;
  const auto look_ahead = [&](int64_t from) {
    const int64_t i = from + lane_id();
    next_same = i < count && keys[i] == key;
    next_position = next_same ? positions[i] : 0;
  };
  look_ahead(begin);
  for (int64_t from = begin;; from += kLanes) {
    const int n = __popc(ballot(next_same));
    const uint32_t position = next_position;
    if (n == kLanes) look_ahead(from + kLanes);
    add_some<kAtOnce, kAligned>(sum, rows + c, position, n, columns, left);
    if (n < kLanes) break;
  }
  store_floats<kAligned>(table_row + c, sum, left);
}

// `positions` of rows (count, columns), sorted by the keys that `tables` mean.
template <typename T>
void add_runs(Queue& queue, const Tables& tables, const T* rows, const SortedPositions& sorted,
              int64_t columns) {
  const int64_t slices = ceil_div(columns, int64_t{kRunThreads} * kVectorWidth<T>);
  with_alignment<T>(
      columns,
      [&](auto aligned) {
        launch(queue, {dim3(sorted.count(), slices), kRunThreads},
               add_short_runs_kernel<T, aligned.value>, tables, rows, sorted.sorted_keys(),
               sorted.positions(), sorted.count(), columns);
        launch(queue, {dim3(ceil_div(sorted.count(), kLanes), slices), kRunThreads},
               add_long_runs_kernel<T, aligned.value>, tables, rows, sorted.sorted_keys(),
               sorted.positions(), sorted.count(), columns);
      },
      rows, tables.gradients[0], tables.gradients[1], tables.gradients[2]);
}

}  // namespace vilg::cuda
