#pragma once

#include <cstdint>
#include <optional>

#include "core/memory.h"
#include "cuda/epilogue.h"
#include "cuda/operand.h"
#include "cuda/queue.h"

// The parts of matmul (matmul.cu): what they all take, and who does which products.
namespace vilg::cuda {

// Sums over K for every row of op(a) and column of op(b). K may be cut into `splits`, whose sums go
// to memory one after the other (Output::split_stride) and are added later by finish().
struct Product {
  Operand a, b;
  int m, n, k, batch;
  int splits = 1;
};

// --- products of more than 64 rows, or of operands that a linear layer does not have ---

// K is cut where one block per tile of 128 x 128 would leave most of a large GPU idle. Depends on
// the shape alone, and up to kSkinnyRows rows not on their number.
int gemm_splits(int64_t m, int64_t n, int64_t k, int64_t batch);

// Tensor cores, both operands bfloat16 with Operand::vector: copied to shared memory as they lie.
void gemm_bf16(const Product& product, const Output& out, Queue& queue);
// Tensor cores, any operands: rounded to bfloat16 on their way through registers. The same bits.
void gemm_direct(const Product& product, const Output& out, Queue& queue);
// float32 products of any operands.
void gemm_float(const Product& product, const Output& out, Queue& queue);

// A copy of `rows` (`batch` times) rows of K elements with Operand::vector, in bfloat16 when `half`
// and in float32 otherwise. The same dimension is contiguous, and ends with zeros up to a multiple
// of eight. Its memory is kept in `memory`.
Operand pack_operand(const Operand& from, bool half, int64_t rows, int64_t k, int64_t batch,
                     std::optional<Workspace>& memory, Queue& queue);

// --- up to kSkinnyRows rows [M, K] with weights [N, K] ---

void skinny_matmul(const MatmulParams& params, const Output& out, Queue& queue);

// --- sums that are in memory ---

// (splits, batch, M, N) in float32
struct Sums {
  const float* data;
  int64_t ld, batch_stride, split_stride;  // elements
  int splits;
};

// Adds up the splits in their order and writes c. The sums may be memory that is written, where
// each element lies in the same place.
void finish(const Sums& sums, const Output& out, int64_t m, int64_t n, int64_t batch, Queue& queue);

// Memory for (splits, batch, M, N) sums, how a kernel writes them, and how finish() reads them.
class SumsWorkspace {
 public:
  SumsWorkspace(int64_t splits, int64_t batch, int64_t m, int64_t n, Queue& queue)
      : memory_(queue.allocator(), static_cast<size_t>(splits * batch * m * n) * sizeof(float)),
        splits_(splits),
        batch_(batch),
        m_(m),
        n_(n) {}
  Output output() const {
    Output out{};
    out.c = memory_.data();
    out.ldc = n_, out.batch_stride = m_ * n_, out.split_stride = batch_ * m_ * n_;
    out.alpha = 1.0f;
    out.vector = n_ % kOutputWidth == 0;
    return out;
  }
  Sums sums() const {
    return {memory_.as<float>(), n_, m_ * n_, batch_ * m_ * n_, static_cast<int>(splits_)};
  }

 private:
  Workspace memory_;
  int64_t splits_, batch_, m_, n_;
};

// --- what the parameters say ---

Operand operand_a(const MatmulParams& params);
Operand operand_b(const MatmulParams& params);

}  // namespace vilg::cuda
