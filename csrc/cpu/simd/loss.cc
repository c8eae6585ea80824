#include "cpu/simd/loss.h"

#include "cpu/simd/vec.h"

namespace vilg::cpu {
namespace {

// e^d for d <= 0; exactly 0 where e^d would be subnormal, as for a logit of -inf
inline vf exp_or_zero(vf d) { return select(d < -87.0f, vf{}, exp(d)); }

void cross_entropy(float* loss, float* dlogits, const float* logits, int64_t vocab, int64_t target,
                   float row_scale, float label_smoothing, float z_loss) {
  const float infinity = __builtin_inff();
  const int64_t vectors = vocab / kWidth * kWidth, tail = vocab - vectors;
  vf largest = splat(-infinity);
  vi nans = {};  // max() and exp() would swallow them
  for (int64_t i = 0; i < vectors; i += kWidth) {
    const vf x = load(logits + i);
    largest = max(x, largest);
    nans |= x != x;
  }
  if (tail > 0) {
    const vf x = load_partial(logits + vectors, tail, -infinity);
    largest = max(x, largest);
    nans |= x != x;
  }
  const float top = hmax(largest);
  bool defined = top > -infinity && top < infinity;
  for (int i = 0; i < kWidth; ++i) defined = defined && !nans[i];
  if (!defined) {
    *loss = __builtin_nanf("");
    for (int64_t i = 0; dlogits && i < vocab; ++i) dlogits[i] = *loss;
    return;
  }

  const float target_below = logits[target] - top;  // dlogits may overwrite it
  vf sums[2] = {}, below[2] = {};
  int64_t i = 0;
  const auto one = [&](int64_t at, int which) {
    const vf d = load(logits + at) - top;
    const vf e = exp_or_zero(d);
    sums[which] += e;
    below[which] += d;
    if (dlogits) store(dlogits + at, e);
  };
  for (; i + 2 * kWidth <= vocab; i += 2 * kWidth) {
    one(i, 0);
    one(i + kWidth, 1);
  }
  if (i < vectors) one(i, 0);
  if (tail > 0) {
    const vf d = load_partial(logits + vectors, tail, top) - top;  // 0 beyond the end
    const vf e = select(first_lanes(tail), exp_or_zero(d), vf{});
    sums[1] += e;
    below[1] += d;
    if (dlogits) store_partial(dlogits + vectors, e, tail);
  }
  const double sum = hsum(sums[0] + sums[1]);
  const double log_sum = __builtin_log(sum), lse = top + log_sum;
  const double smoothing = label_smoothing;
  double value = log_sum + z_loss * lse * lse;
  if (smoothing < 1) value -= (1 - smoothing) * target_below;  // 0 * -inf otherwise
  if (smoothing > 0) value -= smoothing * hsum(below[0] + below[1]) / (double)vocab;
  *loss = (float)value;
  if (!dlogits) return;

  const double per_exp = (1 + 2 * (double)z_loss * lse) / sum;
  const double uniform = smoothing / (double)vocab;
  const float at_target =
      (float)(row_scale * (dlogits[target] * per_exp - uniform - (1 - smoothing)));
  const vf a = splat((float)(row_scale * per_exp)), b = splat((float)(row_scale * uniform));
  for (i = 0; i < vectors; i += kWidth) store(dlogits + i, load(dlogits + i) * a - b);
  if (tail > 0) store_partial(dlogits + i, load_partial(dlogits + i, tail) * a - b, tail);
  dlogits[target] = at_target;
}

void uniform_divergence(float* divergence, float* dlogits, const float* logits, int64_t vocab,
                        float scale, bool accumulate) {
  const float infinity = __builtin_inff();
  vf largest = splat(-infinity);
  vi nans = {};  // max() and exp() would swallow them
  // calls body(index, logits, count of them) for the whole row; missing logits read as -inf
  const auto each = [&](auto body) {
    int64_t i = 0;
    for (; i + kWidth <= vocab; i += kWidth) body(i, load(logits + i), (int64_t)kWidth);
    if (i < vocab) body(i, load_partial(logits + i, vocab - i, -infinity), vocab - i);
  };
  each([&](int64_t, vf x, int64_t) {
    largest = max(x, largest);
    nans |= x != x;
  });
  const float top = hmax(largest);
  bool defined = top > -infinity && top < infinity;
  for (int i = 0; i < kWidth; ++i) defined = defined && !nans[i];
  if (!defined) {
    *divergence = __builtin_nanf("");
    for (int64_t i = 0; dlogits && i < vocab; ++i) dlogits[i] = *divergence;
    return;
  }
  // p ln p is 0 where p is: d may be -inf there
  const auto weighted = [](vf e, vf d) { return select(e > 0.0f, e * d, vf{}); };
  vf sums = {}, products = {};
  each([&](int64_t, vf x, int64_t) {
    const vf d = x - top, e = exp_or_zero(d);
    sums += e;
    products += weighted(e, d);
  });
  const double sum = hsum(sums), mean = hsum(products) / sum;  // of x - top, under p
  *divergence = (float)(mean - __builtin_log(sum) + __builtin_log((double)vocab));
  if (!dlogits) return;
  const float factor = (float)(scale / sum), average = (float)mean;
  each([&](int64_t i, vf x, int64_t count) {
    const vf d = x - top, e = exp_or_zero(d);
    const vf gradient = factor * weighted(e, d - average);
    if (count == kWidth) {
      store(dlogits + i, accumulate ? gradient + load(dlogits + i) : gradient);
    } else {
      store_partial(dlogits + i,
                    accumulate ? gradient + load_partial(dlogits + i, count) : gradient, count);
    }
  });
}

double feature_distance(float* dx, const float* x, const float* y, const float* weights,
                        int64_t channels, float epsilon, float scale, bool accumulate) {
  const int64_t vectors = channels / kWidth * kWidth, tail = channels - vectors;
  const auto read = [&](const float* from, int64_t i) {
    return i < vectors ? load(from + i) : load_partial(from + i, tail);
  };
  vf squares_x = {}, squares_y = {};
  for (int64_t i = 0; i < channels; i += kWidth) {
    const vf a = read(x, i), b = read(y, i);
    squares_x += a * a;
    squares_y += b * b;
  }
  const double length = __builtin_sqrt((double)hsum(squares_x));
  const float inverse_x = (float)(1 / (length + epsilon));
  const float inverse_y = (float)(1 / (__builtin_sqrt((double)hsum(squares_y)) + epsilon));
  vf distances = {}, alongs = {};
  for (int64_t i = 0; i < channels; i += kWidth) {
    const vf a = read(x, i), difference = a * inverse_x - read(y, i) * inverse_y;
    const vf weighted = read(weights, i) * difference;
    distances += weighted * difference;
    alongs += weighted * a;
  }
  if (!dx) return hsum(distances);
  // 2 w (u - v) / |x| less its part along x (kernels/image_losses.h)
  const double twice = length > 0 ? 2.0 * scale * inverse_x : 0.0;
  const vf a_factor = splat((float)twice);
  const vf b_factor = splat(length > 0 ? (float)(twice * hsum(alongs) * inverse_x / length) : 0.0f);
  for (int64_t i = 0; i < channels; i += kWidth) {
    const vf a = read(x, i), difference = a * inverse_x - read(y, i) * inverse_y;
    vf gradient = a_factor * read(weights, i) * difference - b_factor * a;
    if (accumulate) gradient += read(dx, i);
    if (i < vectors) {
      store(dx + i, gradient);
    } else {
      store_partial(dx + i, gradient, tail);
    }
  }
  return hsum(distances);
}

constexpr int kDoubles = kWidth / 2;
typedef float half_vf __attribute__((vector_size(kDoubles * 4), aligned(4), may_alias));
typedef double vd __attribute__((vector_size(kDoubles * 8)));

inline vd load_doubles(const float* p) {
  return __builtin_convertvector(*reinterpret_cast<const half_vf*>(p), vd);
}

double squared_sum(const float* x, const float* y, int64_t n) {
  vd sums[4] = {};
  int64_t i = 0;
  for (; i + 4 * kDoubles <= n; i += 4 * kDoubles) {
    for (int j = 0; j < 4; ++j) {
      vd d = load_doubles(x + i + j * kDoubles);
      if (y) d -= load_doubles(y + i + j * kDoubles);
      sums[j] += d * d;
    }
  }
  const vd lanes = (sums[0] + sums[1]) + (sums[2] + sums[3]);
  double sum = 0;
  for (int j = 0; j < kDoubles; ++j) sum += lanes[j];
  for (; i < n; ++i) {
    const double d = (double)x[i] - (y ? (double)y[i] : 0.0);
    sum += d * d;
  }
  return sum;
}

void difference(float* dx, const float* x, const float* y, int64_t n, float scale,
                bool accumulate) {
  int64_t i = 0;
  for (; i + kWidth <= n; i += kWidth) {
    vf d = scale * (load(x + i) - load(y + i));
    if (accumulate) d += load(dx + i);
    store(dx + i, d);
  }
  if (const int64_t tail = n - i; tail > 0) {
    vf d = scale * (load_partial(x + i, tail) - load_partial(y + i, tail));
    if (accumulate) d += load_partial(dx + i, tail);
    store_partial(dx + i, d, tail);
  }
}

}  // namespace

VILG_SIMD_ENTRY(LossSimd, loss) {
  static const LossSimd table = {cross_entropy, squared_sum, difference, uniform_divergence,
                                 feature_distance};
  return &table;
}

}  // namespace vilg::cpu
