#pragma once

#include "kernels/attention.h"

namespace vilg {

void validate(const CacheWriteParams& params);

// Where head h of token i begins, in elements of either cache.
inline int64_t cache_offset(const CacheWriteParams& params, int64_t i, int64_t h) {
  return ((i * params.row_step * params.heads + h) * params.capacity + params.first_slot +
          i * params.slot_step) *
         params.head_size;
}

}  // namespace vilg
