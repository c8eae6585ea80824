// add and convert: bound by memory, 16 bytes a thread where the pointers allow it.
#include "cuda/cuda_ops.h"
#include "cuda/launch.h"

namespace vilg::cuda {
namespace {

constexpr int kThreads = 256;

template <int kWidth, typename T>
__global__ void __launch_bounds__(kThreads)
    add_kernel(T* out, const T* x, const T* y, int64_t vectors, float alpha, float beta) {
  const int64_t stride = int64_t{gridDim.x} * kThreads;
  for (int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x; i < vectors; i += stride) {
    const Vector<T, kWidth> a = load_vector<kWidth>(x + i * kWidth);
    Vector<T, kWidth> b = a;
    if (y) b = load_vector<kWidth>(y + i * kWidth);
    Vector<T, kWidth> sum;
#pragma unroll
    for (int e = 0; e < kWidth; ++e) {
      const float scaled = alpha * to_float(a[e]);
      sum[e] = from_float<T>(y ? scaled + beta * to_float(b[e]) : scaled);
    }
    store_vector<kWidth>(out + i * kWidth, sum);
  }
}

template <int kWidth, typename To, typename From>
__global__ void __launch_bounds__(kThreads)
    convert_kernel(To* out, const From* x, int64_t vectors) {
  const int64_t stride = int64_t{gridDim.x} * kThreads;
  for (int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x; i < vectors; i += stride) {
    const Vector<From, kWidth> a = load_vector<kWidth>(x + i * kWidth);
    Vector<To, kWidth> b;
#pragma unroll
    for (int e = 0; e < kWidth; ++e) b[e] = from_float<To>(to_float(a[e]));
    store_vector<kWidth>(out + i * kWidth, b);
  }
}

Grid spread(int64_t items) {
  // enough blocks to fill any device, few enough that each does several items
  return {dim3(min(ceil_div(items, int64_t{kThreads}), int64_t{16384})), kThreads};
}

template <typename T>
void run_add(const AddParams& p, Queue& queue) {
  auto* out = static_cast<T*>(p.out);
  const auto *x = static_cast<const T*>(p.x), *y = static_cast<const T*>(p.y);
  constexpr int kWidth = 16 / sizeof(T);
  if (p.num_elements % kWidth == 0 && aligned_to_16(out, x, y)) {
    const int64_t vectors = p.num_elements / kWidth;
    launch(queue, spread(vectors), add_kernel<kWidth, T>, out, x, y, vectors, p.alpha, p.beta);
  } else {
    launch(queue, spread(p.num_elements), add_kernel<1, T>, out, x, y, p.num_elements, p.alpha,
           p.beta);
  }
}

template <typename To, typename From>
void run_convert(const ConvertParams& p, Queue& queue) {
  auto* out = static_cast<To*>(p.out);
  const auto* x = static_cast<const From*>(p.x);
  if (p.num_elements % 4 == 0 && aligned_to_16(out, x)) {
    launch(queue, spread(p.num_elements / 4), convert_kernel<4, To, From>, out, x,
           p.num_elements / 4);
  } else {
    launch(queue, spread(p.num_elements), convert_kernel<1, To, From>, out, x, p.num_elements);
  }
}

}  // namespace

void add(const AddParams& p, Queue& queue) {
  p.dtype == DType::kFloat32 ? run_add<float>(p, queue) : run_add<bf16>(p, queue);
}

void convert(const ConvertParams& p, Queue& queue) {
  if (p.x_dtype == p.out_dtype) {
    queue.copy(p.out, p.x, static_cast<size_t>(p.num_elements) * dtype_size(p.x_dtype));
  } else if (p.x_dtype == DType::kFloat32) {
    run_convert<bf16, float>(p, queue);
  } else {
    run_convert<float, bf16>(p, queue);
  }
}

}  // namespace vilg::cuda
