#include "kernels/checks.h"
#include "ref/element.h"
#include "ref/ref_ops.h"

namespace vilg::ref {

void gather(const GatherParams& p, OpContext&) {
  validate(p);
  check_indices("gather", "indices", p.indices, p.rows, p.size);
  const float* offset = p.offset_row ? p.offset + *p.offset_row * p.dim : p.offset;
  for (int64_t i = 0; i < p.rows; ++i) {
    for (int64_t k = 0; k < p.dim; ++k) {
      write(p.out, DType::kFloat32, i * p.dim + k,
            read(p.table, p.table_dtype, p.indices[i] * p.dim + k) + (offset ? offset[k] : 0));
    }
  }
}

void scatter_add(const ScatterAddParams& p, OpContext& ctx) {
  validate(p);
  check_indices("scatter_add", "indices", p.indices, p.rows, p.size);
  Workspace workspace(*ctx.allocator, static_cast<size_t>(p.size * p.dim) * sizeof(double));
  double* sums = workspace.as<double>();
  for (int64_t i = 0; i < p.size * p.dim; ++i) sums[i] = p.dtable[i];
  for (int64_t i = 0; i < p.rows; ++i) {
    for (int64_t k = 0; k < p.dim; ++k) sums[p.indices[i] * p.dim + k] += p.dout[i * p.dim + k];
  }
  for (int64_t i = 0; i < p.size * p.dim; ++i) p.dtable[i] = static_cast<float>(sums[i]);
}

}  // namespace vilg::ref
