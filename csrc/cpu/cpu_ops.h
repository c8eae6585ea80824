#pragma once

#include "kernels/op_table.h"

// The fast ops: checks, blocking and threads here, the arithmetic in csrc/cpu/simd.
namespace vilg::cpu {
#define VILG_OP(op, Params) void op(const Params&, OpContext&);
VILG_OPS(VILG_OP)
#undef VILG_OP
}  // namespace vilg::cpu
