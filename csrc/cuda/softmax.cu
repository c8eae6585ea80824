// Softmax of rows. A block owns a row, reads it from memory once and then from the first-level
// cache (4 KB for 1024 columns); every element belongs to one thread, so out may be x.
#include "cuda/cuda_ops.h"
#include "cuda/launch.h"

namespace vilg::cuda {
namespace {

constexpr int kMostThreads = 256;

__global__ void __launch_bounds__(kMostThreads)
    softmax_kernel(float* out, const float* x, int64_t n, float scale) {
  VILG_SHARED_MEMORY(smem);
  auto* scratch = reinterpret_cast<float*>(smem);
  constexpr float kLog2E = 1.44269504f;
  wait_for_previous_kernel();
  let_next_kernel_begin();
  x += blockIdx.x * n;
  out += blockIdx.x * n;
  float largest = -INFINITY;
#pragma unroll 4
  for (int64_t i = threadIdx.x; i < n; i += blockDim.x) largest = fmaxf(largest, scale * x[i]);
  largest = block_max(largest, scratch);
  float sum = 0;
#pragma unroll 4
  for (int64_t i = threadIdx.x; i < n; i += blockDim.x) {
    sum += exp2_fast(kLog2E * fmaf(scale, x[i], -largest));
  }
  const float factor = 1.0f / block_sum(sum, scratch);
  for (int64_t i = threadIdx.x; i < n; i += blockDim.x) {
    out[i] = exp2_fast(kLog2E * fmaf(scale, x[i], -largest)) * factor;
  }
}

// dx = scale out (dout - sum of dout out)
__global__ void __launch_bounds__(kMostThreads)
    softmax_backward_kernel(float* dx, const float* dout, const float* out, int64_t n,
                            float scale) {
  VILG_SHARED_MEMORY(smem);
  auto* scratch = reinterpret_cast<float*>(smem);
  wait_for_previous_kernel();
  let_next_kernel_begin();
  dx += blockIdx.x * n;
  dout += blockIdx.x * n;
  out += blockIdx.x * n;
  float sum = 0;
#pragma unroll 4
  for (int64_t i = threadIdx.x; i < n; i += blockDim.x) sum = fmaf(dout[i], out[i], sum);
  sum = block_sum(sum, scratch);
  for (int64_t i = threadIdx.x; i < n; i += blockDim.x) {
    dx[i] = scale * out[i] * (dout[i] - sum);
  }
}

// The threads of a row follow from its length alone: they decide about the order of the sums.
Grid grid_of(int64_t rows, int64_t n) {
  const int threads = n <= 128 ? 32 : n <= 1024 ? 128 : kMostThreads;
  return {dim3(rows), threads, kLanes * sizeof(float), /*overlaps=*/true};
}

}  // namespace

void softmax_forward(const SoftmaxForwardParams& p, Queue& queue) {
  launch(queue, grid_of(p.rows, p.n), softmax_kernel, p.out, p.x, p.n, p.scale);
}

void softmax_backward(const SoftmaxBackwardParams& p, Queue& queue) {
  launch(queue, grid_of(p.rows, p.n), softmax_backward_kernel, p.dx, p.dout, p.out, p.n, p.scale);
}

}  // namespace vilg::cuda
