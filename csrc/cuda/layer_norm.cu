// layer_norm: bound by memory. A row is read once into registers; mean and variance are two
// reductions over them.
#include "cuda/cuda_ops.h"
#include "cuda/vectors.h"

namespace vilg::cuda {
namespace {

constexpr int kMaxThreads = 1024;

// --- forward ------------------------------------------------------------------------------------

constexpr int kForwardValues = 16;  // of a thread: 1024 threads hold rows of up to 16384
// Up to here a warp takes a row, and a block kWarpRows of them.
constexpr int64_t kWarpChannels = kForwardValues * kLanes;
constexpr int kWarpRows = 4;

template <bool kRowPerWarp>
__device__ __forceinline__ float row_sum(float x, float* scratch) {
  if constexpr (kRowPerWarp) {
    return warp_sum(x);
  } else {
    return block_sum(x, scratch);
  }
}

template <typename T, bool kAligned, bool kRowPerWarp>
__global__ void __launch_bounds__(kMaxThreads)
    forward_kernel(T* out, float* means, float* rstds, const T* x, const float* gamma,
                   const float* beta, int64_t rows, int channels, float epsilon) {
  constexpr int kWidth = kVectorWidth<T>, kParts = kForwardValues / kWidth;
  VILG_SHARED_MEMORY(smem);
  auto* scratch = reinterpret_cast<float*>(smem);
  let_next_kernel_begin();
  wait_for_previous_kernel();
  const int64_t row = kRowPerWarp ? int64_t{blockIdx.x} * kWarpRows + warp_id() : blockIdx.x;
  if (row >= rows) return;
  const int thread = kRowPerWarp ? lane_id() : static_cast<int>(threadIdx.x);
  const int threads = kRowPerWarp ? kLanes : static_cast<int>(blockDim.x);
  const auto first = [&](int part) { return (part * threads + thread) * kWidth; };
  x += row * channels;
  out += row * channels;

  float values[kParts][kWidth], sum = 0;
#pragma unroll
  for (int part = 0; part < kParts; ++part) {
    load_floats<kAligned>(values[part], x + first(part), channels - first(part));
#pragma unroll
    for (int e = 0; e < kWidth; ++e) sum += values[part][e];
  }
  const float mean = row_sum<kRowPerWarp>(sum, scratch) / static_cast<float>(channels);
  float squares = 0;
#pragma unroll
  for (int part = 0; part < kParts; ++part) {
#pragma unroll
    for (int e = 0; e < kWidth; ++e) {
      const float d = first(part) + e < channels ? values[part][e] - mean : 0.0f;
      squares += d * d;
    }
  }
  const float variance = row_sum<kRowPerWarp>(squares, scratch) / static_cast<float>(channels);
  const float rstd = 1.0f / sqrtf(variance + epsilon);
  if (means && thread == 0) {
    means[row] = mean;
    rstds[row] = rstd;
  }
#pragma unroll
  for (int part = 0; part < kParts; ++part) {
    const int c = first(part), left = channels - c;
    float g[kWidth], b[kWidth];
    load_floats<kAligned>(g, gamma + c, left);
    load_floats<kAligned>(b, beta + c, left);
#pragma unroll
    for (int e = 0; e < kWidth; ++e) {
      values[part][e] = (values[part][e] - mean) * rstd * g[e] + b[e];
    }
    store_floats<kAligned>(out + c, values[part], left);
  }
}

// Rows that no block can hold are read three times.
template <typename T>
__global__ void __launch_bounds__(kMaxThreads)
    long_forward_kernel(T* out, float* means, float* rstds, const T* x, const float* gamma,
                        const float* beta, int64_t channels, float epsilon) {
  VILG_SHARED_MEMORY(smem);
  auto* scratch = reinterpret_cast<float*>(smem);
  const int64_t row = blockIdx.x;
  x += row * channels;
  out += row * channels;
  float sum = 0, squares = 0;
  for (int64_t c = threadIdx.x; c < channels; c += kMaxThreads) sum += to_float(x[c]);
  const float mean = block_sum(sum, scratch) / static_cast<float>(channels);
  for (int64_t c = threadIdx.x; c < channels; c += kMaxThreads) {
    const float d = to_float(x[c]) - mean;
    squares += d * d;
  }
  const float variance = block_sum(squares, scratch) / static_cast<float>(channels);
  const float rstd = 1.0f / sqrtf(variance + epsilon);
  if (means && threadIdx.x == 0) {
    means[row] = mean;
    rstds[row] = rstd;
  }
  for (int64_t c = threadIdx.x; c < channels; c += kMaxThreads) {
    out[c] = from_float<T>((to_float(x[c]) - mean) * rstd * gamma[c] + beta[c]);
  }
}

template <typename T>
void run_forward(const LayerNormForwardParams& p, Queue& queue) {
  auto* out = static_cast<T*>(p.out);
  const auto* x = static_cast<const T*>(p.x);
  constexpr size_t kScratchBytes = kLanes * sizeof(float);
  if (p.channels > kForwardValues * kMaxThreads) {
    launch(queue, {p.rows, kMaxThreads, kScratchBytes}, long_forward_kernel<T>, out, p.mean, p.rstd,
           x, p.gamma, p.beta, p.channels, p.epsilon);
    return;
  }
  const auto channels = static_cast<int>(p.channels);
  with_alignment<T>(
      p.channels,
      [&](auto aligned) {
        if (p.channels <= kWarpChannels) {
          launch(queue,
                 {.blocks = ceil_div(p.rows, kWarpRows),
                  .threads = kWarpRows * kLanes,
                  .overlaps = true},
                 forward_kernel<T, aligned.value, true>, out, p.mean, p.rstd, x, p.gamma, p.beta,
                 p.rows, channels, p.epsilon);
        } else {
          const auto threads =
              static_cast<int>(round_up(ceil_div(p.channels, kForwardValues), kLanes));
          launch(queue,
                 {.blocks = p.rows,
                  .threads = threads,
                  .shared_bytes = kScratchBytes,
                  .overlaps = true},
                 forward_kernel<T, aligned.value, false>, out, p.mean, p.rstd, x, p.gamma, p.beta,
                 p.rows, channels, p.epsilon);
        }
      },
      out, x, p.gamma, p.beta);
}

// --- backward -----------------------------------------------------------------------------------
// with n = (x - mean) rstd and g = dout gamma: dx = rstd (g - mean(g) - n mean(g n))
// A block takes a run of rows and keeps the parameters' gradients of its channels in registers; the
// blocks' sums are added in a fixed order by a second kernel. At C = 4096 in bfloat16, 16 x 1152
// rows move 453 MB, the partial sums another 35.

constexpr int kBackwardValues = 16;    // of a thread
constexpr int kBackwardThreads = 256;  // at most; 126 registers each, so two blocks run at a time
constexpr int64_t kFusedChannels = kBackwardValues * kBackwardThreads;
// Runs of rows: 264 blocks of 256 threads are what an H200 runs at a time. The number depends on
// the sizes alone, so that results do not depend on the device.
constexpr int64_t kBlocks = 264, kMinBlockRows = 8;

int64_t rows_of_a_block(int64_t rows, int64_t threads) {
  const int64_t blocks = kBlocks * (threads < kBackwardThreads ? kBackwardThreads / threads : 1);
  const int64_t even = ceil_div(rows, blocks);
  return even > kMinBlockRows ? even : kMinBlockRows;
}

template <typename T, bool kAligned>
__global__ void __launch_bounds__(kBackwardThreads, 2)
    backward_kernel(T* dx, float* partials, const T* dout, const T* x, const float* gamma,
                    const float* means, const float* rstds, int64_t rows, int64_t block_rows,
                    int channels, bool accumulate) {
  constexpr int kWidth = kVectorWidth<T>, kParts = kBackwardValues / kWidth;
  VILG_SHARED_MEMORY(smem);
  auto* scratch = reinterpret_cast<float2*>(smem);  // two rows in turn, 32 each
  const int thread = static_cast<int>(threadIdx.x), threads = static_cast<int>(blockDim.x);
  const int warps = threads / kLanes;
  const auto first = [&](int part) { return (part * threads + thread) * kWidth; };
  const int64_t begin = int64_t{blockIdx.x} * block_rows;
  const int64_t end = min(rows, begin + block_rows);
  const float inverse = 1.0f / static_cast<float>(channels);

  float dgamma[kParts][kWidth] = {}, dbeta[kParts][kWidth] = {};
  Vector<T, kWidth> next_x[kParts], next_dout[kParts];
  float next_mean, next_rstd;
  const auto load = [&](int64_t row) {
#pragma unroll
    for (int part = 0; part < kParts; ++part) {
      const int c = first(part);
      next_x[part] = load_run<kAligned>(x + row * channels + c, channels - c);
      next_dout[part] = load_run<kAligned>(dout + row * channels + c, channels - c);
    }
    next_mean = means[row];
    next_rstd = rstds[row];
  };
  load(begin);
  for (int64_t row = begin; row < end; ++row) {
    const float mean = next_mean, rstd = next_rstd;
    float n[kParts][kWidth], g[kParts][kWidth], sum = 0, product = 0;
#pragma unroll
    for (int part = 0; part < kParts; ++part) {
      const int c = first(part);
      float scale[kWidth];  // from the first-level cache after the first row
      load_floats<kAligned>(scale, gamma + c, channels - c);
#pragma unroll
      for (int e = 0; e < kWidth; ++e) {
        const float d = to_float(next_dout[part][e]);
        n[part][e] = (to_float(next_x[part][e]) - mean) * rstd;
        g[part][e] = d * scale[e];
        dgamma[part][e] += d * n[part][e];
        dbeta[part][e] += d;
        sum += g[part][e];
        product += g[part][e] * n[part][e];
      }
    }
    // all of it on its way while the block waits for its sums
    if (row + 1 < end) load(row + 1);
    sum = warp_sum(sum);
    product = warp_sum(product);
    if (warps > 1) {
      float2* of_row = scratch + row % 2 * kLanes;
      if (lane_id() == 0) of_row[warp_id()] = {sum, product};
      __syncthreads();
      const float2 of_warp = lane_id() < warps ? of_row[lane_id()] : float2{0, 0};
      sum = warp_sum(of_warp.x);
      product = warp_sum(of_warp.y);
    }
    sum *= inverse;
    product *= inverse;
#pragma unroll
    for (int part = 0; part < kParts; ++part) {
      const int c = first(part);
      Vector<T, kWidth> before{};
      if (accumulate) before = load_run<kAligned>(dx + row * channels + c, channels - c);
#pragma unroll
      for (int e = 0; e < kWidth; ++e) {
        g[part][e] = rstd * (g[part][e] - sum - n[part][e] * product);
        if (accumulate) g[part][e] += to_float(before[e]);
      }
      store_floats<kAligned>(dx + row * channels + c, g[part], channels - c);
    }
  }
  float* mine = partials + int64_t{blockIdx.x} * 2 * channels;
#pragma unroll
  for (int part = 0; part < kParts; ++part) {
    const int c = first(part);
    store_floats<kAligned>(mine + c, dgamma[part], channels - c);
    store_floats<kAligned>(mine + channels + c, dbeta[part], channels - c);
  }
}

// For rows that a block does not hold in registers: dx by itself, and the parameters' gradients by
// channel.
template <typename T>
__global__ void __launch_bounds__(kMaxThreads)
    long_backward_kernel(T* dx, const T* dout, const T* x, const float* gamma, const float* means,
                         const float* rstds, int64_t channels, bool accumulate) {
  VILG_SHARED_MEMORY(smem);
  auto* scratch = reinterpret_cast<float*>(smem);
  const int64_t row = blockIdx.x;
  const float mean = means[row], rstd = rstds[row];
  x += row * channels;
  dout += row * channels;
  dx += row * channels;
  float sum = 0, product = 0;
  for (int64_t c = threadIdx.x; c < channels; c += kMaxThreads) {
    const float g = to_float(dout[c]) * gamma[c];
    sum += g;
    product += g * ((to_float(x[c]) - mean) * rstd);
  }
  sum = block_sum(sum, scratch) / static_cast<float>(channels);
  product = block_sum(product, scratch) / static_cast<float>(channels);
  for (int64_t c = threadIdx.x; c < channels; c += kMaxThreads) {
    const float g = to_float(dout[c]) * gamma[c], n = (to_float(x[c]) - mean) * rstd;
    const float gradient = rstd * (g - sum - n * product);
    dx[c] = from_float<T>(accumulate ? to_float(dx[c]) + gradient : gradient);
  }
}

template <typename T>
__global__ void __launch_bounds__(kMaxThreads)
    long_partials_kernel(float* partials, const T* dout, const T* x, const float* means,
                         const float* rstds, int64_t rows, int64_t block_rows, int64_t channels) {
  const int64_t c = int64_t{blockIdx.y} * kMaxThreads + threadIdx.x;
  if (c >= channels) return;
  const int64_t begin = int64_t{blockIdx.x} * block_rows;
  const int64_t end = min(rows, begin + block_rows);
  float dgamma = 0, dbeta = 0;
  for (int64_t row = begin; row < end; ++row) {
    const float d = to_float(dout[row * channels + c]);
    dgamma += d * ((to_float(x[row * channels + c]) - means[row]) * rstds[row]);
    dbeta += d;
  }
  partials[int64_t{blockIdx.x} * 2 * channels + c] = dgamma;
  partials[(int64_t{blockIdx.x} * 2 + 1) * channels + c] = dbeta;
}

// dgamma and dbeta += the blocks' sums: a block takes 32 columns of (count, 2 C), each warp every
// eighth block's sums, then the warps' sums are added in order.
constexpr int kSumWarps = 8;

__global__ void __launch_bounds__(kSumWarps* kLanes)
    add_partials_kernel(float* dgamma, float* dbeta, const float* partials, int64_t count,
                        int64_t channels) {
  VILG_SHARED_MEMORY(smem);
  auto* sums = reinterpret_cast<float*>(smem);
  const int64_t column = int64_t{blockIdx.x} * kLanes + lane_id();
  float sum = 0;
  if (column < 2 * channels) {
#pragma unroll 4
    for (int64_t i = warp_id(); i < count; i += kSumWarps) {
      sum += partials[i * 2 * channels + column];
    }
  }
  sums[threadIdx.x] = sum;
  __syncthreads();
  if (warp_id() != 0 || column >= 2 * channels) return;
  for (int warp = 1; warp < kSumWarps; ++warp) sum += sums[warp * kLanes + lane_id()];
  (column < channels ? dgamma[column] : dbeta[column - channels]) += sum;
}

template <typename T>
void run_backward(const LayerNormBackwardParams& p, Queue& queue) {
  auto* dx = static_cast<T*>(p.dx);
  const auto *dout = static_cast<const T*>(p.dout), *x = static_cast<const T*>(p.x);
  const int64_t C = p.channels;
  const bool fused = C <= kFusedChannels;
  const int64_t threads = fused ? round_up(ceil_div(C, kBackwardValues), kLanes) : kMaxThreads;
  const int64_t block_rows = rows_of_a_block(p.rows, threads);
  const int64_t blocks = ceil_div(p.rows, block_rows);
  Workspace workspace(queue.allocator(), static_cast<size_t>(blocks * 2 * C) * sizeof(float));
  auto* partials = workspace.as<float>();
  if (fused) {
    with_alignment<T>(
        C,
        [&](auto aligned) {
          launch(queue, {blocks, static_cast<int>(threads), 2 * kLanes * sizeof(float2)},
                 backward_kernel<T, aligned.value>, dx, partials, dout, x, p.gamma, p.mean, p.rstd,
                 p.rows, block_rows, static_cast<int>(C), p.accumulate);
        },
        dx, dout, x, p.gamma);
  } else {
    launch(queue, {dim3(blocks, ceil_div(C, kMaxThreads)), kMaxThreads}, long_partials_kernel<T>,
           partials, dout, x, p.mean, p.rstd, p.rows, block_rows, C);
    launch(queue, {p.rows, kMaxThreads, kLanes * sizeof(float)}, long_backward_kernel<T>, dx, dout,
           x, p.gamma, p.mean, p.rstd, C, p.accumulate);
  }
  launch(queue, {ceil_div(2 * C, kLanes), kSumWarps * kLanes, kSumWarps * kLanes * sizeof(float)},
         add_partials_kernel, p.dgamma, p.dbeta, partials, blocks, C);
}

}  // namespace

void layer_norm_forward(const LayerNormForwardParams& p, Queue& queue) {
  p.dtype == DType::kFloat32 ? run_forward<float>(p, queue) : run_forward<bf16>(p, queue);
}

void layer_norm_backward(const LayerNormBackwardParams& p, Queue& queue) {
  p.dtype == DType::kFloat32 ? run_backward<float>(p, queue) : run_backward<bf16>(p, queue);
}

}  // namespace vilg::cuda
