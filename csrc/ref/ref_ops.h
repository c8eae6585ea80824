#pragma once

#include "kernels/op_table.h"

// The oracle: every op written as its definition reads, scalar, accumulating in double.
namespace vilg::ref {
#define VILG_OP(op, Params) void op(const Params&, OpContext&);
VILG_OPS(VILG_OP)
#undef VILG_OP
}  // namespace vilg::ref
