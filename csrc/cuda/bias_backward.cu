// Sums over rows, in an order that depends on the shape alone: a block adds some rows of its
// columns, each warp every eighth of them, then the warps in order; the same kernel once more adds
// the blocks.
#include "cuda/cuda_ops.h"
#include "cuda/launch.h"

namespace vilg::cuda {
namespace {

constexpr int kWarps = 8, kThreads = kWarps * kLanes;

// to[block of rows][column], or added to `to` when there is one block of rows.
template <int kWidth, typename T>
__global__ void __launch_bounds__(kThreads)
    sum_rows_kernel(float* to, const T* x, int64_t rows, int64_t n, int64_t rows_per_block) {
  VILG_SHARED_MEMORY(shared);
  auto* sums = reinterpret_cast<float*>(shared);  // (warp, column)
  constexpr int kColumns = kLanes * kWidth;
  const int64_t first_column = int64_t{blockIdx.x} * kColumns;
  const int64_t column = first_column + lane_id() * kWidth;
  const int64_t first = int64_t{blockIdx.y} * rows_per_block;
  const int64_t last = min(rows, first + rows_per_block);
  float sum[kWidth] = {};
  if (column < n) {
#pragma unroll 4
    for (int64_t row = first + warp_id(); row < last; row += kWarps) {
      const Vector<T, kWidth> v = load_vector<kWidth>(x + row * n + column);
#pragma unroll
      for (int e = 0; e < kWidth; ++e) sum[e] += to_float(v[e]);
    }
  }
#pragma unroll
  for (int e = 0; e < kWidth; ++e) sums[warp_id() * kColumns + lane_id() * kWidth + e] = sum[e];
  __syncthreads();
  for (int i = static_cast<int>(threadIdx.x); i < kColumns; i += kThreads) {
    if (first_column + i >= n) break;
    float total = 0;
    for (int warp = 0; warp < kWarps; ++warp) total += sums[warp * kColumns + i];
    if (gridDim.y == 1) {
      to[first_column + i] += total;
    } else {
      to[blockIdx.y * n + first_column + i] = total;
    }
  }
}

template <typename T>
void sum_rows(float* to, const T* x, int64_t rows, int64_t n, int64_t blocks, Queue& queue) {
  constexpr int kWidest = 16 / sizeof(T);
  const bool wide = n % kWidest == 0 && aligned_to_16(x);
  const int columns = kLanes * (wide ? kWidest : 1);
  const Grid grid{dim3(ceil_div(n, columns), blocks), kThreads,
                  static_cast<size_t>(kWarps * columns) * sizeof(float)};
  launch(queue, grid, wide ? sum_rows_kernel<kWidest, T> : sum_rows_kernel<1, T>, to, x, rows, n,
         ceil_div(rows, blocks));
}

template <typename T>
void run(const BiasBackwardParams& p, Queue& queue) {
  const auto* x = static_cast<const T*>(p.dout);
  // 1024 blocks are what fits a large GPU at once; fewer than 64 rows to a block are not worth it
  const int64_t wanted = max(int64_t{1}, 1024 / ceil_div(p.n, 128));
  const int64_t blocks = min(wanted, ceil_div(p.rows, 64));
  if (blocks == 1) {
    sum_rows(p.dbias, x, p.rows, p.n, 1, queue);
    return;
  }
  const Workspace partial(queue.allocator(), static_cast<size_t>(blocks * p.n) * sizeof(float));
  sum_rows(partial.as<float>(), x, p.rows, p.n, blocks, queue);
  sum_rows(p.dbias, static_cast<const float*>(partial.as<float>()), blocks, p.n, 1, queue);
}

}  // namespace

void bias_backward(const BiasBackwardParams& p, Queue& queue) {
  p.dtype == DType::kFloat32 ? run<float>(p, queue) : run<bf16>(p, queue);
}

}  // namespace vilg::cuda
