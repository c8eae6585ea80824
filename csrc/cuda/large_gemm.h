#pragma once

#include "cuda/gemm.h"

namespace vilg::cuda {

// bfloat16 products by a library, where one was found (runtime/large_gemm.cu): does all of `out`,
// or nothing and returns false. Both operands have Operand::vector. There is none on the host.
bool large_gemm(const Product& product, const Output& out, Queue& queue);

}  // namespace vilg::cuda
