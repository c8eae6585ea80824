// gelu_forward and gelu_backward: bound by memory, 16 bytes a thread where the pointers allow it.
#include "cuda/gelu.h"

#include "cuda/cuda_ops.h"
#include "cuda/launch.h"

namespace vilg::cuda {
namespace {

constexpr int kThreads = 256;

template <int kWidth, typename T>
__global__ void __launch_bounds__(kThreads)
    gelu_forward_kernel(T* out, const T* x, int64_t vectors) {
  const int64_t stride = int64_t{gridDim.x} * kThreads;
  for (int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x; i < vectors; i += stride) {
    Vector<T, kWidth> v = load_vector<kWidth>(x + i * kWidth);
#pragma unroll
    for (int e = 0; e < kWidth; ++e) v[e] = from_float<T>(gelu(to_float(v[e])));
    store_vector<kWidth>(out + i * kWidth, v);
  }
}

template <int kWidth, typename T>
__global__ void __launch_bounds__(kThreads)
    gelu_backward_kernel(T* dx, const T* dout, const T* x, int64_t vectors, bool accumulate) {
  const int64_t stride = int64_t{gridDim.x} * kThreads;
  for (int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x; i < vectors; i += stride) {
    const Vector<T, kWidth> v = load_vector<kWidth>(x + i * kWidth);
    const Vector<T, kWidth> d = load_vector<kWidth>(dout + i * kWidth);
    Vector<T, kWidth> before = d, grad;
    if (accumulate) before = load_vector<kWidth>(dx + i * kWidth);
#pragma unroll
    for (int e = 0; e < kWidth; ++e) {
      const float product = __fmul_rn(to_float(d[e]), gelu_slope(to_float(v[e])));
      grad[e] = from_float<T>(accumulate ? __fadd_rn(product, to_float(before[e])) : product);
    }
    store_vector<kWidth>(dx + i * kWidth, grad);
  }
}

Grid spread(int64_t items) {
  return {dim3(min(ceil_div(items, int64_t{kThreads}), int64_t{16384})), kThreads};
}

template <typename T>
void run_forward(const GeluForwardParams& p, Queue& queue) {
  auto* out = static_cast<T*>(p.out);
  const auto* x = static_cast<const T*>(p.x);
  constexpr int kWidth = 16 / sizeof(T);
  if (p.num_elements % kWidth == 0 && aligned_to_16(out, x)) {
    const int64_t vectors = p.num_elements / kWidth;
    launch(queue, spread(vectors), gelu_forward_kernel<kWidth, T>, out, x, vectors);
  } else {
    launch(queue, spread(p.num_elements), gelu_forward_kernel<1, T>, out, x, p.num_elements);
  }
}

template <typename T>
void run_backward(const GeluBackwardParams& p, Queue& queue) {
  auto* dx = static_cast<T*>(p.dx);
  const auto *dout = static_cast<const T*>(p.dout), *x = static_cast<const T*>(p.x);
  constexpr int kWidth = 16 / sizeof(T);
  if (p.num_elements % kWidth == 0 && aligned_to_16(dx, dout, x)) {
    const int64_t vectors = p.num_elements / kWidth;
    launch(queue, spread(vectors), gelu_backward_kernel<kWidth, T>, dx, dout, x, vectors,
           p.accumulate);
  } else {
    launch(queue, spread(p.num_elements), gelu_backward_kernel<1, T>, dx, dout, x, p.num_elements,
           p.accumulate);
  }
}

}  // namespace

void gelu_forward(const GeluForwardParams& p, Queue& queue) {
  p.dtype == DType::kFloat32 ? run_forward<float>(p, queue) : run_forward<bf16>(p, queue);
}

void gelu_backward(const GeluBackwardParams& p, Queue& queue) {
  p.dtype == DType::kFloat32 ? run_backward<float>(p, queue) : run_backward<bf16>(p, queue);
}

}  // namespace vilg::cuda
