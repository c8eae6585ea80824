// Double-precision loops of kernels/linear_algebra.h. Plain pointers and sizes; blocking, packing
// and threads are the caller's.
#pragma once

#include <stdint.h>

#include "cpu/simd/variant.h"

struct LinearAlgebraSimd {
  int32_t tile_rows, tile_columns;

  // c[i * ldc + j] += alpha * sum over k of a[k * tile_rows + i] * b[k * tile_columns + j], for all
  // of tile_rows x tile_columns. The sum starts at zero and runs in order of k.
  void (*tile)(double* c, int64_t ldc, const double* a_panel, const double* b_panel, int64_t k,
               double alpha);

  // For each of `rows` rows i of `columns` elements: a_i -= u[i] * y + x[i] * v, then sums += w[i]
  // * a_i.
  void (*reflect_rows)(double* a, int64_t lda, int64_t rows, int64_t columns, const double* u,
                       const double* y, const double* x, const double* v, const double* w,
                       double* sums);

  double (*dot)(const double* a, const double* b, int64_t count);
};
VILG_DECLARE_SIMD(LinearAlgebraSimd, linear_algebra)
