#include <cstring>

#include "cpu/cpu_ops.h"
#include "kernels/cache.h"

namespace vilg::cpu {

// A few kilobytes a layer: not worth a thread.
void cache_write(const CacheWriteParams& unresolved, OpContext&) {
  const CacheWriteParams params = resolved(unresolved);
  const auto D = static_cast<size_t>(params.head_size);
  for (int64_t i = 0; i < params.tokens; ++i) {
    for (int64_t h = 0; h < params.heads; ++h) {
      const int64_t to = cache_offset(params, i, h);
      const int64_t from = i * params.token_stride + h * params.head_size;
      if (params.cache_dtype == DType::kFloat32) {
        std::memcpy(static_cast<float*>(params.k_cache) + to, params.k + from, D * sizeof(float));
        std::memcpy(static_cast<float*>(params.v_cache) + to, params.v + from, D * sizeof(float));
      } else {
        for (size_t d = 0; d < D; ++d) {
          static_cast<bf16*>(params.k_cache)[to + static_cast<int64_t>(d)] =
              float_to_bf16(params.k[from + static_cast<int64_t>(d)]);
          static_cast<bf16*>(params.v_cache)[to + static_cast<int64_t>(d)] =
              float_to_bf16(params.v[from + static_cast<int64_t>(d)]);
        }
      }
    }
  }
}

}  // namespace vilg::cpu
