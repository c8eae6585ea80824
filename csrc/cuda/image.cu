// Upsampling by two and transposition: bound by memory.
#include "cuda/cuda_ops.h"
#include "cuda/launch.h"

namespace vilg::cuda {
namespace {

constexpr int kThreads = 256;

// A thread writes some channels of the four pixels that come of one, so that each input is read
// once.
template <int kWidth, typename T>
__global__ void __launch_bounds__(kThreads)
    upsample_kernel(T* out, const T* x, int64_t vectors, int width, int channels) {
  wait_for_previous_kernel();
  let_next_kernel_begin();
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= vectors) return;
  const Vector<T, kWidth> values = load_vector<kWidth>(x + i * kWidth);
  const int64_t pixel = i * kWidth / channels, channel = i * kWidth - pixel * channels;
  const int64_t row = pixel / width, column = pixel - row * width;
  T* to = out + (2 * row * 2 * width + 2 * column) * channels + channel;
  store_vector<kWidth>(to, values);
  store_vector<kWidth>(to + channels, values);
  to += int64_t{2} * width * channels;
  store_vector<kWidth>(to, values);
  store_vector<kWidth>(to + channels, values);
}

template <int kWidth, typename T>
__global__ void __launch_bounds__(kThreads)
    upsample_backward_kernel(T* dx, const T* dout, int64_t vectors, int width, int channels) {
  wait_for_previous_kernel();
  let_next_kernel_begin();
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= vectors) return;
  const int64_t pixel = i * kWidth / channels, channel = i * kWidth - pixel * channels;
  const int64_t row = pixel / width, column = pixel - row * width;
  const T* from = dout + (2 * row * 2 * width + 2 * column) * channels + channel;
  const T* below = from + int64_t{2} * width * channels;
  const auto a = load_vector<kWidth>(from), b = load_vector<kWidth>(from + channels);
  const auto c = load_vector<kWidth>(below), d = load_vector<kWidth>(below + channels);
  Vector<T, kWidth> sum;
#pragma unroll
  for (int e = 0; e < kWidth; ++e) {
    sum[e] = from_float<T>((to_float(a[e]) + to_float(b[e])) + (to_float(c[e]) + to_float(d[e])));
  }
  store_vector<kWidth>(dx + i * kWidth, sum);
}

constexpr int kSide = 32;  // of a tile that goes through shared memory

// Rows of a tile are read whole and its columns written whole; the odd pitch keeps the columns'
// elements in different banks.
template <typename To, typename From>
__global__ void __launch_bounds__(kThreads)
    transpose_kernel(To* out, const From* x, int64_t rows, int64_t columns, int64_t tiles_down,
                     int64_t tiles_across) {
  VILG_SHARED_MEMORY(smem);
  auto* tile = reinterpret_cast<float*>(smem);  // [kSide][kSide + 1]
  wait_for_previous_kernel();
  let_next_kernel_begin();
  const int64_t across = blockIdx.x % tiles_across, down = blockIdx.x / tiles_across % tiles_down;
  const int64_t offset = blockIdx.x / tiles_across / tiles_down * rows * columns;
  const int lane = lane_id();
  for (int i = warp_id(); i < kSide; i += kThreads / kLanes) {
    const int64_t row = down * kSide + i, column = across * kSide + lane;
    if (row < rows && column < columns) {
      tile[i * (kSide + 1) + lane] = to_float(x[offset + row * columns + column]);
    }
  }
  __syncthreads();
  for (int i = warp_id(); i < kSide; i += kThreads / kLanes) {
    const int64_t row = down * kSide + lane, column = across * kSide + i;
    if (row < rows && column < columns) {
      out[offset + column * rows + row] = from_float<To>(tile[lane * (kSide + 1) + i]);
    }
  }
}

// Channels that are too few for a tile: a thread writes one element. Its neighbours read the same
// sectors.
template <typename To, typename From>
__global__ void __launch_bounds__(kThreads)
    transpose_narrow_kernel(To* out, const From* x, int64_t rows, int64_t columns, int64_t count) {
  wait_for_previous_kernel();
  let_next_kernel_begin();
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= count) return;
  const int64_t row = i % rows, column = i / rows % columns, matrix = i / rows / columns;
  out[i] = from_float<To>(to_float(x[(matrix * rows + row) * columns + column]));
}

Grid one_each(int64_t count) { return {dim3(ceil_div(count, kThreads)), kThreads, 0, true}; }

template <int kWidth, typename T>
void run_upsample(const UpsampleForwardParams& p, Queue& queue) {
  const int64_t vectors = p.batch * p.height * p.width * p.channels / kWidth;
  launch(queue, one_each(vectors), upsample_kernel<kWidth, T>, static_cast<T*>(p.out),
         static_cast<const T*>(p.x), vectors, static_cast<int>(p.width),
         static_cast<int>(p.channels));
}

template <int kWidth, typename T>
void run_upsample_backward(const UpsampleBackwardParams& p, Queue& queue) {
  const int64_t vectors = p.batch * p.height * p.width * p.channels / kWidth;
  launch(queue, one_each(vectors), upsample_backward_kernel<kWidth, T>, static_cast<T*>(p.dx),
         static_cast<const T*>(p.dout), vectors, static_cast<int>(p.width),
         static_cast<int>(p.channels));
}

template <typename To, typename From>
void run_transpose(const TransposeParams& p, Queue& queue) {
  auto* out = static_cast<To*>(p.out);
  const auto* x = static_cast<const From*>(p.x);
  if (min(p.rows, p.columns) <= kSide / 4) {
    const int64_t count = p.batch * p.rows * p.columns;
    launch(queue, one_each(count), transpose_narrow_kernel<To, From>, out, x, p.rows, p.columns,
           count);
    return;
  }
  const int64_t down = ceil_div(p.rows, kSide), across = ceil_div(p.columns, kSide);
  launch(queue,
         {dim3(p.batch * down * across), kThreads, sizeof(float) * kSide * (kSide + 1),
          /*overlaps=*/true},
         transpose_kernel<To, From>, out, x, p.rows, p.columns, down, across);
}

}  // namespace

void upsample_forward(const UpsampleForwardParams& p, Queue& queue) {
  const bool aligned = aligned_to_16(p.out, p.x);
  if (p.dtype == DType::kFloat32) {
    aligned&& p.channels % 4 == 0 ? run_upsample<4, float>(p, queue)
                                  : run_upsample<1, float>(p, queue);
  } else {
    aligned&& p.channels % 8 == 0 ? run_upsample<8, bf16>(p, queue)
                                  : run_upsample<1, bf16>(p, queue);
  }
}

void upsample_backward(const UpsampleBackwardParams& p, Queue& queue) {
  const bool aligned = aligned_to_16(p.dx, p.dout);
  if (p.dtype == DType::kFloat32) {
    aligned&& p.channels % 4 == 0 ? run_upsample_backward<4, float>(p, queue)
                                  : run_upsample_backward<1, float>(p, queue);
  } else {
    aligned&& p.channels % 8 == 0 ? run_upsample_backward<8, bf16>(p, queue)
                                  : run_upsample_backward<1, bf16>(p, queue);
  }
}

void transpose(const TransposeParams& p, Queue& queue) {
  if (p.x_dtype == DType::kFloat32) {
    p.out_dtype == DType::kFloat32 ? run_transpose<float, float>(p, queue)
                                   : run_transpose<bf16, float>(p, queue);
  } else {
    p.out_dtype == DType::kFloat32 ? run_transpose<float, bf16>(p, queue)
                                   : run_transpose<bf16, bf16>(p, queue);
  }
}

}  // namespace vilg::cuda
