#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/context.h"

namespace vilg {

// A positive semidefinite matrix as s = r^T r, r being (rank, d).
struct RootFactor {
  int64_t rank = 0;
  std::vector<double> rows;  // (rank, d)
};

// By Cholesky's method with the largest remaining diagonal element as the pivot, which needs no
// full rank: covariances of fewer samples than features end early. It ends where what is left is
// rounding: where the largest remaining variance is below d * 2^-52 of the largest, or where an
// element beside the pivot is larger than the pivot by more than a factor of 2, as it cannot be in
// any covariance (so matrices that were rounded to float32 end at their own level). Throws
// kInvalidArgument where that is more than rounding, 1e-4 of the largest variance: the matrix is no
// covariance then.
//
// Only s[i][j] with j <= i is read. `name` is for errors.
RootFactor root_factor(std::span<const double> s, int64_t d, const char* name, OpContext& ctx);

}  // namespace vilg
