// leaky_relu: bound by memory, 16 bytes a thread where the pointers allow it.
#include "cuda/cuda_ops.h"
#include "cuda/launch.h"

namespace vilg::cuda {
namespace {

constexpr int kThreads = 256;

template <int kWidth>
__global__ void __launch_bounds__(kThreads)
    leaky_relu_kernel(float* out, const float* x, int64_t vectors, float slope) {
  wait_for_previous_kernel();
  let_next_kernel_begin();
  const int64_t i = (int64_t{blockIdx.x} * kThreads + threadIdx.x) * kWidth;
  if (i >= vectors * kWidth) return;
  Vector<float, kWidth> values = load_vector<kWidth>(x + i);
#pragma unroll
  for (int e = 0; e < kWidth; ++e) {
    values[e] = values[e] > 0 ? values[e] : slope * values[e];
  }
  store_vector<kWidth>(out + i, values);
}

template <int kWidth>
__global__ void __launch_bounds__(kThreads)
    leaky_relu_backward_kernel(float* dx, const float* dout, const float* out, int64_t vectors,
                               float slope, bool accumulate) {
  wait_for_previous_kernel();
  let_next_kernel_begin();
  const int64_t i = (int64_t{blockIdx.x} * kThreads + threadIdx.x) * kWidth;
  if (i >= vectors * kWidth) return;
  const Vector<float, kWidth> result = load_vector<kWidth>(out + i);
  Vector<float, kWidth> gradient = load_vector<kWidth>(dout + i), before{};
  if (accumulate) before = load_vector<kWidth>(dx + i);
#pragma unroll
  for (int e = 0; e < kWidth; ++e) {
    gradient[e] = result[e] > 0 ? gradient[e] : slope * gradient[e];
    if (accumulate) gradient[e] += before[e];
  }
  store_vector<kWidth>(dx + i, gradient);
}

Grid one_each(int64_t count) {
  return {dim3(ceil_div(count, kThreads)), kThreads, 0, /*overlaps=*/true};
}

}  // namespace

void leaky_relu_forward(const LeakyReluForwardParams& p, Queue& queue) {
  if (p.num_elements % 4 == 0 && aligned_to_16(p.out, p.x)) {
    const int64_t vectors = p.num_elements / 4;
    launch(queue, one_each(vectors), leaky_relu_kernel<4>, p.out, p.x, vectors, p.slope);
  } else {
    launch(queue, one_each(p.num_elements), leaky_relu_kernel<1>, p.out, p.x, p.num_elements,
           p.slope);
  }
}

void leaky_relu_backward(const LeakyReluBackwardParams& p, Queue& queue) {
  if (p.num_elements % 4 == 0 && aligned_to_16(p.dx, p.dout, p.out)) {
    const int64_t vectors = p.num_elements / 4;
    launch(queue, one_each(vectors), leaky_relu_backward_kernel<4>, p.dx, p.dout, p.out, vectors,
           p.slope, p.accumulate);
  } else {
    launch(queue, one_each(p.num_elements), leaky_relu_backward_kernel<1>, p.dx, p.dout, p.out,
           p.num_elements, p.slope, p.accumulate);
  }
}

}  // namespace vilg::cuda
