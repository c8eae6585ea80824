#include "kernels/cache.h"
#include "ref/ref_ops.h"

namespace vilg::ref {

void cache_write(const CacheWriteParams& unresolved, OpContext&) {
  const CacheWriteParams params = resolved(unresolved);
  const int64_t H = params.heads, D = params.head_size;
  for (int64_t i = 0; i < params.tokens; ++i) {
    for (int64_t h = 0; h < H; ++h) {
      const int64_t to = cache_offset(params, i, h);
      for (int64_t d = 0; d < D; ++d) {
        const int64_t from = i * params.token_stride + h * D + d;
        if (params.cache_dtype == DType::kFloat32) {
          static_cast<float*>(params.k_cache)[to + d] = params.k[from];
          static_cast<float*>(params.v_cache)[to + d] = params.v[from];
        } else {
          static_cast<bf16*>(params.k_cache)[to + d] = float_to_bf16(params.k[from]);
          static_cast<bf16*>(params.v_cache)[to + d] = float_to_bf16(params.v[from]);
        }
      }
    }
  }
}

}  // namespace vilg::ref
