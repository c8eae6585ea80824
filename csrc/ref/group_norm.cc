#include <algorithm>
#include <cmath>

#include "ref/element.h"
#include "ref/ref_ops.h"

namespace vilg::ref {
namespace {

double sigmoid(double t) { return 1 / (1 + std::exp(-t)); }

// Calls body(index into x, channel) for every element of one group of one picture.
template <typename Params, typename Body>
void for_each_element(const Params& p, int64_t b, int64_t group, const Body& body) {
  const int64_t per_group = p.channels / p.groups;
  for (int64_t pixel = 0; pixel < p.pixels; ++pixel) {
    for (int64_t c = group * per_group; c < (group + 1) * per_group; ++c) {
      body((b * p.pixels + pixel) * p.channels + c, c);
    }
  }
}

}  // namespace

void group_norm_forward(const GroupNormForwardParams& p, OpContext&) {
  validate(p);
  const double count = static_cast<double>(p.pixels * (p.channels / p.groups));
  for (int64_t b = 0; b < p.batch; ++b) {
    for (int64_t g = 0; g < p.groups; ++g) {
      double mean = 0, variance = 0;
      for_each_element(p, b, g, [&](int64_t i, int64_t) { mean += read(p.x, p.dtype, i) / count; });
      for_each_element(p, b, g, [&](int64_t i, int64_t) {
        const double d = read(p.x, p.dtype, i) - mean;
        variance += d * d / count;
      });
      const double rstd = 1 / std::sqrt(variance + p.epsilon);
      p.mean[b * p.groups + g] = static_cast<float>(mean);
      p.rstd[b * p.groups + g] = static_cast<float>(rstd);
      if (!p.out) continue;
      for_each_element(p, b, g, [&](int64_t i, int64_t c) {
        const double t = (read(p.x, p.dtype, i) - mean) * rstd * p.gamma[c] + p.beta[c];
        write(p.out, p.dtype, i, p.swish ? t * sigmoid(t) : t);
      });
    }
  }
}

void group_norm_backward(const GroupNormBackwardParams& p, OpContext&) {
  validate(p);
  const int64_t per_group = p.channels / p.groups;
  const double count = static_cast<double>(p.pixels * per_group);
  // the gradient of t = norm(x) * gamma + beta, and the normalised x
  const auto point = [&](int64_t i, int64_t c, int64_t bg, double& dt, double& normalized) {
    normalized = (read(p.x, p.dtype, i) - p.mean[bg]) * p.rstd[bg];
    dt = read(p.dout, p.dtype, i);
    if (p.swish) {
      const double t = normalized * p.gamma[c] + p.beta[c], s = sigmoid(t);
      dt *= s + t * s * (1 - s);
    }
  };
  for (int64_t c = 0; c < p.channels; ++c) {
    double dgamma = p.dgamma[c], dbeta = p.dbeta[c], dt, normalized;
    for (int64_t b = 0; b < p.batch; ++b) {
      for (int64_t pixel = 0; pixel < p.pixels; ++pixel) {
        point((b * p.pixels + pixel) * p.channels + c, c, b * p.groups + c / per_group, dt,
              normalized);
        dgamma += dt * normalized;
        dbeta += dt;
      }
    }
    p.dgamma[c] = static_cast<float>(dgamma);
    p.dbeta[c] = static_cast<float>(dbeta);
  }
  for (int64_t b = 0; b < p.batch; ++b) {
    for (int64_t g = 0; g < p.groups; ++g) {
      const int64_t bg = b * p.groups + g;
      double mean = 0, slope = 0, dt, normalized;  // of the normalised x's gradient
      for_each_element(p, b, g, [&](int64_t i, int64_t c) {
        point(i, c, bg, dt, normalized);
        mean += dt * p.gamma[c] / count;
        slope += dt * p.gamma[c] * normalized / count;
      });
      for_each_element(p, b, g, [&](int64_t i, int64_t c) {
        point(i, c, bg, dt, normalized);
        const double dx = p.rstd[bg] * (dt * p.gamma[c] - mean - normalized * slope);
        write(p.dx, p.dtype, i, dx + (p.accumulate ? read(p.dx, p.dtype, i) : 0));
      });
    }
  }
}

void softmax_forward(const SoftmaxForwardParams& p, OpContext&) {
  validate(p);
  for (int64_t row = 0; row < p.rows; ++row) {
    const float* x = p.x + row * p.n;
    double largest = static_cast<double>(p.scale) * x[0], sum = 0;
    for (int64_t i = 1; i < p.n; ++i) {
      largest = std::max(largest, static_cast<double>(p.scale) * x[i]);
    }
    for (int64_t i = 0; i < p.n; ++i) {
      sum += std::exp(static_cast<double>(p.scale) * x[i] - largest);
    }
    for (int64_t i = 0; i < p.n; ++i) {
      p.out[row * p.n + i] =
          static_cast<float>(std::exp(static_cast<double>(p.scale) * x[i] - largest) / sum);
    }
  }
}

void softmax_backward(const SoftmaxBackwardParams& p, OpContext&) {
  validate(p);
  for (int64_t row = 0; row < p.rows; ++row) {
    const float *dout = p.dout + row * p.n, *out = p.out + row * p.n;
    double dot = 0;
    for (int64_t i = 0; i < p.n; ++i) dot += static_cast<double>(dout[i]) * out[i];
    for (int64_t i = 0; i < p.n; ++i) {
      p.dx[row * p.n + i] = static_cast<float>(p.scale * out[i] * (dout[i] - dot));
    }
  }
}

}  // namespace vilg::ref
