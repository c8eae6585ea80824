#pragma once

#include <cstdint>

namespace vilg {

// How far each row's distribution p = softmax(logits) is from the uniform one, the KL term of a
// discrete VAE:
//   divergence_r = sum_v p_v ln(p_v V);   dlogits = (or +=) scale * its gradient,
//   p_v (ln p_v - sum_w p_w ln p_w)
// A logit of -inf counts nothing. NaN and +inf make the row's results NaN. dlogits may be null.
struct UniformDivergenceParams {
  float* divergence = nullptr;    // (rows)
  float* dlogits = nullptr;       // (rows, V); not logits
  const float* logits = nullptr;  // (rows, V)
  int64_t rows = 0, vocab = 0;
  float scale = 1.0f;
  bool accumulate = false;
};
void validate(const UniformDivergenceParams& params);

// Minus the log-likelihood of pixels under the logit-Laplace distribution of DALL-E (Ramesh et al.
// 2021, appendix A.3), whose parameters a network gives:
//   -ln f(x; mu, b) = ln(2 b x (1 - x)) + |logit(x) - mu| / b,   stats = [mu | ln b]
// sum over all values as a double, in fixed blocks; dstats = (or +=) scale * gradient. dstats or
// sum may be null.
struct LogitLaplaceParams {
  double* sum = nullptr;
  float* dstats = nullptr;         // (pixels, 2 C)
  const float* stats = nullptr;    // (pixels, 2 C)
  const float* targets = nullptr;  // (pixels, C), x: above 0 and below 1
  int64_t pixels = 0, channels = 0;
  float scale = 1.0f;
  bool accumulate = false;
};
void validate(const LogitLaplaceParams& params);

// The distance of features in LPIPS (Zhang et al. 2018): rows scaled to length 1, then the weighted
// squares of their differences,
//   u = x / (|x| + epsilon), v = y / (|y| + epsilon), epsilon = 1e-10;   sum_c w_c (u_c - v_c)^2
// summed over rows as a double, in fixed blocks; dx = (or +=) scale * gradient, 0 for a row of
// zeros. dx or sum may be null.
struct FeatureDistanceParams {
  double* sum = nullptr;
  float* dx = nullptr;             // (rows, C)
  const float* x = nullptr;        // (rows, C)
  const float* y = nullptr;        // (rows, C)
  const float* weights = nullptr;  // (C)
  int64_t rows = 0, channels = 0;
  float scale = 1.0f;
  bool accumulate = false;
};
void validate(const FeatureDistanceParams& params);
inline constexpr float kFeatureEpsilon = 1e-10f;

}  // namespace vilg
