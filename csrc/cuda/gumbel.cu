// gumbel_noise: ten rounds of Philox for four elements of a thread, then two logarithms each.
#include "cuda/cuda_ops.h"
#include "cuda/launch.h"

namespace vilg::cuda {
namespace {

constexpr int kThreads = 256;

__global__ void __launch_bounds__(kThreads)
    gumbel_kernel(float* out, const float* x, int64_t n, int64_t quads, int64_t count,
                  uint64_t seed, uint32_t draw) {
  wait_for_previous_kernel();
  let_next_kernel_begin();
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= count) return;
  const int64_t row = i / quads, quad = i - row * quads;
  const auto bits =
      gumbel_bits(seed, draw, static_cast<uint32_t>(row), static_cast<uint32_t>(quad));
  const int64_t at = row * n + quad * 4;
#pragma unroll
  for (int e = 0; e < 4; ++e) {
    if (quad * 4 + e < n) out[at + e] = x[at + e] - logf(-logf(gumbel_uniform(bits[e])));
  }
}

}  // namespace

void gumbel_noise(const GumbelNoiseParams& p, Queue& queue) {
  const int64_t quads = ceil_div(p.n, 4), count = p.rows * quads;
  launch(queue, {dim3(ceil_div(count, kThreads)), kThreads, 0, /*overlaps=*/true}, gumbel_kernel,
         p.out, p.x, p.n, quads, count, p.seed, p.draw);
}

}  // namespace vilg::cuda
