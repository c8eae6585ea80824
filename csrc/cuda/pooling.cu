// Max pooling of 2 x 2: bound by memory. A thread has some channels of one result.
#include "cuda/cuda_ops.h"
#include "cuda/launch.h"

namespace vilg::cuda {
namespace {

constexpr int kThreads = 256;

struct Sizes {
  int64_t height, width, channels;  // of the input
};

// Where the four pixels of vector i of the results lie: from the first on, to the right, below.
template <int kWidth>
__device__ __forceinline__ int64_t first_pixel(int64_t i, const Sizes& s) {
  const int64_t pixel = i * kWidth / s.channels, channel = i * kWidth - pixel * s.channels;
  const int64_t columns = s.width / 2, rows = s.height / 2;
  const int64_t row = pixel / columns, column = pixel - row * columns;
  const int64_t picture = row / rows, y = 2 * (row - picture * rows);
  return ((picture * s.height + y) * s.width + 2 * column) * s.channels + channel;
}

__device__ __forceinline__ bool beats(float other, float best) {
  return other > best || other != other;
}

template <int kWidth>
__global__ void __launch_bounds__(kThreads)
    max_pool_kernel(float* out, const float* x, int64_t vectors, Sizes s) {
  wait_for_previous_kernel();
  let_next_kernel_begin();
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= vectors) return;
  const int64_t right = s.channels, below = s.width * s.channels;
  const float* from = x + first_pixel<kWidth>(i, s);
  Vector<float, kWidth> best = load_vector<kWidth>(from);
  const Vector<float, kWidth> others[3] = {load_vector<kWidth>(from + right),
                                           load_vector<kWidth>(from + below),
                                           load_vector<kWidth>(from + below + right)};
#pragma unroll
  for (int place = 0; place < 3; ++place) {
#pragma unroll
    for (int e = 0; e < kWidth; ++e) {
      best[e] = beats(others[place][e], best[e]) ? others[place][e] : best[e];
    }
  }
  store_vector<kWidth>(out + i * kWidth, best);
}

template <int kWidth>
__global__ void __launch_bounds__(kThreads)
    max_pool_backward_kernel(float* dx, const float* dout, const float* x, int64_t vectors,
                             Sizes s) {
  wait_for_previous_kernel();
  let_next_kernel_begin();
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= vectors) return;
  const int64_t first = first_pixel<kWidth>(i, s), below = s.width * s.channels;
  const int64_t places[4] = {first, first + s.channels, first + below, first + below + s.channels};
  Vector<float, kWidth> values[4], gradient[4] = {};
#pragma unroll
  for (int place = 0; place < 4; ++place) values[place] = load_vector<kWidth>(x + places[place]);
  const Vector<float, kWidth> incoming = load_vector<kWidth>(dout + i * kWidth);
#pragma unroll
  for (int e = 0; e < kWidth; ++e) {
    float best = values[0][e];
    int taken = 0;
#pragma unroll
    for (int place = 1; place < 4; ++place) {
      const bool better = beats(values[place][e], best);
      best = better ? values[place][e] : best;
      taken = better ? place : taken;
    }
#pragma unroll
    for (int place = 0; place < 4; ++place) {
      gradient[place][e] = taken == place ? incoming[e] : 0.0f;
    }
  }
#pragma unroll
  for (int place = 0; place < 4; ++place) store_vector<kWidth>(dx + places[place], gradient[place]);
}

Grid one_each(int64_t count) {
  return {dim3(ceil_div(count, kThreads)), kThreads, 0, /*overlaps=*/true};
}

// How many results there are.
template <typename Params>
int64_t result_count(const Params& p) {
  return p.batch * (p.height / 2) * (p.width / 2) * p.channels;
}

}  // namespace

void max_pool_forward(const MaxPoolForwardParams& p, Queue& queue) {
  const Sizes sizes{p.height, p.width, p.channels};
  const int64_t count = result_count(p);
  if (p.channels % 4 == 0 && aligned_to_16(p.out, p.x)) {
    launch(queue, one_each(count / 4), max_pool_kernel<4>, p.out, p.x, count / 4, sizes);
  } else {
    launch(queue, one_each(count), max_pool_kernel<1>, p.out, p.x, count, sizes);
  }
}

void max_pool_backward(const MaxPoolBackwardParams& p, Queue& queue) {
  const Sizes sizes{p.height, p.width, p.channels};
  const int64_t count = result_count(p);
  if (p.height % 2 != 0 || p.width % 2 != 0) {  // pixels that no square covers
    queue.fill(p.dx, 0,
               static_cast<size_t>(p.batch * p.height * p.width * p.channels) * sizeof(float));
  }
  if (p.channels % 4 == 0 && aligned_to_16(p.dx, p.dout, p.x)) {
    launch(queue, one_each(count / 4), max_pool_backward_kernel<4>, p.dx, p.dout, p.x, count / 4,
           sizes);
  } else {
    launch(queue, one_each(count), max_pool_backward_kernel<1>, p.dx, p.dout, p.x, count, sizes);
  }
}

}  // namespace vilg::cuda
