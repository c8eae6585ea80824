// cache_write: a copy of float32 rows into the caches' type and order, 8 elements a thread where
// everything is aligned.
#include "cuda/cuda_ops.h"
#include "cuda/launch.h"

namespace vilg::cuda {
namespace {

constexpr int kThreads = 128;

// Blocks: (tokens, vectors of a token).
template <int kCount, typename T>
__global__ void __launch_bounds__(kThreads) cache_write_kernel(CacheWriteParams p) {
  wait_for_previous_kernel();
  let_next_kernel_begin();
  const int64_t element = (int64_t{blockIdx.y} * kThreads + threadIdx.x) * kCount;
  if (element >= p.heads * p.head_size) return;
  const int64_t token = blockIdx.x, head = element / p.head_size;
  const int64_t slot = p.first_slot + (p.slot ? *p.slot : 0) + token * p.slot_step;
  const int64_t from = token * p.token_stride + element;
  const int64_t to = ((token * p.row_step * p.heads + head) * p.capacity + slot) * p.head_size +
                     element % p.head_size;
  // as many as one access of each type takes
  constexpr int kRead = kCount < 4 ? kCount : 4;
  Vector<T, kCount> keys, values;
#pragma unroll
  for (int i = 0; i < kCount; i += kRead) {
    const auto k = load_vector<kRead>(p.k + from + i), v = load_vector<kRead>(p.v + from + i);
#pragma unroll
    for (int e = 0; e < kRead; ++e) {
      keys[i + e] = from_float<T>(k[e]), values[i + e] = from_float<T>(v[e]);
    }
  }
  store_vector<kCount>(static_cast<T*>(p.k_cache) + to, keys);
  store_vector<kCount>(static_cast<T*>(p.v_cache) + to, values);
}

template <int kCount, typename T>
void run(const CacheWriteParams& p, Queue& queue) {
  launch(queue,
         {dim3(p.tokens, ceil_div(p.heads * p.head_size, kCount * kThreads)), kThreads, 0, true},
         cache_write_kernel<kCount, T>, p);
}

}  // namespace

void cache_write(const CacheWriteParams& p, Queue& queue) {
  const bool aligned = p.head_size % 8 == 0 && p.token_stride % 4 == 0 &&
                       aligned_to_16(p.k, p.v, p.k_cache, p.v_cache);
  if (p.cache_dtype == DType::kFloat32) {
    aligned ? run<4, float>(p, queue) : run<1, float>(p, queue);
  } else {
    aligned ? run<8, bf16>(p, queue) : run<1, bf16>(p, queue);
  }
}

}  // namespace vilg::cuda
