#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/context.h"

namespace vilg {

// The mean of some vectors and the sum of the outer products of their deviations from it.
struct FeatureMoments {
  std::vector<double> mean;     // d
  std::vector<double> scatter;  // (d, d), symmetric bit for bit
};

// Of `count` vectors of d numbers each, one after the other. In two passes, the mean first: that is
// exact to rounding for any mean, where sums of squares would cancel. The same bits for any number
// of threads.
FeatureMoments feature_moments(std::span<const double> features, int64_t count, int64_t d,
                               OpContext& ctx);

}  // namespace vilg
