#include "metrics/frechet_distance.h"

#include <algorithm>
#include <vector>

#include "core/error.h"
#include "kernels/linear_algebra.h"
#include "metrics/pivoted_cholesky.h"
#include "metrics/singular_values.h"

namespace vilg {
namespace {

// (rank, d) to (d, rank)
std::vector<double> transposed(const RootFactor& factor, int64_t d) {
  std::vector<double> result(factor.rows.size());
  for (int64_t k = 0; k < factor.rank; ++k) {
    for (int64_t i = 0; i < d; ++i) result[i * factor.rank + k] = factor.rows[k * d + i];
  }
  return result;
}

// tr((S1 S2)^(1/2))
double trace_of_root(const GaussianView& a, const GaussianView& b, int64_t d, OpContext& ctx) {
  const RootFactor first = root_factor(a.covariance, d, "the first covariance", ctx);
  const RootFactor second = root_factor(b.covariance, d, "the second covariance", ctx);
  if (first.rank == 0 || second.rank == 0) return 0;
  std::vector<double> product(first.rank * second.rank);
  const std::vector<double> left = transposed(first, d), right = transposed(second, d);
  add_transposed_product({.c = product.data(),
                          .a = left.data(),
                          .b = right.data(),
                          .m = first.rank,
                          .n = second.rank,
                          .k = d,
                          .lda = first.rank,
                          .ldb = second.rank,
                          .ldc = second.rank},
                         ctx);
  double sum = 0;
  for (const double value : singular_values(std::move(product), first.rank, second.rank, ctx)) {
    sum += value;
  }
  return sum;
}

}  // namespace

double frechet_distance(const GaussianView& a, const GaussianView& b, OpContext& ctx) {
  const auto d = static_cast<int64_t>(a.mean.size());
  VILG_CHECK(b.mean.size() == a.mean.size(), kShapeMismatch,
             "Expected means of one length, received %zu and %zu", a.mean.size(), b.mean.size());
  double distance = 0;
  for (int64_t i = 0; i < d; ++i) {
    const double difference = a.mean[i] - b.mean[i];
    distance += difference * difference;
  }
  double traces = -2 * trace_of_root(a, b, d, ctx);
  for (int64_t i = 0; i < d; ++i) {
    traces += a.covariance[i * d + i] + b.covariance[i * d + i];
  }
  // a squared distance too, below zero by rounding alone
  return distance + std::max(traces, 0.0);
}

}  // namespace vilg
