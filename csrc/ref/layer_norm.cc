#include <cmath>

#include "ref/element.h"
#include "ref/ref_ops.h"

namespace vilg::ref {

void layer_norm_forward(const LayerNormForwardParams& p, OpContext&) {
  validate(p);
  const int64_t C = p.channels;
  for (int64_t r = 0; r < p.rows; ++r) {
    double mean = 0, variance = 0;
    for (int64_t c = 0; c < C; ++c) mean += read(p.x, p.dtype, r * C + c);
    mean /= static_cast<double>(C);
    for (int64_t c = 0; c < C; ++c) {
      const double d = read(p.x, p.dtype, r * C + c) - mean;
      variance += d * d;
    }
    variance /= static_cast<double>(C);
    const double rstd = 1 / std::sqrt(variance + p.epsilon);
    for (int64_t c = 0; c < C; ++c) {
      const double normed = (read(p.x, p.dtype, r * C + c) - mean) * rstd;
      write(p.out, p.dtype, r * C + c, normed * p.gamma[c] + p.beta[c]);
    }
    if (p.mean) {
      p.mean[r] = static_cast<float>(mean);
      p.rstd[r] = static_cast<float>(rstd);
    }
  }
}

// with n = (x - mean) rstd and g = dout gamma: dx = rstd (g - mean(g) - n mean(g n))
void layer_norm_backward(const LayerNormBackwardParams& p, OpContext& ctx) {
  validate(p);
  const int64_t C = p.channels;
  Workspace workspace(*ctx.allocator, static_cast<size_t>(2 * C) * sizeof(double));
  double* dgamma = workspace.as<double>();
  double* dbeta = dgamma + C;
  for (int64_t c = 0; c < C; ++c) {
    dgamma[c] = p.dgamma[c];
    dbeta[c] = p.dbeta[c];
  }
  for (int64_t r = 0; r < p.rows; ++r) {
    const double mean = p.mean[r], rstd = p.rstd[r];
    double mean_g = 0, mean_gn = 0;
    for (int64_t c = 0; c < C; ++c) {
      const double dout = read(p.dout, p.dtype, r * C + c);
      const double n = (read(p.x, p.dtype, r * C + c) - mean) * rstd;
      mean_g += dout * p.gamma[c];
      mean_gn += dout * p.gamma[c] * n;
      dgamma[c] += dout * n;
      dbeta[c] += dout;
    }
    mean_g /= static_cast<double>(C);
    mean_gn /= static_cast<double>(C);
    for (int64_t c = 0; c < C; ++c) {
      const double g = read(p.dout, p.dtype, r * C + c) * p.gamma[c];
      const double n = (read(p.x, p.dtype, r * C + c) - mean) * rstd;
      const double before = p.accumulate ? read(p.dx, p.dtype, r * C + c) : 0;
      write(p.dx, p.dtype, r * C + c, before + rstd * (g - mean_g - n * mean_gn));
    }
  }
  for (int64_t c = 0; c < C; ++c) {
    p.dgamma[c] = static_cast<float>(dgamma[c]);
    p.dbeta[c] = static_cast<float>(dbeta[c]);
  }
}

}  // namespace vilg::ref
