#include "kernels/checks.h"
#include "kernels/codebook.h"

namespace vilg {

void validate(const GatherParams& p) {
  constexpr const char* kOp = "gather";
  check_positive(kOp, "rows", p.rows);
  check_positive(kOp, "size", p.size);
  check_positive(kOp, "dim", p.dim);
  check_float_dtype(kOp, "table", p.table_dtype);
  check_pointer(kOp, "out", p.out);
  check_pointer(kOp, "table", p.table);
  check_pointer(kOp, "indices", p.indices);
  if (p.offset_row) check_pointer(kOp, "offset", p.offset);
}

void validate(const ScatterAddParams& p) {
  constexpr const char* kOp = "scatter_add";
  check_positive(kOp, "rows", p.rows);
  check_positive(kOp, "size", p.size);
  check_positive(kOp, "dim", p.dim);
  check_pointer(kOp, "dtable", p.dtable);
  check_pointer(kOp, "dout", p.dout);
  check_pointer(kOp, "indices", p.indices);
}

}  // namespace vilg
