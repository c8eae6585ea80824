#include "cpu/simd/gelu.h"

#include <algorithm>

#include "cpu/cpu_ops.h"
#include "cpu/isa.h"

namespace vilg::cpu {
namespace {

VilgStorage storage_of(DType dtype) {
  return dtype == DType::kBFloat16 ? kVilgBFloat16 : kVilgFloat32;
}

// Runs body(first, count) over pieces of 16,384 elements (64 KB of floats: a fraction of L2).
template <class Body>
void for_pieces(int64_t num_elements, OpContext& ctx, const Body& body) {
  constexpr int64_t kPiece = 16384;
  ctx.pool->parallel_for(ceil_div(num_elements, kPiece), [&](int64_t i) {
    body(i * kPiece, std::min(kPiece, num_elements - i * kPiece));
  });
}

}  // namespace

void gelu_forward(const GeluForwardParams& p, OpContext& ctx) {
  validate(p);
  const GeluSimd* simd = VILG_SIMD(gelu);
  const auto size = static_cast<int64_t>(dtype_size(p.dtype));
  for_pieces(p.num_elements, ctx, [&](int64_t first, int64_t count) {
    simd->forward(static_cast<char*>(p.out) + first * size,
                  static_cast<const char*>(p.x) + first * size, storage_of(p.dtype), count);
  });
}

void gelu_backward(const GeluBackwardParams& p, OpContext& ctx) {
  validate(p);
  const GeluSimd* simd = VILG_SIMD(gelu);
  const auto size = static_cast<int64_t>(dtype_size(p.dtype));
  for_pieces(p.num_elements, ctx, [&](int64_t first, int64_t count) {
    simd->backward(
        static_cast<char*>(p.dx) + first * size, static_cast<const char*>(p.dout) + first * size,
        static_cast<const char*>(p.x) + first * size, storage_of(p.dtype), count, p.accumulate);
  });
}

// Blocks of rows are summed side by side, then their sums in order of the blocks: the order does
// not depend on the threads.
void bias_backward(const BiasBackwardParams& p, OpContext& ctx) {
  validate(p);
  const GeluSimd* simd = VILG_SIMD(gelu);
  constexpr int64_t kRowsPerBlock = 128;
  const int64_t blocks = ceil_div(p.rows, kRowsPerBlock);
  const auto size = static_cast<int64_t>(dtype_size(p.dtype));
  Workspace workspace(*ctx.allocator, static_cast<size_t>(blocks * p.n) * sizeof(float));
  auto* partial = workspace.as<float>();  // (blocks, N)
  ctx.pool->parallel_for(blocks, [&](int64_t i) {
    const int64_t first = i * kRowsPerBlock;
    simd->column_sums(partial + i * p.n, static_cast<const char*>(p.dout) + first * p.n * size,
                      storage_of(p.dtype), p.n, std::min(kRowsPerBlock, p.rows - first), p.n);
  });
  for (int64_t i = 0; i < blocks; ++i) {
    for (int64_t j = 0; j < p.n; ++j) p.dbias[j] += partial[i * p.n + j];
  }
}

}  // namespace vilg::cpu
