#include "metrics/pivoted_cholesky.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/error.h"
#include "kernels/linear_algebra.h"

namespace vilg {
namespace {

constexpr int64_t kBlock = 64;  // pivots between two updates of the whole matrix
constexpr double kRoundingLevel = 1e-4;

class Factorization {
 public:
  Factorization(std::span<const double> s, int64_t d, const char* name, OpContext& ctx)
      : d_(d), name_(name), ctx_(ctx), rest_(s.begin(), s.end()), diagonal_(d), column_(d) {
    for (int64_t i = 0; i < d; ++i) diagonal_[i] = s[i * d + i];
    largest_ = *std::max_element(diagonal_.begin(), diagonal_.end());
  }

  RootFactor run() {
    const double tolerance = static_cast<double>(d_) * std::numeric_limits<double>::epsilon();
    while (factor_.rank < d_) {
      const int64_t pivot =
          std::max_element(diagonal_.begin(), diagonal_.end()) - diagonal_.begin();
      const double variance = diagonal_[pivot];
      if (!(variance > tolerance * largest_)) break;
      read_column(pivot);
      if (largest_in_column() > 2 * variance) {
        refuse_above_rounding(variance);
        break;
      }
      append_row(pivot, std::sqrt(variance));
      if (factor_.rank % kBlock == 0) update_rest();
    }
    double least = 0;
    for (const double variance : diagonal_) {
      if (variance != kDone) least = std::min(least, variance);
    }
    refuse_above_rounding(-least);
    return std::move(factor_);
  }

 private:
  // in place of the variance of a pivot that was taken
  static constexpr double kDone = -std::numeric_limits<double>::infinity();

  // What is left of the pivot's column: the matrix as of the last update less the rows since then.
  void read_column(int64_t pivot) {
    for (int64_t i = 0; i < d_; ++i) {
      column_[i] = i <= pivot ? rest_[pivot * d_ + i] : rest_[i * d_ + pivot];
    }
    for (int64_t k = updated_; k < factor_.rank; ++k) {
      const double* row = factor_.rows.data() + k * d_;
      const double own = row[pivot];
      for (int64_t i = 0; i < d_; ++i) column_[i] -= own * row[i];
    }
  }

  double largest_in_column() const {
    double largest = 0;
    for (int64_t i = 0; i < d_; ++i) {
      if (diagonal_[i] != kDone) largest = std::max(largest, std::abs(column_[i]));
    }
    return largest;
  }

  void append_row(int64_t pivot, double root) {
    factor_.rows.resize((factor_.rank + 1) * d_);
    double* row = factor_.rows.data() + factor_.rank * d_;
    for (int64_t i = 0; i < d_; ++i) {
      if (diagonal_[i] == kDone) continue;  // zero but for rounding
      row[i] = column_[i] / root;
      diagonal_[i] -= row[i] * row[i];
    }
    row[pivot] = root;
    diagonal_[pivot] = kDone;
    ++factor_.rank;
  }

  void update_rest() {
    ctx_.check_stop();
    const double* rows = factor_.rows.data() + updated_ * d_;
    add_transposed_product({.c = rest_.data(),
                            .a = rows,
                            .b = rows,
                            .m = d_,
                            .n = d_,
                            .k = factor_.rank - updated_,
                            .lda = d_,
                            .ldb = d_,
                            .ldc = d_,
                            .alpha = -1,
                            .lower_only = true},
                           ctx_);
    updated_ = factor_.rank;
  }

  void refuse_above_rounding(double value) const {
    VILG_CHECK(value <= kRoundingLevel * largest_, kInvalidArgument,
               "Expected a positive semidefinite matrix for %s, received one that is none by %g, "
               "where its largest variance is %g",
               name_, value, largest_);
  }

  int64_t d_;
  const char* name_;
  OpContext& ctx_;
  std::vector<double> rest_;      // (d, d), of which the lower half counts
  std::vector<double> diagonal_;  // what is left of each variance
  std::vector<double> column_;
  double largest_ = 0;
  int64_t updated_ = 0;  // rows that rest_ has been updated with
  RootFactor factor_;
};

}  // namespace

RootFactor root_factor(std::span<const double> s, int64_t d, const char* name, OpContext& ctx) {
  VILG_CHECK(d > 0 && static_cast<int64_t>(s.size()) == d * d, kShapeMismatch,
             "Expected %lld x %lld numbers for %s, received %zu", static_cast<long long>(d),
             static_cast<long long>(d), name, s.size());
  return Factorization(s, d, name, ctx).run();
}

}  // namespace vilg
