// adamw: one pass over parameters, moments and gradients: 28 bytes an element, 30 with the rounded
// copy.
#include <cmath>

#include "cuda/cuda_ops.h"
#include "cuda/vectors.h"

namespace vilg::cuda {
namespace {

constexpr int kThreads = 256, kWidth = kVectorWidth<float>;

struct Step {
  float learning_rate, beta1, beta2, epsilon, weight_decay, grad_scale;
  float correction1, correction2;  // 1 / (1 - beta^t)
};

template <bool kAligned>
__global__ void __launch_bounds__(kThreads)
    adamw_kernel(float* parameter, bf16* low_precision, float* m, float* v, const float* grad,
                 int64_t count, Step s) {
  const int64_t i = (int64_t{blockIdx.x} * kThreads + threadIdx.x) * kWidth, left = count - i;
  float p[kWidth], first[kWidth], second[kWidth], g[kWidth];
  load_floats<kAligned>(p, parameter + i, left);
  load_floats<kAligned>(first, m + i, left);
  load_floats<kAligned>(second, v + i, left);
  load_floats<kAligned>(g, grad + i, left);
#pragma unroll
  for (int e = 0; e < kWidth; ++e) {
    const float scaled = s.grad_scale * g[e];
    first[e] = s.beta1 * first[e] + (1.0f - s.beta1) * scaled;
    second[e] = s.beta2 * second[e] + (1.0f - s.beta2) * (scaled * scaled);
    const float update = first[e] * s.correction1 / (sqrtf(second[e] * s.correction2) + s.epsilon);
    p[e] -= s.learning_rate * (s.weight_decay * p[e] + update);
  }
  store_floats<kAligned>(parameter + i, p, left);
  store_floats<kAligned>(m + i, first, left);
  store_floats<kAligned>(v + i, second, left);
  if (low_precision) store_floats<kAligned>(low_precision + i, p, left);
}

}  // namespace

void adamw(const AdamWParams& p, Queue& queue) {
  const auto correction = [&](double beta) {
    return static_cast<float>(1 / (1 - std::pow(beta, static_cast<double>(p.step))));
  };
  const Step step = {p.learning_rate,
                     p.beta1,
                     p.beta2,
                     p.epsilon,
                     p.weight_decay,
                     p.grad_scale,
                     correction(p.beta1),
                     correction(p.beta2)};
  with_alignment<float>(
      p.num_elements,
      [&](auto aligned) {
        launch(queue, {ceil_div(p.num_elements, kThreads * kWidth), kThreads},
               adamw_kernel<aligned.value>, p.parameter, p.low_precision, p.m, p.v, p.grad,
               p.num_elements, step);
      },
      p.parameter, p.m, p.v, p.grad, p.low_precision);
}

}  // namespace vilg::cuda
