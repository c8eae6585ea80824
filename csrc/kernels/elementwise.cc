#include "kernels/elementwise.h"

#include "kernels/checks.h"

namespace vilg {

void validate(const AddParams& p) {
  constexpr const char* kOp = "add";
  check_positive(kOp, "num_elements", p.num_elements);
  check_float_dtype(kOp, "x", p.dtype);
  check_pointer(kOp, "out", p.out);
  check_pointer(kOp, "x", p.x);
}

void validate(const ConvertParams& p) {
  constexpr const char* kOp = "convert";
  check_positive(kOp, "num_elements", p.num_elements);
  check_pointer(kOp, "out", p.out);
  check_pointer(kOp, "x", p.x);
  if (p.x_dtype != p.out_dtype) {
    check_float_dtype(kOp, "x", p.x_dtype);
    check_float_dtype(kOp, "out", p.out_dtype);
  }
}

}  // namespace vilg
