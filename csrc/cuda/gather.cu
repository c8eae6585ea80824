// gather and scatter_add: bound by memory.
#include "cuda/check_indices.h"
#include "cuda/cuda_ops.h"
#include "cuda/run_sums.h"

namespace vilg::cuda {
namespace {

constexpr int kMaxThreads = 256;

// A block a row.
template <typename T, bool kAligned>
__global__ void __launch_bounds__(kMaxThreads)
    gather_kernel(float* out, const T* table, const int32_t* indices, const float* offset,
                  const int32_t* offset_row, int64_t size, int64_t dim) {
  constexpr int kWidth = kVectorWidth<T>;
  let_next_kernel_begin();
  wait_for_previous_kernel();
  const int32_t index = indices[blockIdx.x];
  // an index that a draw could not give (-1) was not refused while recording
  table += (index >= 0 && index < size ? index : 0) * dim;
  if (offset_row) offset += *offset_row * dim;
  out += int64_t{blockIdx.x} * dim;
  for (int64_t k = int64_t{threadIdx.x} * kWidth; k < dim; k += int64_t{blockDim.x} * kWidth) {
    float values[kWidth], add[kWidth];
    load_floats<kAligned>(values, table + k, dim - k);
    if (offset) {
      load_floats<kAligned>(add, offset + k, dim - k);
#pragma unroll
      for (int e = 0; e < kWidth; ++e) values[e] += add[e];
    }
    store_floats<kAligned>(out + k, values, dim - k);
  }
}

template <typename T>
void run_gather(const GatherParams& p, Queue& queue) {
  const auto* table = static_cast<const T*>(p.table);
  with_alignment<T>(
      p.dim,
      [&](auto aligned) {
        const int64_t threads = round_up(ceil_div(p.dim, kVectorWidth<T>), kLanes);
        launch(queue,
               {.blocks = p.rows,
                .threads = static_cast<int>(min(threads, int64_t{kMaxThreads})),
                .overlaps = true},
               gather_kernel<T, aligned.value>, p.out, table, p.indices, p.offset, p.offset_row,
               p.size, p.dim);
      },
      p.out, table, p.offset);
}

__global__ void __launch_bounds__(kMaxThreads)
    scatter_keys_kernel(uint32_t* keys, const int32_t* indices, int64_t rows, int64_t size) {
  const int64_t i = int64_t{blockIdx.x} * kMaxThreads + threadIdx.x;
  if (i >= rows) return;
  const int32_t index = indices[i];
  keys[i] = static_cast<uint32_t>(index >= 0 && index < size ? index : size);
}

}  // namespace

void gather(const GatherParams& p, Queue& queue) {
  check_indices(queue, "gather", {{"indices", p.indices, p.rows, 0, p.size}});
  p.table_dtype == DType::kFloat32 ? run_gather<float>(p, queue) : run_gather<bf16>(p, queue);
}

void scatter_add(const ScatterAddParams& p, Queue& queue) {
  check_indices(queue, "scatter_add", {{"indices", p.indices, p.rows, 0, p.size}});
  Tables tables;
  tables.gradients[0] = p.dtable, tables.rows[0] = p.size;
  SortedPositions sorted(queue, p.rows, static_cast<uint64_t>(tables.left_out()));
  launch(queue, {ceil_div(p.rows, kMaxThreads), kMaxThreads}, scatter_keys_kernel, sorted.keys(),
         p.indices, p.rows, p.size);
  sorted.sort(queue);
  add_runs(queue, tables, p.dout, sorted, p.dim);
}

}  // namespace vilg::cuda
