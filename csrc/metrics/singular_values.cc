#include "metrics/singular_values.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

#include "core/error.h"
#include "kernels/linear_algebra.h"

namespace vilg {
namespace {

constexpr int kMaxIterations = 60;  // of QL for one eigenvalue; two or three are usual

// A reflection I - scale * w w^T with w[0] = 1 that takes x to (value, 0, ..., 0); x becomes w.
struct Reflection {
  double value, scale;
};
Reflection reflect(double* x, int64_t count) {
  double rest = 0;
  for (int64_t i = 1; i < count; ++i) rest += x[i] * x[i];
  if (rest == 0) {
    const double value = x[0];
    x[0] = 1;
    return {value, 0};
  }
  const double norm = std::sqrt(x[0] * x[0] + rest);
  // of the sign that does not cancel
  const double value = x[0] > 0 ? -norm : norm;
  const double scale = (value - x[0]) / value, divisor = x[0] - value;
  for (int64_t i = 1; i < count; ++i) x[i] /= divisor;
  x[0] = 1;
  return {value, scale};
}

// Upper bidiagonal: d_0 e_0 d_1 e_1 ... d_(n-1), in this order.
//
// One pass over the matrix applies both reflections of a step and multiplies by the next one, a
// second one multiplies the rows: three times the matrix moves to or from memory in a step.
// (Blocking the updates as LAPACK does would save a third of that.)
std::vector<double> bidiagonalize(std::vector<double>& a, int64_t m, int64_t n, OpContext& ctx) {
  std::vector<double> elements;
  // what is still to be subtracted from the rest: u y^T + x v^T
  std::vector<double> u(m), y(n), x(m), v(n), w(m);
  for (int64_t k = 0; k < n; ++k) {
    ctx.check_stop();
    const int64_t rows = m - k, columns = n - k - 1;
    double* corner = a.data() + k * n + k;
    // the first column as it is now becomes the first reflection
    for (int64_t i = k; i < m; ++i) w[i] = a[i * n + k] - u[i] * y[k] - x[i] * v[k];
    const Reflection left = reflect(w.data() + k, rows);
    elements.push_back(left.value);
    if (columns == 0) break;
    reflect_pass({.a = corner + 1,
                  .u = u.data() + k,
                  .y = y.data() + k + 1,
                  .x = x.data() + k,
                  .v = v.data() + k + 1,
                  .w = w.data() + k,
                  .sums = y.data() + k + 1,
                  .m = rows,
                  .n = columns,
                  .lda = n},
                 ctx);
    for (int64_t j = k + 1; j < n; ++j) y[j] *= left.scale;
    u = w;
    // the first row as it is now becomes the second
    for (int64_t j = k + 1; j < n; ++j) v[j] = a[k * n + j] - y[j];
    const Reflection right = reflect(v.data() + k + 1, columns);
    elements.push_back(right.value);
    matrix_vector({.out = x.data() + k + 1,
                   .a = corner + n + 1,
                   .v = v.data() + k + 1,
                   .m = rows - 1,
                   .n = columns,
                   .lda = n},
                  ctx);
    double product = 0;
    for (int64_t j = k + 1; j < n; ++j) product += y[j] * v[j];
    for (int64_t i = k + 1; i < m; ++i) x[i] = right.scale * (x[i] - u[i] * product);
  }
  return elements;
}

// The eigenvalues of a symmetric tridiagonal matrix by implicit QL with Wilkinson's shifts
// (Bowdler, Martin, Reinsch and Wilkinson 1968): of `diagonal`, in place; off_diagonal[i] lies
// between i and i + 1.
void tridiagonal_eigenvalues(std::vector<double>& diagonal, std::vector<double> off_diagonal,
                             OpContext& ctx) {
  const auto n = static_cast<int64_t>(diagonal.size());
  off_diagonal.resize(n);
  double norm = 0;
  for (int64_t i = 0; i < n; ++i) {
    norm = std::max(norm, std::abs(diagonal[i]) + std::abs(off_diagonal[i]));
  }
  // an element so small changes no eigenvalue by more than rounding does
  const double negligible = norm * std::numeric_limits<double>::epsilon() / 2;
  for (int64_t low = 0; low < n; ++low) {
    ctx.check_stop();
    for (int iteration = 0;; ++iteration) {
      int64_t high = low;
      while (high < n - 1 && std::abs(off_diagonal[high]) > negligible) ++high;
      if (high == low) break;
      VILG_CHECK(iteration < kMaxIterations, kInternal,
                 "QL found no eigenvalue in %d steps for a matrix of %lld rows", kMaxIterations,
                 static_cast<long long>(n));
      double g = (diagonal[low + 1] - diagonal[low]) / (2 * off_diagonal[low]);
      g = diagonal[high] - diagonal[low] +
          off_diagonal[low] / (g + std::copysign(std::hypot(g, 1.0), g));
      double sine = 1, cosine = 1, shift = 0;
      int64_t i = high - 1;
      for (; i >= low; --i) {
        const double f = sine * off_diagonal[i], b = cosine * off_diagonal[i];
        const double r = std::hypot(f, g);
        off_diagonal[i + 1] = r;
        if (r == 0) {  // split in the middle of a sweep: the rest is done by the next one
          diagonal[i + 1] -= shift;
          off_diagonal[high] = 0;
          break;
        }
        sine = f / r;
        cosine = g / r;
        g = diagonal[i + 1] - shift;
        const double t = (diagonal[i] - g) * sine + 2 * cosine * b;
        shift = sine * t;
        diagonal[i + 1] = g + shift;
        g = cosine * t - b;
      }
      if (i >= low) continue;
      diagonal[low] -= shift;
      off_diagonal[low] = g;
      off_diagonal[high] = 0;
    }
  }
}

}  // namespace

std::vector<double> singular_values(std::vector<double> a, int64_t m, int64_t n, OpContext& ctx) {
  VILG_CHECK(m >= 0 && n >= 0 && static_cast<int64_t>(a.size()) == m * n, kShapeMismatch,
             "Expected %lld x %lld numbers, received %zu", static_cast<long long>(m),
             static_cast<long long>(n), a.size());
  if (m < n) {
    std::vector<double> turned(a.size());
    for (int64_t i = 0; i < m; ++i) {
      for (int64_t j = 0; j < n; ++j) turned[j * m + i] = a[i * n + j];
    }
    return singular_values(std::move(turned), n, m, ctx);
  }
  double largest = 0;
  for (const double value : a) largest = std::max(largest, std::abs(value));
  VILG_CHECK(std::isfinite(largest), kInvalidArgument, "Expected finite numbers");
  if (largest == 0) return std::vector<double>(n);
  // squares neither overflow nor vanish
  for (double& value : a) value /= largest;

  std::vector<double> eigenvalues(2 * n);
  tridiagonal_eigenvalues(eigenvalues, bidiagonalize(a, m, n, ctx), ctx);
  // in pairs of equal size and different sign but for rounding: the larger half are the values
  std::sort(eigenvalues.begin(), eigenvalues.end(), std::greater<>());
  eigenvalues.resize(n);
  for (double& value : eigenvalues) value = std::max(value, 0.0) * largest;
  return eigenvalues;
}

}  // namespace vilg
