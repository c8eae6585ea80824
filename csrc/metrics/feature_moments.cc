#include "metrics/feature_moments.h"

#include "core/error.h"
#include "kernels/linear_algebra.h"

namespace vilg {

FeatureMoments feature_moments(std::span<const double> features, int64_t count, int64_t d,
                               OpContext& ctx) {
  VILG_CHECK(count > 0 && d > 0 && static_cast<int64_t>(features.size()) == count * d,
             kShapeMismatch, "Expected %lld x %lld features, received %zu numbers",
             static_cast<long long>(count), static_cast<long long>(d), features.size());
  FeatureMoments moments{std::vector<double>(d), std::vector<double>(d * d)};
  for (int64_t row = 0; row < count; ++row) {
    for (int64_t i = 0; i < d; ++i) moments.mean[i] += features[row * d + i];
  }
  for (double& sum : moments.mean) sum /= static_cast<double>(count);
  ctx.check_stop();

  std::vector<double> centred(features.size());
  for (int64_t row = 0; row < count; ++row) {
    for (int64_t i = 0; i < d; ++i) {
      centred[row * d + i] = features[row * d + i] - moments.mean[i];
    }
  }
  add_transposed_product({.c = moments.scatter.data(),
                          .a = centred.data(),
                          .b = centred.data(),
                          .m = d,
                          .n = d,
                          .k = count,
                          .lda = d,
                          .ldb = d,
                          .ldc = d,
                          .lower_only = true},
                         ctx);
  for (int64_t i = 0; i < d; ++i) {
    for (int64_t j = 0; j < i; ++j) moments.scatter[j * d + i] = moments.scatter[i * d + j];
  }
  return moments;
}

}  // namespace vilg
