#pragma once

#include <cstdint>

#include "kernels/context.h"

// What the metrics need of dense linear algebra, in double precision. No ops of a model: on the
// CPU alone, and so not in the op table. Results depend on the instruction set in use (cpu_isa.h),
// never on the number of threads.
namespace vilg {

// c += alpha * a^T b, the shape of products of samples by features.
struct TransposedProductParams {
  double* c = nullptr;        // (m, n), rows ldc apart
  const double* a = nullptr;  // (k, m), rows lda apart
  const double* b = nullptr;  // (k, n), rows ldb apart
  int64_t m = 0, n = 0, k = 0;
  int64_t lda = 0, ldb = 0, ldc = 0;
  double alpha = 1;
  // Only c[i][j] with j <= i is needed; some of the others are changed, too. For a == b.
  bool lower_only = false;
};
void add_transposed_product(const TransposedProductParams& params, OpContext& ctx);

// One step of a reduction to bidiagonal form: updates a matrix by the two reflections of the step
// before and multiplies it by the next one, in a single pass over memory.
//   a -= u y^T + x v^T, then sums = a^T w
struct ReflectPassParams {
  double* a = nullptr;        // (m, n), rows lda apart
  const double* u = nullptr;  // m
  const double* y = nullptr;  // n
  const double* x = nullptr;  // m
  const double* v = nullptr;  // n
  const double* w = nullptr;  // m
  double* sums = nullptr;     // n
  int64_t m = 0, n = 0, lda = 0;
};
void reflect_pass(const ReflectPassParams& params, OpContext& ctx);

// out = a v
struct MatrixVectorParams {
  double* out = nullptr;      // m
  const double* a = nullptr;  // (m, n), rows lda apart
  const double* v = nullptr;  // n
  int64_t m = 0, n = 0, lda = 0;
};
void matrix_vector(const MatrixVectorParams& params, OpContext& ctx);

}  // namespace vilg
