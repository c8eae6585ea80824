// The losses of discrete VAEs and of LPIPS: bound by memory, sums in a fixed order.
#include "cuda/cuda_ops.h"
#include "cuda/launch.h"
#include "cuda/sums.h"

namespace vilg::cuda {
namespace {

// --- uniform_divergence: a block owns a row, and reads it from memory once, then from caches ----

constexpr int kMostThreads = 256;

__global__ void __launch_bounds__(kMostThreads)
    divergence_kernel(float* divergence, float* dlogits, const float* logits, int64_t vocab,
                      float scale, bool accumulate) {
  VILG_SHARED_MEMORY(smem);
  auto* scratch = reinterpret_cast<float*>(smem);
  wait_for_previous_kernel();
  let_next_kernel_begin();
  logits += blockIdx.x * vocab;
  float largest = bits_to_float(0xff800000u);  // -infinity
#pragma unroll 4
  for (int64_t v = threadIdx.x; v < vocab; v += blockDim.x) largest = fmaxf(largest, logits[v]);
  largest = block_max(largest, scratch);
  // NaN anywhere, +infinity, or nothing but -infinity make the sum NaN, and it everything else
  float sum = 0, product = 0;
#pragma unroll 4
  for (int64_t v = threadIdx.x; v < vocab; v += blockDim.x) {
    const float d = logits[v] - largest, e = expf(d);
    sum += e;
    if (e > 0) product = fmaf(e, d, product);  // p ln p is 0 where p is
  }
  sum = block_sum(sum, scratch);
  const float mean = block_sum(product, scratch) / sum;  // of logits - largest
  if (threadIdx.x == 0) {
    divergence[blockIdx.x] = mean - logf(sum) + logf(static_cast<float>(vocab));
  }
  if (!dlogits) return;
  dlogits += blockIdx.x * vocab;
  const float factor = scale / sum;
  for (int64_t v = threadIdx.x; v < vocab; v += blockDim.x) {
    const float d = logits[v] - largest, e = expf(d);
    const float gradient = e == 0 ? 0 * factor : factor * e * (d - mean);
    dlogits[v] = accumulate ? dlogits[v] + gradient : gradient;
  }
}

// --- logit_laplace: a thread has some values --------------------------------------------------

constexpr int kThreads = 256, kTurns = 8;
constexpr int64_t kBlockValues = int64_t{kThreads} * kTurns;

__global__ void __launch_bounds__(kThreads)
    logit_laplace_kernel(double* sums, float* dstats, const float* stats, const float* targets,
                         int64_t values, int64_t channels, float scale, bool accumulate) {
  VILG_SHARED_MEMORY(smem);
  double sum = 0;
  for (int turn = 0; turn < kTurns; ++turn) {
    const int64_t value = blockIdx.x * kBlockValues + turn * kThreads + threadIdx.x;
    if (value >= values) continue;
    const int64_t pixel = value / channels, i = value + pixel * channels;
    const float x = targets[value], d = logf(x / (1 - x)) - stats[i], log_b = stats[i + channels];
    const float inverse = expf(-log_b), distance = fabsf(d) * inverse;
    sum += static_cast<double>(log_b + logf(2 * x * (1 - x)) + distance);
    if (!dstats) continue;
    float dmu = scale * (d > 0 ? -inverse : d < 0 ? inverse : 0.0f);
    float dlog_b = scale * (1 - distance);
    if (accumulate) {
      dmu += dstats[i];
      dlog_b += dstats[i + channels];
    }
    dstats[i] = dmu;
    dstats[i + channels] = dlog_b;
  }
  if (!sums) return;
  sum = block_sum(sum, reinterpret_cast<double*>(smem));
  if (threadIdx.x == 0) sums[blockIdx.x] = sum;
}

// --- feature_distance: a warp owns a row ------------------------------------------------------

constexpr int kRows = kThreads / kLanes;  // of a block

__global__ void __launch_bounds__(kThreads)
    feature_distance_kernel(double* sums, float* dx, const float* x, const float* y,
                            const float* weights, int64_t rows, int64_t channels, float scale,
                            bool accumulate) {
  VILG_SHARED_MEMORY(smem);
  const int64_t row = blockIdx.x * kRows + warp_id();
  float distance = 0;
  if (row < rows) {  // whole warps
    x += row * channels;
    y += row * channels;
    float squares_x = 0, squares_y = 0;
#pragma unroll 4
    for (int64_t c = lane_id(); c < channels; c += kLanes) {
      squares_x = fmaf(x[c], x[c], squares_x);
      squares_y = fmaf(y[c], y[c], squares_y);
    }
    const float length = sqrtf(warp_sum(squares_x));
    const float inverse_x = 1 / (length + kFeatureEpsilon);
    const float inverse_y = 1 / (sqrtf(warp_sum(squares_y)) + kFeatureEpsilon);
    float along = 0;
#pragma unroll 4
    for (int64_t c = lane_id(); c < channels; c += kLanes) {
      const float difference = x[c] * inverse_x - y[c] * inverse_y;
      const float weighted = weights[c] * difference;
      distance = fmaf(weighted, difference, distance);
      along = fmaf(weighted, x[c], along);
    }
    distance = warp_sum(distance);
    along = warp_sum(along);
    if (dx) {
      // 2 w (u - v) / |x| less its part along x (kernels/image_losses.h)
      dx += row * channels;
      const float a = length > 0 ? 2 * scale * inverse_x : 0.0f;
      const float b = length > 0 ? a * along * inverse_x / length : 0.0f;
      for (int64_t c = lane_id(); c < channels; c += kLanes) {
        const float difference = x[c] * inverse_x - y[c] * inverse_y;
        const float gradient = a * weights[c] * difference - b * x[c];
        dx[c] = accumulate ? dx[c] + gradient : gradient;
      }
    }
  }
  if (!sums) return;
  const double mine = lane_id() == 0 ? static_cast<double>(distance) : 0.0;
  const double sum = block_sum(mine, reinterpret_cast<double*>(smem));
  if (threadIdx.x == 0) sums[blockIdx.x] = sum;
}

constexpr size_t kScratchBytes = kLanes * sizeof(double);

}  // namespace

void uniform_divergence(const UniformDivergenceParams& p, Queue& queue) {
  // the threads of a row follow from its length alone: they decide about the order of the sums
  const int threads = p.vocab <= 128 ? 32 : p.vocab <= 1024 ? 128 : kMostThreads;
  launch(queue, {dim3(p.rows), threads, kLanes * sizeof(float), /*overlaps=*/true},
         divergence_kernel, p.divergence, p.dlogits, p.logits, p.vocab, p.scale, p.accumulate);
}

void logit_laplace(const LogitLaplaceParams& p, Queue& queue) {
  const int64_t values = p.pixels * p.channels, blocks = ceil_div(values, kBlockValues);
  Workspace workspace(queue.allocator(), p.sum ? static_cast<size_t>(blocks) * sizeof(double) : 0);
  launch(queue, {dim3(blocks), kThreads, kScratchBytes}, logit_laplace_kernel,
         workspace.as<double>(), p.dstats, p.stats, p.targets, values, p.channels, p.scale,
         p.accumulate);
  if (p.sum) add_up(queue, p.sum, workspace.as<double>(), blocks);
}

void feature_distance(const FeatureDistanceParams& p, Queue& queue) {
  const int64_t blocks = ceil_div(p.rows, kRows);
  Workspace workspace(queue.allocator(), p.sum ? static_cast<size_t>(blocks) * sizeof(double) : 0);
  launch(queue, {dim3(blocks), kThreads, kScratchBytes}, feature_distance_kernel,
         workspace.as<double>(), p.dx, p.x, p.y, p.weights, p.rows, p.channels, p.scale,
         p.accumulate);
  if (p.sum) add_up(queue, p.sum, workspace.as<double>(), blocks);
}

}  // namespace vilg::cuda
