#include "cpu/simd/elementwise.h"

#include <algorithm>
#include <cstring>

#include "cpu/cpu_ops.h"
#include "cpu/isa.h"

namespace vilg::cpu {
namespace {

constexpr int64_t kBlock = 32768;

}  // namespace

void add(const AddParams& p, OpContext& ctx) {
  validate(p);
  const auto kernel = VILG_SIMD(elementwise)->add[p.dtype == DType::kBFloat16];
  const auto size = static_cast<int64_t>(dtype_size(p.dtype));
  ctx.pool->parallel_for(ceil_div(p.num_elements, kBlock), [&](int64_t block) {
    const int64_t begin = block * kBlock;
    kernel(static_cast<char*>(p.out) + begin * size, static_cast<const char*>(p.x) + begin * size,
           p.y ? static_cast<const char*>(p.y) + begin * size : nullptr,
           std::min(kBlock, p.num_elements - begin), p.alpha, p.beta);
  });
}

void convert(const ConvertParams& p, OpContext& ctx) {
  validate(p);
  const ElementwiseSimd* simd = VILG_SIMD(elementwise);
  const auto x_size = static_cast<int64_t>(dtype_size(p.x_dtype));
  const auto out_size = static_cast<int64_t>(dtype_size(p.out_dtype));
  ctx.pool->parallel_for(ceil_div(p.num_elements, kBlock), [&](int64_t block) {
    const int64_t begin = block * kBlock, n = std::min(kBlock, p.num_elements - begin);
    char* out = static_cast<char*>(p.out) + begin * out_size;
    const char* x = static_cast<const char*>(p.x) + begin * x_size;
    if (p.x_dtype == p.out_dtype) {
      std::memcpy(out, x, static_cast<size_t>(n * x_size));
    } else if (p.out_dtype == DType::kBFloat16) {
      simd->to_bf16(reinterpret_cast<bf16*>(out), reinterpret_cast<const float*>(x), n);
    } else {
      simd->to_float(reinterpret_cast<float*>(out), reinterpret_cast<const bf16*>(x), n);
    }
  });
}

}  // namespace vilg::cpu
