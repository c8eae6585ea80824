#include <algorithm>
#include <cstring>

#include "cpu/cpu_ops.h"
#include "cpu/isa.h"
#include "cpu/simd/elementwise.h"
#include "cpu/simd/embedding.h"
#include "kernels/checks.h"

namespace vilg::cpu {
namespace {

constexpr int64_t kTaskElements = 16384;
constexpr int64_t kTaskChannels = 64;  // as in embedding.cc: one owner an entry

}  // namespace

void gather(const GatherParams& p, OpContext& ctx) {
  validate(p);
  check_indices("gather", "indices", p.indices, p.rows, p.size);
  const auto to_float = VILG_SIMD(elementwise)->to_float;
  const float* offset = p.offset_row ? p.offset + *p.offset_row * p.dim : p.offset;
  const int64_t task_rows = std::max<int64_t>(1, kTaskElements / p.dim);
  ctx.pool->parallel_for(ceil_div(p.rows, task_rows), [&](int64_t task) {
    for (int64_t i = task * task_rows; i < std::min(p.rows, (task + 1) * task_rows); ++i) {
      const int64_t from = p.indices[i] * p.dim;
      float* out = p.out + i * p.dim;
      if (p.table_dtype == DType::kBFloat16) {
        to_float(out, static_cast<const bf16*>(p.table) + from, p.dim);
      } else {
        std::memcpy(out, static_cast<const float*>(p.table) + from,
                    static_cast<size_t>(p.dim) * sizeof(float));
      }
      if (offset) {
        for (int64_t k = 0; k < p.dim; ++k) out[k] += offset[k];
      }
    }
  });
}

void scatter_add(const ScatterAddParams& p, OpContext& ctx) {
  validate(p);
  check_indices("scatter_add", "indices", p.indices, p.rows, p.size);
  const auto accumulate = VILG_SIMD(embedding)->accumulate[0];
  ctx.pool->parallel_for(ceil_div(p.dim, kTaskChannels), [&](int64_t task) {
    const int64_t k = task * kTaskChannels, n = std::min(kTaskChannels, p.dim - k);
    for (int64_t i = 0; i < p.rows; ++i) {
      accumulate(p.dtable + p.indices[i] * p.dim + k, nullptr, nullptr, p.dout + i * p.dim + k, n);
    }
  });
}

}  // namespace vilg::cpu
