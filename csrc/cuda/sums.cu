// Sums over whole arrays as doubles: blocks of a fixed number of elements, whose sums are added in
// a fixed order. Bound by memory; on GPUs with few units for doubles the additions take about as
// long.
#include "cuda/sums.h"

#include "cuda/cuda_ops.h"
#include "cuda/vectors.h"

namespace vilg::cuda {
namespace {

constexpr int kThreads = 256, kWidth = kVectorWidth<float>;
constexpr int kAtOnce = 4, kTurns = 4;  // vectors of a thread
constexpr int64_t kBlockElements = int64_t{kThreads} * kWidth * kAtOnce * kTurns;
constexpr int kFinalThreads = 1024;
constexpr size_t kScratchBytes = kLanes * sizeof(double);

struct Squared {
  static __device__ __forceinline__ double value(double d) { return d * d; }
  static __device__ __forceinline__ float gradient(float d, float scale) { return scale * 2 * d; }
};
struct Absolute {
  static __device__ __forceinline__ double value(double d) { return d < 0 ? -d : d; }
  static __device__ __forceinline__ float gradient(float d, float scale) {
    return d > 0 ? scale : d < 0 ? -scale : 0.0f;
  }
};

// sums: one for each block, or null; dx and y may be null too.
template <typename Error, bool kAligned>
__global__ void __launch_bounds__(kThreads)
    error_kernel(double* sums, float* dx, const float* x, const float* y, int64_t count,
                 float scale, bool accumulate) {
  VILG_SHARED_MEMORY(smem);
  double sum = 0;
  for (int turn = 0; turn < kTurns; ++turn) {
    const auto first = [&](int part) {
      return int64_t{blockIdx.x} * kBlockElements +
             ((turn * kAtOnce + part) * kThreads + static_cast<int>(threadIdx.x)) * kWidth;
    };
    float a[kAtOnce][kWidth], b[kAtOnce][kWidth] = {};
#pragma unroll
    for (int part = 0; part < kAtOnce; ++part) {
      const int64_t i = first(part);
      load_floats<kAligned>(a[part], x + i, count - i);
      if (y) load_floats<kAligned>(b[part], y + i, count - i);
    }
#pragma unroll
    for (int part = 0; part < kAtOnce; ++part) {
#pragma unroll
      for (int e = 0; e < kWidth; ++e) {
        sum += Error::value(static_cast<double>(a[part][e]) - static_cast<double>(b[part][e]));
      }
      if (!dx) continue;
      const int64_t i = first(part);
      float gradient[kWidth] = {};
      if (accumulate) load_floats<kAligned>(gradient, dx + i, count - i);
#pragma unroll
      for (int e = 0; e < kWidth; ++e) {
        gradient[e] += Error::gradient(a[part][e] - b[part][e], scale);
      }
      store_floats<kAligned>(dx + i, gradient, count - i);
    }
  }
  if (!sums) return;
  sum = block_sum(sum, reinterpret_cast<double*>(smem));
  if (threadIdx.x == 0) sums[blockIdx.x] = sum;
}

__global__ void __launch_bounds__(kFinalThreads)
    final_sum_kernel(double* sum, const double* sums, int64_t count) {
  VILG_SHARED_MEMORY(smem);
  double mine = 0;
#pragma unroll 4
  for (int64_t i = threadIdx.x; i < count; i += kFinalThreads) mine += sums[i];
  mine = block_sum(mine, reinterpret_cast<double*>(smem));
  if (threadIdx.x == 0) *sum = mine;
}

template <typename Error>
void run(Queue& queue, double* sum, float* dx, const float* x, const float* y, int64_t count,
         float scale, bool accumulate) {
  const int64_t blocks = ceil_div(count, kBlockElements);
  Workspace workspace(queue.allocator(), sum ? static_cast<size_t>(blocks) * sizeof(double) : 0);
  auto* sums = workspace.as<double>();
  with_alignment<float>(
      count,
      [&](auto aligned) {
        launch(queue, {blocks, kThreads, kScratchBytes}, error_kernel<Error, aligned.value>, sums,
               dx, x, y, count, scale, accumulate);
      },
      dx, x, y);
  if (sum) add_up(queue, sum, sums, blocks);
}

}  // namespace

void add_up(Queue& queue, double* sum, const double* sums, int64_t count) {
  launch(queue, {1, kFinalThreads, kScratchBytes}, final_sum_kernel, sum, sums, count);
}

void squared_error(const SquaredErrorParams& p, Queue& queue) {
  run<Squared>(queue, p.sum, p.dx, p.x, p.y, p.num_elements, p.scale, p.accumulate);
}

void absolute_error(const AbsoluteErrorParams& p, Queue& queue) {
  run<Absolute>(queue, p.sum, p.dx, p.x, p.y, p.num_elements, p.scale, p.accumulate);
}

void squared_norm(const SquaredNormParams& p, Queue& queue) {
  run<Squared>(queue, p.sum, nullptr, p.x, nullptr, p.num_elements, 1, false);
}

}  // namespace vilg::cuda
