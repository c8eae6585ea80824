#include "cuda/large_gemm.h"

namespace vilg::cuda {

bool large_gemm(const Product&, const Output&, Queue&) { return false; }

}  // namespace vilg::cuda
