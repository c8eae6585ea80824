// GroupNorm over NHWC. A block reads some pixels of all channels, a thread a vector of channels of
// every so many of them, so that rows are read whole and a group's statistics come from many
// blocks. How pixels are divided depends on one picture's shape alone, and what blocks find is put
// together in a fixed order: the same bits on any device and in any batch.
#include "core/memory.h"
#include "cuda/cuda_ops.h"
#include "cuda/launch.h"
#include "cuda/swish.h"

namespace vilg::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kChunkElements = 4096;  // about so many for a block, 16 for a thread
constexpr int kMostChunks = 512;      // blocks that an H200 runs at once

// How one picture of (pixels, channels) is divided.
struct Division {
  int64_t pixels;
  int channels, groups, width;  // channels of a thread
  int columns, rows;            // threads of a block along channels and pixels
  int column_blocks, chunks;    // blocks along channels and pixels
};

Division divide(int64_t pixels, int64_t channels, int64_t groups, int width) {
  Division d{.pixels = pixels,
             .channels = static_cast<int>(channels),
             .groups = static_cast<int>(groups),
             .width = width,
             .columns = 0,
             .rows = 0,
             .column_blocks = 0,
             .chunks = 0};
  const int64_t vectors = channels / width;
  d.columns = static_cast<int>(min(vectors, int64_t{kThreads}));
  d.rows = kThreads / d.columns;
  d.column_blocks = static_cast<int>(ceil_div(vectors, d.columns));
  d.chunks = static_cast<int>(
      min(min(ceil_div(pixels * channels, kChunkElements), ceil_div(pixels, d.rows)),
          int64_t{kMostChunks}));
  return d;
}

// What a thread reads: channels from `channel` on of pixels first, first + rows, ... below end.
struct Part {
  int channel, row, chunk;
  int64_t first, end;
  bool exists;
  __device__ explicit Part(const Division& d) {
    const auto thread = static_cast<int>(threadIdx.x);
    const int column = static_cast<int>(blockIdx.x) % d.column_blocks * d.columns;
    chunk = static_cast<int>(blockIdx.x) / d.column_blocks;
    row = thread / d.columns;
    channel = (column + thread % d.columns) * d.width;
    exists = row < d.rows && channel < d.channels;
    first = d.pixels * chunk / d.chunks + row;
    end = d.pixels * (chunk + 1) / d.chunks;
  }
};

// Number of values, their mean and the sum of squared distances from it.
struct Moments {
  float count = 0, mean = 0, squares = 0;
  // Of both together (Chan): no cancellation, however large the mean.
  __device__ void add(const Moments& other) {
    if (other.count == 0) return;
    const float sum = count + other.count, share = other.count / sum, step = other.mean - mean;
    mean = fmaf(step, share, mean);
    squares += fmaf(step * step, count * share, other.squares);
    count = sum;
  }
};

// partial (batch, chunks, channels): the moments of every channel in a chunk of pixels.
template <int kWidth, typename T>
__global__ void __launch_bounds__(kThreads)
    moments_kernel(Moments* partial, const T* x, const Division d) {
  VILG_SHARED_MEMORY(smem);
  auto* shared = reinterpret_cast<Moments*>(smem);  // [rows][columns * kWidth]
  wait_for_previous_kernel();
  const Part part(d);
  const int64_t picture = blockIdx.y;
  const T* from = x + picture * d.pixels * d.channels + part.channel;
  Moments moments[kWidth];
  if (part.exists && part.first < part.end) {
    // distances from the first value: sums of a few dozen, of the size of what varies
    const Vector<T, kWidth> start = load_vector<kWidth>(from + part.first * d.channels);
    float sums[kWidth] = {}, squares[kWidth] = {};
    int count = 1;
    const int64_t step = int64_t{d.rows} * d.channels;
    const T* const end = from + part.end * d.channels;
#pragma unroll 4
    for (const T* at = from + part.first * d.channels + step; at < end; at += step, ++count) {
      const Vector<T, kWidth> values = load_vector<kWidth>(at);
#pragma unroll
      for (int e = 0; e < kWidth; ++e) {
        const float distance = to_float(values[e]) - to_float(start[e]);
        sums[e] += distance;
        squares[e] = fmaf(distance, distance, squares[e]);
      }
    }
#pragma unroll
    for (int e = 0; e < kWidth; ++e) {
      const auto n = static_cast<float>(count);
      const float mean = sums[e] / n;
      moments[e] = {n, to_float(start[e]) + mean, fmaf(-mean, sums[e], squares[e])};
    }
  }
  const int channels = d.columns * kWidth;
  if (part.exists) {
#pragma unroll
    for (int e = 0; e < kWidth; ++e) {
      shared[part.row * channels + part.channel % channels + e] = moments[e];
    }
  }
  __syncthreads();
  let_next_kernel_begin();
  for (auto i = static_cast<int>(threadIdx.x); i < channels; i += kThreads) {
    const int channel = static_cast<int>(blockIdx.x) % d.column_blocks * channels + i;
    if (channel >= d.channels) break;
    Moments sum = shared[i];
    for (int row = 1; row < d.rows; ++row) sum.add(shared[row * channels + i]);
    partial[(picture * d.chunks + part.chunk) * d.channels + channel] = sum;
  }
}

