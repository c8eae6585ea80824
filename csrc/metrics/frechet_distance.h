#pragma once

#include <cstdint>
#include <span>

#include "kernels/context.h"

namespace vilg {

// A normal distribution of d numbers.
struct GaussianView {
  std::span<const double> mean;        // d
  std::span<const double> covariance;  // (d, d)
};

// The squared Frechet (2-Wasserstein) distance of two normal distributions (Dowson and Landau
// 1982): |m1 - m2|^2 + tr(S1) + tr(S2) - 2 tr((S1 S2)^(1/2)).
//
// With S1 = R1^T R1 and S2 = R2^T R2 (pivoted_cholesky.h) the last trace is the sum of the singular
// values of R1 R2^T: its square times its transpose, R1 S2 R1^T, has the nonzero eigenvalues of S1
// S2. Nothing can become imaginary or negative, covariances of less than full rank make R1 and R2
// smaller and faster, and errors stay those of rounding. Eigenvalues of a product, of S1^(1/2) S2
// S1^(1/2) too, would be exact to rounding of the largest one only, and the root of what should be
// 0 then is 1e-8 of it, for each of the dimensions that are missing.
//
// The same bits for any number of threads. Throws
// kInvalidArgument for matrices that are no covariances.
double frechet_distance(const GaussianView& a, const GaussianView& b, OpContext& ctx);

}  // namespace vilg
