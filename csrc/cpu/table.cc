#include "cpu/cpu_ops.h"

namespace vilg {

const OpTable& cpu_ops() {
  static const OpTable table = [] {
    OpTable t;
    t.name = "cpu";
#define VILG_OP(op, Params) t.op = cpu::op;
    VILG_OPS(VILG_OP)
#undef VILG_OP
    return t;
  }();
  return table;
}

}  // namespace vilg