// A block puts one group of one picture together, in double.
__global__ void __launch_bounds__(kThreads)
    statistics_kernel(float* mean, float* rstd, const Moments* partial, const Division d,
                      float epsilon) {
  VILG_SHARED_MEMORY(smem);
  auto* scratch = reinterpret_cast<double*>(smem);
  wait_for_previous_kernel();
  let_next_kernel_begin();
  const int64_t picture = blockIdx.y;
  const auto group = static_cast<int>(blockIdx.x);
  const int per_group = d.channels / d.groups, parts = d.chunks * per_group;
  const Moments* from = partial + picture * d.chunks * d.channels + group * per_group;
  const auto part = [&](int i) {
    return from[int64_t{i / per_group} * d.channels + i % per_group];
  };
  const double count = static_cast<double>(d.pixels) * per_group;
  double sum = 0;
  for (auto i = static_cast<int>(threadIdx.x); i < parts; i += kThreads) {
    const Moments moments = part(i);
    sum += static_cast<double>(moments.count) * moments.mean;
  }
  const double average = block_sum(sum, scratch) / count;
  sum = 0;
  for (auto i = static_cast<int>(threadIdx.x); i < parts; i += kThreads) {
    const Moments moments = part(i);
    const double distance = moments.mean - average;
    sum += moments.squares + moments.count * distance * distance;
  }
  const double variance = block_sum(sum, scratch) / count;
  if (threadIdx.x > 0) return;
  mean[picture * d.groups + group] = static_cast<float>(average);
  rstd[picture * d.groups + group] = static_cast<float>(1 / sqrt(variance + epsilon));
}

// What normalises the channels of a thread.
template <int kWidth>
struct Coefficients {
  float mean[kWidth], rstd[kWidth], gamma[kWidth], beta[kWidth];
  __device__ Coefficients(const Part& part, const Division& d, const float* all_mean,
                          const float* all_rstd, const float* all_gamma, const float* all_beta) {
    const int per_group = d.channels / d.groups;
    const int64_t picture = blockIdx.y;
#pragma unroll
    for (int e = 0; e < kWidth; ++e) {
      const int64_t group = picture * d.groups + (part.channel + e) / per_group;
      mean[e] = all_mean[group], rstd[e] = all_rstd[group];
      gamma[e] = all_gamma[part.channel + e], beta[e] = all_beta[part.channel + e];
    }
  }
};

