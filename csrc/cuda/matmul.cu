// Which kernels make a matrix product, decided by types, shape and alignment.
#include "kernels/matmul.h"

#include <algorithm>
#include <limits>

#include "core/error.h"
#include "cuda/cuda_ops.h"
#include "cuda/gemm.h"
#include "cuda/large_gemm.h"
#include "cuda/launch.h"

namespace vilg::cuda {
namespace {

bool multiple_of_16_bytes(int64_t elements, DType dtype) {
  return elements * static_cast<int64_t>(dtype_size(dtype)) % 16 == 0;
}

Operand make_operand(const void* data, DType dtype, int64_t ld, int64_t batch_stride,
                     bool along_k) {
  return {data,
          ld,
          batch_stride,
          dtype == DType::kBFloat16,
          along_k,
          aligned_to_16(data) && multiple_of_16_bytes(ld, dtype) &&
              multiple_of_16_bytes(batch_stride, dtype)};
}

Output make_output(const MatmulParams& p) {
  Output out{};
  out.c = p.c, out.pre_activation = p.pre_activation, out.residual = p.residual, out.bias = p.bias;
  out.ldc = p.ldc, out.batch_stride = p.batch > 1 ? p.stride_c : 0;
  out.alpha = p.alpha, out.epilogue = p.epilogue;
  out.half = p.c_dtype == DType::kBFloat16, out.accumulate = p.accumulate;
  const size_t width = kOutputWidth * dtype_size(p.c_dtype);
  const auto aligned = [&](const void* pointer) {
    return reinterpret_cast<uintptr_t>(pointer) % width == 0;
  };
  out.vector = aligned(p.c) && aligned(p.pre_activation) && aligned(p.residual) &&
               p.ldc % kOutputWidth == 0 && out.batch_stride % kOutputWidth == 0;
  return out;
}

// Whether copies of the operands as the tensor core kernel wants them pay: counted in bytes from
// the second-level cache. gemm_direct reads an operand in its own type once for each tile of 64 of
// the other; gemm_bf16 two bytes for each tile of 128, after a pass that reads the operand and
// writes it in bfloat16. A launch and its wait cost about as much as 8 MB.
bool worth_packing(const Product& p) {
  constexpr double kLaunchBytes = 8e6;
  const auto needed = [](const Operand& o) { return !o.half || !o.vector; };
  const auto size = [](const Operand& o) { return o.half ? 2.0 : 4.0; };
  const double a = double(p.m) * p.k * p.batch, b = double(p.n) * p.k * p.batch;
  const auto visits = [](int rows, int tile) { return static_cast<double>(ceil_div(rows, tile)); };
  const double direct = a * size(p.a) * visits(p.n, 64) + b * size(p.b) * visits(p.m, 64);
  double packed = 2 * a * visits(p.n, 128) + 2 * b * visits(p.m, 128);
  if (needed(p.a)) packed += a * (size(p.a) + 2) + kLaunchBytes;
  if (needed(p.b)) packed += b * (size(p.b) + 2) + kLaunchBytes;
  return packed < direct;
}

using Kernel = void (*)(const Product&, const Output&, Queue&);

// One kernel over all of K, or over parts of it that finish() adds.
void run(Kernel kernel, Product product, const Output& out, Queue& queue) {
  product.splits = gemm_splits(product.m, product.n, product.k, product.batch);
  if (product.splits == 1) {
    kernel(product, out, queue);
    return;
  }
  const SumsWorkspace workspace(product.splits, product.batch, product.m, product.n, queue);
  kernel(product, workspace.output(), queue);
  finish(workspace.sums(), out, product.m, product.n, product.batch, queue);
}

void tensor_matmul(const Product& p, const Output& out, Queue& queue) {
  if (!worth_packing(p)) {
    run(gemm_direct, p, out, queue);
    return;
  }
  std::optional<Workspace> packed_a, packed_b;
  Product packed = p;
  if (!p.a.half || !p.a.vector)
    packed.a = pack_operand(p.a, true, p.m, p.k, p.batch, packed_a, queue);
  if (!p.b.half || !p.b.vector)
    packed.b = pack_operand(p.b, true, p.n, p.k, p.batch, packed_b, queue);
  if (p.m > kSkinnyRows && large_gemm(packed, out, queue)) return;
  run(gemm_bf16, packed, out, queue);
}

}  // namespace

Operand operand_a(const MatmulParams& p) {
  return make_operand(p.a, p.a_dtype, p.lda, p.batch > 1 ? p.stride_a : 0, !p.trans_a);
}
Operand operand_b(const MatmulParams& p) {
  return make_operand(p.b, p.b_dtype, p.ldb, p.batch > 1 ? p.stride_b : 0, p.trans_b);
}

int gemm_splits(int64_t m, int64_t n, int64_t k, int64_t batch) {
  // two blocks to each of 132 multiprocessors, and at least 512 of K to a split, so that adding the
  // parts stays cheap
  const int64_t tiles = ceil_div(std::max(m, kSkinnyRows), 128) * ceil_div(n, 128) * batch;
  return static_cast<int>(std::clamp(std::min(264 / tiles, k / 512), int64_t{1}, int64_t{16}));
}

void matmul(const MatmulParams& p, Queue& queue) {
  constexpr int64_t kLargest = std::numeric_limits<int32_t>::max() - 1024;
  VILG_CHECK(p.m <= kLargest && p.n <= kLargest && p.k <= kLargest && p.batch <= kLargest,
             kUnsupported,
             "Expected sizes below 2^31 for a matrix product, received %lld x %lld x %lld",
             static_cast<long long>(p.m), static_cast<long long>(p.n), static_cast<long long>(p.k));
  const Output out = make_output(p);
  if (p.m <= kSkinnyRows && !p.trans_a && p.trans_b) {
    skinny_matmul(p, out, queue);
    return;
  }
  Product product{operand_a(p),          operand_b(p),          static_cast<int>(p.m),
                  static_cast<int>(p.n), static_cast<int>(p.k), static_cast<int>(p.batch)};
  if (p.compute == DType::kFloat32) {
    run(gemm_float, product, out, queue);
  } else {
    tensor_matmul(product, out, queue);
  }
}

}  // namespace vilg::cuda
