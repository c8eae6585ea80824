#include "kernels/cache.h"

#include "core/error.h"

namespace vilg {

void validate(const CacheWriteParams& params) {
  VILG_CHECK(params.k_cache && params.v_cache && params.k && params.v, kInternal,
             "cache_write: null pointer");
  VILG_CHECK(params.tokens >= 1 && params.heads >= 1 && params.head_size >= 1, kInternal,
             "cache_write: empty");
  VILG_CHECK(params.token_stride >= params.heads * params.head_size || params.tokens == 1,
             kInternal, "cache_write: token stride %lld",
             static_cast<long long>(params.token_stride));
  const int64_t last = params.first_slot + (params.tokens - 1) * params.slot_step;
  VILG_CHECK(params.first_slot >= 0 && params.slot_step >= 0 && params.row_step >= 0 &&
                 last < params.capacity,
             kInternal, "cache_write: slot %lld of %lld", static_cast<long long>(last),
             static_cast<long long>(params.capacity));
  VILG_CHECK(params.slot_step + params.row_step > 0 || params.tokens == 1, kInternal,
             "cache_write: tokens collide");
  VILG_CHECK(params.cache_dtype == DType::kFloat32 || params.cache_dtype == DType::kBFloat16,
             kUnsupported, "cache_write: caches of type %s", dtype_name(params.cache_dtype));
}

CacheWriteParams resolved(const CacheWriteParams& params) {
  CacheWriteParams p = params;
  if (p.slot) {
    p.first_slot += *p.slot;
    p.slot = nullptr;
  }
  validate(p);
  return p;
}

}  // namespace vilg