template <int kWidth, typename T>
__global__ void __launch_bounds__(kThreads)
    normalize_kernel(T* out, const T* x, const float* mean, const float* rstd, const float* gamma,
                     const float* beta, const Division d, bool swish) {
  wait_for_previous_kernel();
  const Part part(d);
  if (!part.exists) return;
  const Coefficients<kWidth> c(part, d, mean, rstd, gamma, beta);
  const int64_t first = int64_t{blockIdx.y} * d.pixels * d.channels + part.channel;
  // some loads before the stores, which could be to the same memory
  constexpr int kBatch = 4;
  for (int64_t pixel = part.first; pixel < part.end; pixel += kBatch * d.rows) {
    Vector<T, kWidth> values[kBatch];
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
      const int64_t at = pixel + i * d.rows;
      if (at < part.end) values[i] = load_vector<kWidth>(x + first + at * d.channels);
    }
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
      const int64_t at = pixel + i * d.rows;
      if (at >= part.end) break;
#pragma unroll
      for (int e = 0; e < kWidth; ++e) {
        const float normalized = (to_float(values[i][e]) - c.mean[e]) * c.rstd[e];
        const float t = fmaf(normalized, c.gamma[e], c.beta[e]);
        values[i][e] = from_float<T>(swish ? t * sigmoid(t) : t);
      }
      store_vector<kWidth>(out + first + at * d.channels, values[i]);
    }
  }
}

// --- backward ------------------------------------------------------------------------------------
// With n the normalised x, t = n gamma + beta and dt the gradient by t, of one group:
//   dx = rstd (gamma dt - mean(gamma dt) - n mean(gamma dt n)).

struct Slopes {
  float dt = 0, dtn = 0;  // sums of dt and of dt n
};

template <int kWidth>
__device__ __forceinline__ float gradient_of_t(float dout, float normalized,
                                               const Coefficients<kWidth>& c, int e, bool swish) {
  if (!swish) return dout;
  const float t = fmaf(normalized, c.gamma[e], c.beta[e]), s = sigmoid(t);
  return dout * fmaf(t * s, 1.0f - s, s);
}

// partial (batch, chunks, channels)
template <int kWidth, typename T>
__global__ void __launch_bounds__(kThreads)
    slopes_kernel(Slopes* partial, const T* dout, const T* x, const float* mean, const float* rstd,
                  const float* gamma, const float* beta, const Division d, bool swish) {
  VILG_SHARED_MEMORY(smem);
  auto* shared = reinterpret_cast<Slopes*>(smem);  // [rows][columns * kWidth]
  wait_for_previous_kernel();
  const Part part(d);
  const int64_t picture = blockIdx.y;
  const int channels = d.columns * kWidth;
  if (part.exists) {
    const Coefficients<kWidth> c(part, d, mean, rstd, gamma, beta);
    const int64_t first = picture * d.pixels * d.channels + part.channel;
    Slopes slopes[kWidth];
#pragma unroll 2
    for (int64_t pixel = part.first; pixel < part.end; pixel += d.rows) {
      const int64_t at = first + pixel * d.channels;
      const auto values = load_vector<kWidth>(x + at), gradients = load_vector<kWidth>(dout + at);
#pragma unroll
      for (int e = 0; e < kWidth; ++e) {
        const float normalized = (to_float(values[e]) - c.mean[e]) * c.rstd[e];
        const float dt = gradient_of_t(to_float(gradients[e]), normalized, c, e, swish);
        slopes[e].dt += dt;
        slopes[e].dtn = fmaf(dt, normalized, slopes[e].dtn);
      }
    }
#pragma unroll
    for (int e = 0; e < kWidth; ++e) {
      shared[part.row * channels + part.channel % channels + e] = slopes[e];
    }
  }
  __syncthreads();
  let_next_kernel_begin();
  for (auto i = static_cast<int>(threadIdx.x); i < channels; i += kThreads) {
    const int channel = static_cast<int>(blockIdx.x) % d.column_blocks * channels + i;
    if (channel >= d.channels) break;
    Slopes sum = shared[i];
    for (int row = 1; row < d.rows; ++row) {
      sum.dt += shared[row * channels + i].dt;
      sum.dtn += shared[row * channels + i].dtn;
    }
    partial[(picture * d.chunks + part.chunk) * d.channels + channel] = sum;
  }
}

struct ChannelSlopes {
  double dt, dtn;
};

