// Ops that have no kernel yet.
#include "core/error.h"
#include "cuda/cuda_ops.h"

namespace vilg::cuda {

#define VILG_OP(op, Params)                                  \
  __attribute__((weak)) void op(const Params&, Queue&) {     \
    VILG_FAIL(kUnsupported, "The CUDA backend has no " #op); \
  }
VILG_OPS(VILG_OP)
#undef VILG_OP

}  // namespace vilg::cuda
