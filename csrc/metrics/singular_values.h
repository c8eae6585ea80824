#pragma once

#include <cstdint>
#include <vector>

#include "kernels/context.h"

namespace vilg {

// The singular values of a (m, n) matrix, all min(m, n) of them, in no particular order. Each is
// within a modest multiple of 2^-53 of the largest: reduction to bidiagonal form by reflections
// (Golub and Kahan 1965), then the eigenvalues of the symmetric tridiagonal matrix that has the
// bidiagonal's elements beside a diagonal of zeros (Golub and Kahan's; they are the values and
// their negatives) by the implicit QL method, without vectors. The same bits for any number of
// threads.
std::vector<double> singular_values(std::vector<double> a, int64_t m, int64_t n, OpContext& ctx);

}  // namespace vilg