// A block puts one group of one picture together: totals (batch, channels), and in means (batch,
// groups) the means of gamma dt and of gamma dt n.
__global__ void __launch_bounds__(kThreads)
    group_slopes_kernel(ChannelSlopes* totals, Slopes* means, const Slopes* partial,
                        const float* gamma, const Division d) {
  VILG_SHARED_MEMORY(smem);
  auto* scratch = reinterpret_cast<double*>(smem);
  wait_for_previous_kernel();
  let_next_kernel_begin();
  const int64_t picture = blockIdx.y;
  const auto group = static_cast<int>(blockIdx.x);
  const int per_group = d.channels / d.groups, first = group * per_group;
  double mean = 0, slope = 0;  // in the first lane of each warp
  for (int channel = first + warp_id(); channel < first + per_group; channel += kThreads / kLanes) {
    double dt = 0, dtn = 0;
    for (int chunk = lane_id(); chunk < d.chunks; chunk += kLanes) {
      const Slopes slopes = partial[(picture * d.chunks + chunk) * d.channels + channel];
      dt += slopes.dt;
      dtn += slopes.dtn;
    }
    dt = warp_sum(dt);
    dtn = warp_sum(dtn);
    if (lane_id() > 0) continue;
    totals[picture * d.channels + channel] = {dt, dtn};
    mean += gamma[channel] * dt;
    slope += gamma[channel] * dtn;
  }
  mean = block_sum(mean, scratch);
  slope = block_sum(slope, scratch);
  if (threadIdx.x > 0) return;
  const double count = static_cast<double>(d.pixels) * per_group;
  means[picture * d.groups + group] = {static_cast<float>(mean / count),
                                       static_cast<float>(slope / count)};
}

template <int kWidth, typename T>
__global__ void __launch_bounds__(kThreads)
    gradient_kernel(T* dx, float* dgamma, float* dbeta, const T* dout, const T* x,
                    const float* mean, const float* rstd, const float* gamma, const float* beta,
                    const ChannelSlopes* totals, const Slopes* means, const Division d, bool swish,
                    bool accumulate) {
  wait_for_previous_kernel();
  const Part part(d);
  if (!part.exists) return;
  const int64_t picture = blockIdx.y;
  if (picture == 0 && part.chunk == 0 && part.row == 0) {
#pragma unroll
    for (int e = 0; e < kWidth; ++e) {
      const int channel = part.channel + e;
      double sum_dt = dbeta[channel], sum_dtn = dgamma[channel];
      for (int64_t b = 0; b < gridDim.y; ++b) {
        sum_dt += totals[b * d.channels + channel].dt;
        sum_dtn += totals[b * d.channels + channel].dtn;
      }
      dbeta[channel] = static_cast<float>(sum_dt);
      dgamma[channel] = static_cast<float>(sum_dtn);
    }
  }
  const Coefficients<kWidth> c(part, d, mean, rstd, gamma, beta);
  Slopes of_group[kWidth];
#pragma unroll
  for (int e = 0; e < kWidth; ++e) {
    of_group[e] = means[picture * d.groups + (part.channel + e) / (d.channels / d.groups)];
  }
  const int64_t first = picture * d.pixels * d.channels + part.channel;
  constexpr int kBatch = 2;
  for (int64_t pixel = part.first; pixel < part.end; pixel += kBatch * d.rows) {
    Vector<T, kWidth> values[kBatch], gradients[kBatch], before[kBatch];
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
      const int64_t at = first + (pixel + i * d.rows) * d.channels;
      before[i] = {};
      if (pixel + i * d.rows >= part.end) break;
      values[i] = load_vector<kWidth>(x + at);
      gradients[i] = load_vector<kWidth>(dout + at);
      if (accumulate) before[i] = load_vector<kWidth>(dx + at);
    }
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
      const int64_t at = first + (pixel + i * d.rows) * d.channels;
      if (pixel + i * d.rows >= part.end) break;
      Vector<T, kWidth> result;
#pragma unroll
      for (int e = 0; e < kWidth; ++e) {
        const float normalized = (to_float(values[i][e]) - c.mean[e]) * c.rstd[e];
        const float dt = gradient_of_t(to_float(gradients[i][e]), normalized, c, e, swish);
        const float centred =
            fmaf(-normalized, of_group[e].dtn, fmaf(dt, c.gamma[e], -of_group[e].dt));
        result[e] = from_float<T>(fmaf(c.rstd[e], centred, to_float(before[i][e])));
      }
      store_vector<kWidth>(dx + at, result);
    }
  }
}

