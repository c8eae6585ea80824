#include <algorithm>
#include <cstring>

#include "cpu/cpu_ops.h"
#include "cpu/isa.h"
#include "cpu/simd/image.h"

namespace vilg::cpu {
namespace {

VilgStorage storage_of(DType dtype) {
  return dtype == DType::kBFloat16 ? kVilgBFloat16 : kVilgFloat32;
}
constexpr int64_t kElementsPerTask = int64_t{1} << 16;

}  // namespace

void upsample_forward(const UpsampleForwardParams& p, OpContext& ctx) {
  validate(p);
  const size_t pixel = static_cast<size_t>(p.channels) * dtype_size(p.dtype);
  const int64_t row = p.width * static_cast<int64_t>(pixel);
  const int64_t rows = p.batch * p.height;
  const int64_t at_once = std::max<int64_t>(1, kElementsPerTask / (p.width * p.channels));
  ctx.pool->parallel_for(ceil_div(rows, at_once), [&](int64_t task) {
    for (int64_t y = task * at_once; y < std::min(rows, (task + 1) * at_once); ++y) {
      const char* from = static_cast<const char*>(p.x) + y * row;
      char* upper = static_cast<char*>(p.out) + y * 4 * row;
      char* to = upper;
      for (int64_t x = 0; x < p.width; ++x, from += pixel) {
        for (int i = 0; i < 2; ++i, to += pixel) std::memcpy(to, from, pixel);
      }
      std::memcpy(upper + 2 * row, upper, static_cast<size_t>(2 * row));
    }
  });
}

void upsample_backward(const UpsampleBackwardParams& p, OpContext& ctx) {
  validate(p);
  const auto* simd = VILG_SIMD(image);
  const int64_t row = p.width * p.channels * static_cast<int64_t>(dtype_size(p.dtype));
  const int64_t rows = p.batch * p.height;
  const int64_t at_once = std::max<int64_t>(1, kElementsPerTask / (p.width * p.channels));
  ctx.pool->parallel_for(ceil_div(rows, at_once), [&](int64_t task) {
    for (int64_t y = task * at_once; y < std::min(rows, (task + 1) * at_once); ++y) {
      const char* upper = static_cast<const char*>(p.dout) + y * 4 * row;
      simd->sum_quads(static_cast<char*>(p.dx) + y * row, upper, upper + 2 * row,
                      storage_of(p.dtype), p.width, p.channels);
    }
  });
}

void transpose(const TransposeParams& p, OpContext& ctx) {
  validate(p);
  const auto* simd = VILG_SIMD(image);
  // squares of 256 read and write whole lines and pages; the longer side is cut into tasks
  constexpr int64_t kBlock = 256;
  const bool cut_rows = p.rows >= p.columns;
  const int64_t blocks = ceil_div(cut_rows ? p.rows : p.columns, kBlock);
  const int64_t in_bytes = static_cast<int64_t>(dtype_size(p.x_dtype));
  const int64_t out_bytes = static_cast<int64_t>(dtype_size(p.out_dtype));
  ctx.pool->parallel_for(p.batch * blocks, [&](int64_t task) {
    const int64_t b = task / blocks, begin = task % blocks * kBlock;
    const int64_t matrix = b * p.rows * p.columns;
    const int64_t other = cut_rows ? p.columns : p.rows;
    for (int64_t o = 0; o < other; o += kBlock) {
      const int64_t r = cut_rows ? begin : o, c = cut_rows ? o : begin;
      simd->transpose(static_cast<char*>(p.out) + (matrix + c * p.rows + r) * out_bytes,
                      storage_of(p.out_dtype), p.rows,
                      static_cast<const char*>(p.x) + (matrix + r * p.columns + c) * in_bytes,
                      storage_of(p.x_dtype), p.columns, std::min(kBlock, p.rows - r),
                      std::min(kBlock, p.columns - c));
    }
  });
}

}  // namespace vilg::cpu
