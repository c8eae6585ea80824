#include "ref/ref_ops.h"

namespace vilg {

const OpTable& ref_ops() {
  static const OpTable table = [] {
    OpTable t;
    t.name = "ref";
#define VILG_OP(op, Params) t.op = ref::op;
    VILG_OPS(VILG_OP)
#undef VILG_OP
    return t;
  }();
  return table;
}

}  // namespace vilg
