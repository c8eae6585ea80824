#include "kernels/linear_algebra.h"

#include <algorithm>

#include "cpu/isa.h"
#include "cpu/simd/linear_algebra.h"
#include "kernels/checks.h"

namespace vilg {
namespace {

// A task computes a block of this side, a whole number of every variant's tiles, from panels of
// kDepth rows: two times 192 x 128 doubles, 393 KB, lie in the second-level cache. Packing them
// costs one copied double for 96 products.
constexpr int64_t kBlock = 192;
constexpr int64_t kDepth = 128;
constexpr int64_t kMaxTile = 8 * 24;

// Rows of a task of the passes over a matrix: enough to make the sums of its own cheap, few enough
// that 2048 rows are work for 16 threads.
constexpr int64_t kPassRows = 128;

// The columns [first, first + count) of kDepth or fewer rows as panels of `width` columns, zeros
// where the last one is not full: element (k, j) of panel p at to[(p * depth + k) * width + j].
void pack(double* to, const double* from, int64_t ld, int64_t depth, int64_t count, int64_t width) {
  for (int64_t first = 0; first < count; first += width) {
    const int64_t columns = std::min(width, count - first);
    for (int64_t k = 0; k < depth; ++k, to += width) {
      std::copy_n(from + k * ld + first, columns, to);
      std::fill(to + columns, to + width, 0.0);
    }
  }
}

void add_tile(const LinearAlgebraSimd* simd, double* c, int64_t ldc, int64_t rows, int64_t columns,
              const double* a, const double* b, int64_t depth, double alpha) {
  if (rows == simd->tile_rows && columns == simd->tile_columns) {
    simd->tile(c, ldc, a, b, depth, alpha);
    return;
  }
  double edge[kMaxTile] = {};
  simd->tile(edge, simd->tile_columns, a, b, depth, alpha);
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t j = 0; j < columns; ++j) c[i * ldc + j] += edge[i * simd->tile_columns + j];
  }
}

void add_block(const TransposedProductParams& p, const LinearAlgebraSimd* simd, int64_t first_row,
               int64_t first_column, OpContext& ctx) {
  const int64_t rows = std::min(kBlock, p.m - first_row);
  const int64_t columns = std::min(kBlock, p.n - first_column);
  const int64_t tile_rows = simd->tile_rows, tile_columns = simd->tile_columns;
  Workspace workspace(*ctx.allocator, 2 * kBlock * kDepth * sizeof(double));
  double* a_panels = workspace.as<double>();
  double* b_panels = a_panels + kBlock * kDepth;
  for (int64_t k = 0; k < p.k; k += kDepth) {
    ctx.check_stop();
    const int64_t depth = std::min(kDepth, p.k - k);
    pack(a_panels, p.a + k * p.lda + first_row, p.lda, depth, rows, tile_rows);
    pack(b_panels, p.b + k * p.ldb + first_column, p.ldb, depth, columns, tile_columns);
    for (int64_t j = 0; j < columns; j += tile_columns) {
      for (int64_t i = 0; i < rows; i += tile_rows) {
        add_tile(simd, p.c + (first_row + i) * p.ldc + first_column + j, p.ldc,
                 std::min(tile_rows, rows - i), std::min(tile_columns, columns - j),
                 a_panels + i * depth, b_panels + j * depth, depth, p.alpha);
      }
    }
  }
}

void check_matrix(const char* op, int64_t rows, int64_t columns, int64_t ld) {
  check_positive(op, "number of rows", rows);
  check_positive(op, "number of columns", columns);
  VILG_CHECK(ld >= columns, kShapeMismatch, "%s: expected rows at least %lld apart, received %lld",
             op, static_cast<long long>(columns), static_cast<long long>(ld));
}

}  // namespace

void add_transposed_product(const TransposedProductParams& p, OpContext& ctx) {
  const char* op = "add_transposed_product";
  check_pointer(op, "c", p.c);
  check_pointer(op, "a", p.a);
  check_pointer(op, "b", p.b);
  check_matrix(op, p.k, p.m, p.lda);
  check_matrix(op, p.k, p.n, p.ldb);
  check_matrix(op, p.m, p.n, p.ldc);
  VILG_CHECK(!p.lower_only || p.m == p.n, kShapeMismatch, "%s: expected a square product", op);
  const LinearAlgebraSimd* simd = VILG_SIMD(linear_algebra);
  const int64_t block_rows = ceil_div(p.m, kBlock), block_columns = ceil_div(p.n, kBlock);
  ctx.pool->parallel_for(block_rows * block_columns, [&](int64_t task) {
    const int64_t row = task / block_columns, column = task % block_columns;
    if (p.lower_only && column > row) return;
    add_block(p, simd, row * kBlock, column * kBlock, ctx);
  });
}

void reflect_pass(const ReflectPassParams& p, OpContext& ctx) {
  const char* op = "reflect_pass";
  for (const double* pointer : {static_cast<const double*>(p.a), p.u, p.y, p.x, p.v, p.w,
                                static_cast<const double*>(p.sums)}) {
    check_pointer(op, "an operand", pointer);
  }
  check_matrix(op, p.m, p.n, p.lda);
  const LinearAlgebraSimd* simd = VILG_SIMD(linear_algebra);
  const int64_t parts = ceil_div(p.m, kPassRows);
  // sums of each part by themselves, added in their order: the same bits for any number of threads
  Workspace workspace(*ctx.allocator, static_cast<size_t>(parts * p.n) * sizeof(double));
  double* partial = workspace.as<double>();
  ctx.pool->parallel_for(parts, [&](int64_t part) {
    const int64_t first = part * kPassRows, rows = std::min(kPassRows, p.m - first);
    double* sums = partial + part * p.n;
    std::fill_n(sums, p.n, 0.0);
    simd->reflect_rows(p.a + first * p.lda, p.lda, rows, p.n, p.u + first, p.y, p.x + first, p.v,
                       p.w + first, sums);
  });
  std::copy_n(partial, p.n, p.sums);
  for (int64_t part = 1; part < parts; ++part) {
    for (int64_t j = 0; j < p.n; ++j) p.sums[j] += partial[part * p.n + j];
  }
}

void matrix_vector(const MatrixVectorParams& p, OpContext& ctx) {
  const char* op = "matrix_vector";
  check_pointer(op, "out", p.out);
  check_pointer(op, "a", p.a);
  check_pointer(op, "v", p.v);
  check_matrix(op, p.m, p.n, p.lda);
  const LinearAlgebraSimd* simd = VILG_SIMD(linear_algebra);
  ctx.pool->parallel_for(ceil_div(p.m, kPassRows), [&](int64_t part) {
    const int64_t first = part * kPassRows, last = std::min(p.m, first + kPassRows);
    for (int64_t i = first; i < last; ++i) p.out[i] = simd->dot(p.a + i * p.lda, p.v, p.n);
  });
}

}  // namespace vilg