Grid grid_of(const Division& d, int64_t batch, size_t shared_bytes) {
  return {dim3(int64_t{d.column_blocks} * d.chunks, batch), kThreads, shared_bytes,
          /*overlaps=*/true};
}
size_t for_each_element(const Division& d, size_t size) {
  return static_cast<size_t>(d.rows * d.columns * d.width) * size;
}

template <int kWidth, typename T>
void run_forward(const GroupNormForwardParams& p, Queue& queue) {
  const Division d = divide(p.pixels, p.channels, p.groups, kWidth);
  const auto* x = static_cast<const T*>(p.x);
  Workspace memory(queue.allocator(),
                   static_cast<size_t>(p.batch * d.chunks * p.channels) * sizeof(Moments));
  auto* partial = memory.as<Moments>();
  launch(queue, grid_of(d, p.batch, for_each_element(d, sizeof(Moments))),
         moments_kernel<kWidth, T>, partial, x, d);
  launch(queue, {dim3(p.groups, p.batch), kThreads, kLanes * sizeof(double), /*overlaps=*/true},
         statistics_kernel, p.mean, p.rstd, partial, d, p.epsilon);
  if (!p.out) return;
  launch(queue, grid_of(d, p.batch, 0), normalize_kernel<kWidth, T>, static_cast<T*>(p.out), x,
         p.mean, p.rstd, p.gamma, p.beta, d, p.swish);
}

template <int kWidth, typename T>
void run_backward(const GroupNormBackwardParams& p, Queue& queue) {
  const Division d = divide(p.pixels, p.channels, p.groups, kWidth);
  const auto *x = static_cast<const T*>(p.x), *dout = static_cast<const T*>(p.dout);
  Workspace partial(queue.allocator(),
                    static_cast<size_t>(p.batch * d.chunks * p.channels) * sizeof(Slopes));
  Workspace totals(queue.allocator(),
                   static_cast<size_t>(p.batch * p.channels) * sizeof(ChannelSlopes));
  Workspace means(queue.allocator(), static_cast<size_t>(p.batch * p.groups) * sizeof(Slopes));
  launch(queue, grid_of(d, p.batch, for_each_element(d, sizeof(Slopes))), slopes_kernel<kWidth, T>,
         partial.as<Slopes>(), dout, x, p.mean, p.rstd, p.gamma, p.beta, d, p.swish);
  launch(queue, {dim3(p.groups, p.batch), kThreads, kLanes * sizeof(double), /*overlaps=*/true},
         group_slopes_kernel, totals.as<ChannelSlopes>(), means.as<Slopes>(), partial.as<Slopes>(),
         p.gamma, d);
  launch(queue, grid_of(d, p.batch, 0), gradient_kernel<kWidth, T>, static_cast<T*>(p.dx), p.dgamma,
         p.dbeta, dout, x, p.mean, p.rstd, p.gamma, p.beta, totals.as<ChannelSlopes>(),
         means.as<Slopes>(), d, p.swish, p.accumulate);
}

}  // namespace

void group_norm_forward(const GroupNormForwardParams& p, Queue& queue) {
  const bool vectors = p.channels % 4 == 0 && aligned_to_16(p.x, p.out);
  if (p.dtype == DType::kFloat32) {
    vectors ? run_forward<4, float>(p, queue) : run_forward<1, float>(p, queue);
  } else {
    vectors ? run_forward<4, bf16>(p, queue) : run_forward<1, bf16>(p, queue);
  }
}

void group_norm_backward(const GroupNormBackwardParams& p, Queue& queue) {
  const bool vectors = p.channels % 4 == 0 && aligned_to_16(p.x, p.dx, p.dout);
  if (p.dtype == DType::kFloat32) {
    vectors ? run_backward<4, float>(p, queue) : run_backward<1, float>(p, queue);
  } else {
    vectors ? run_backward<4, bf16>(p, queue) : run_backward<1, bf16>(p, queue);
  }
}

}  // namespace vilg::cuda
