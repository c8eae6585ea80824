#include "kernels/image_losses.h"

#include <cfloat>

#include "kernels/checks.h"

namespace vilg {
namespace {

void check_results(const char* op, const double* sum, const float* gradient) {
  VILG_CHECK(sum || gradient, kInvalidArgument,
             "%s: expected memory for the sum, the gradient or both", op);
}

}  // namespace

void validate(const UniformDivergenceParams& p) {
  constexpr const char* kOp = "uniform_divergence";
  check_positive(kOp, "rows", p.rows);
  check_positive(kOp, "vocab", p.vocab);
  check_pointer(kOp, "divergence", p.divergence);
  check_pointer(kOp, "logits", p.logits);
  check_range(kOp, "scale", p.scale, -FLT_MAX, FLT_MAX);
}

void validate(const LogitLaplaceParams& p) {
  constexpr const char* kOp = "logit_laplace";
  check_positive(kOp, "pixels", p.pixels);
  check_positive(kOp, "channels", p.channels);
  check_pointer(kOp, "stats", p.stats);
  check_pointer(kOp, "targets", p.targets);
  check_results(kOp, p.sum, p.dstats);
  check_range(kOp, "scale", p.scale, -FLT_MAX, FLT_MAX);
}

void validate(const FeatureDistanceParams& p) {
  constexpr const char* kOp = "feature_distance";
  check_positive(kOp, "rows", p.rows);
  check_positive(kOp, "channels", p.channels);
  check_pointer(kOp, "x", p.x);
  check_pointer(kOp, "y", p.y);
  check_pointer(kOp, "weights", p.weights);
  check_results(kOp, p.sum, p.dx);
  check_range(kOp, "scale", p.scale, -FLT_MAX, FLT_MAX);
}

}  // namespace vilg
