#pragma once

#include "cuda/queue.h"
#include "kernels/op_table.h"

// Every op on a queue. The parameters have been validated; work is put at the end of the queue.
namespace vilg::cuda {
#define VILG_OP(op, Params) void op(const Params&, Queue&);
VILG_OPS(VILG_OP)
#undef VILG_OP
}  // namespace vilg::cuda
