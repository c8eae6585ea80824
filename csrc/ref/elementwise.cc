#include <cstring>

#include "ref/element.h"
#include "ref/ref_ops.h"

namespace vilg::ref {

void add(const AddParams& p, OpContext&) {
  validate(p);
  for (int64_t i = 0; i < p.num_elements; ++i) {
    const double y = p.y ? p.beta * read(p.y, p.dtype, i) : 0;
    write(p.out, p.dtype, i, p.alpha * read(p.x, p.dtype, i) + y);
  }
}

void convert(const ConvertParams& p, OpContext&) {
  validate(p);
  if (p.x_dtype == p.out_dtype) {
    std::memcpy(p.out, p.x, static_cast<size_t>(p.num_elements) * dtype_size(p.x_dtype));
    return;
  }
  for (int64_t i = 0; i < p.num_elements; ++i) {
    write(p.out, p.out_dtype, i, read(p.x, p.x_dtype, i));
  }
}

}  // namespace vilg::ref
