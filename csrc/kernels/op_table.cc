#include "kernels/op_table.h"

#include "core/error.h"

namespace vilg {

void check_op_table(const OpTable& table) {
#define VILG_OP(op, Params) \
  VILG_CHECK(table.op != nullptr, kInternal, "backend %s has no op " #op, table.name);
  VILG_OPS(VILG_OP)
#undef VILG_OP
}

}  // namespace vilg
