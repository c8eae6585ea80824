#include <cmath>

#include "kernels/checks.h"
#include "ref/ref_ops.h"

namespace vilg::ref {

void cross_entropy(const CrossEntropyParams& p, OpContext&) {
  validate(p);
  const int64_t V = p.vocab;
  for (int64_t r = 0; r < p.rows; ++r) {
    VILG_CHECK(p.targets[r] < V, kInvalidArgument,
               "cross_entropy: expected targets below vocab = %lld, received %d at row %lld",
               static_cast<long long>(V), p.targets[r], static_cast<long long>(r));
  }
  for (int64_t r = 0; r < p.rows; ++r) {
    const float* x = p.logits + r * V;
    float* dx = p.dlogits ? p.dlogits + r * V : nullptr;
    const int64_t target = p.targets[r];
    if (target < 0) {
      p.loss[r] = 0;
      for (int64_t v = 0; dx && v < V; ++v) dx[v] = 0;
      continue;
    }
    double largest = x[0], sum = 0;
    for (int64_t v = 1; v < V; ++v) largest = x[v] > largest ? x[v] : largest;
    for (int64_t v = 0; v < V; ++v) sum += std::exp(x[v] - largest);  // a NaN makes it NaN
    const double lse = largest + std::log(sum);
    const double smoothing = p.label_smoothing;
    double loss = p.z_loss * lse * lse;
    for (int64_t v = 0; v < V; ++v) {
      const double q = (v == target ? 1 - smoothing : 0) + smoothing / static_cast<double>(V);
      if (q != 0) loss -= q * (x[v] - lse);
    }
    p.loss[r] = static_cast<float>(loss);
    for (int64_t v = 0; dx && v < V; ++v) {
      const double q = (v == target ? 1 - smoothing : 0) + smoothing / static_cast<double>(V);
      const double probability = std::exp(x[v] - lse);
      dx[v] = static_cast<float>(p.row_scale * (probability * (1 + 2 * p.z_loss * lse) - q));
    }
  }
}

void squared_error(const SquaredErrorParams& p, OpContext&) {
  validate(p);
  double sum = 0;
  for (int64_t i = 0; i < p.num_elements; ++i) {
    const double d = static_cast<double>(p.x[i]) - p.y[i];
    sum += d * d;
    if (p.dx) p.dx[i] = static_cast<float>((p.accumulate ? p.dx[i] : 0) + p.scale * 2 * d);
  }
  if (p.sum) *p.sum = sum;
}

}  // namespace vilg::ref
