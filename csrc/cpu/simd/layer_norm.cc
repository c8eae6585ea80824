#include "cpu/simd/layer_norm.h"

#include "cpu/simd/vec.h"

namespace vilg::cpu {
namespace {

// sum of f(x[i]) in a fixed order: four running vectors, then lanes
template <typename T, typename F>
inline float sum_of(const T* x, int64_t n, F f) {
  vf sums[4] = {};
  int64_t i = 0;
  for (; i + 4 * kWidth <= n; i += 4 * kWidth) {
    for (int j = 0; j < 4; ++j) sums[j] += f(load(x + i + j * kWidth));
  }
  for (; i + kWidth <= n; i += kWidth) sums[0] += f(load(x + i));
  if (i < n) sums[1] += select(first_lanes(n - i), f(load_partial(x + i, n - i)), vf{});
  return hsum((sums[0] + sums[1]) + (sums[2] + sums[3]));
}

template <typename T>
void forward(void* out_, float* mean_out, float* rstd_out, const void* x_, const float* gamma,
             const float* beta, int64_t channels, float epsilon) {
  T* out = static_cast<T*>(out_);
  const T* x = static_cast<const T*>(x_);
  const float mean = sum_of(x, channels, [](vf v) { return v; }) / (float)channels;
  const float variance = sum_of(x, channels,
                                [mean](vf v) {
                                  const vf d = v - mean;
                                  return d * d;
                                }) /
                         (float)channels;
  const float rstd = 1.0f / __builtin_sqrtf(variance + epsilon);
  int64_t i = 0;
  for (; i + kWidth <= channels; i += kWidth) {
    store(out + i, (load(x + i) - mean) * rstd * load(gamma + i) + load(beta + i));
  }
  if (const int64_t n = channels - i; n > 0) {
    const vf normed = (load_partial(x + i, n) - mean) * rstd;
    store_partial(out + i, normed * load_partial(gamma + i, n) + load_partial(beta + i, n), n);
  }
  if (mean_out) {
    *mean_out = mean;
    *rstd_out = rstd;
  }
}

template <typename T>
void backward(void* dx_, float* dgamma, float* dbeta, const void* dout_, const void* x_,
              const float* gamma, float mean, float rstd, int64_t channels, bool accumulate) {
  T* dx = static_cast<T*>(dx_);
  const T* dout = static_cast<const T*>(dout_);
  const T* x = static_cast<const T*>(x_);
  vf sum_g = {}, sum_gn = {};
  int64_t i = 0;
  for (; i + kWidth <= channels; i += kWidth) {
    const vf d = load(dout + i), normed = (load(x + i) - mean) * rstd;
    const vf g = d * load(gamma + i);
    sum_g += g;
    sum_gn += g * normed;
    store(dgamma + i, load(dgamma + i) + d * normed);
    store(dbeta + i, load(dbeta + i) + d);
  }
  const int64_t vectors = i, tail = channels - i;
  if (tail > 0) {  // dout reads as 0 beyond the end, so every term does too
    const vf d = load_partial(dout + i, tail), normed = (load_partial(x + i, tail) - mean) * rstd;
    const vf g = d * load_partial(gamma + i, tail);
    sum_g += g;
    sum_gn += g * normed;
    store_partial(dgamma + i, load_partial(dgamma + i, tail) + d * normed, tail);
    store_partial(dbeta + i, load_partial(dbeta + i, tail) + d, tail);
  }
  const float mean_g = hsum(sum_g) / (float)channels, mean_gn = hsum(sum_gn) / (float)channels;
  const auto gradient = [=](vf d, vf v, vf scale) {
    return rstd * (d * scale - mean_g - (v - mean) * rstd * mean_gn);
  };
  for (i = 0; i < vectors; i += kWidth) {
    vf result = gradient(load(dout + i), load(x + i), load(gamma + i));
    if (accumulate) result += load(dx + i);
    store(dx + i, result);
  }
  if (tail > 0) {
    vf result = gradient(load_partial(dout + i, tail), load_partial(x + i, tail),
                         load_partial(gamma + i, tail));
    if (accumulate) result += load_partial(dx + i, tail);
    store_partial(dx + i, result, tail);
  }
}

void add_partials(float* out, const float* partials, int64_t num_partials, int64_t stride,
                  int64_t num_elements) {
  int64_t i = 0;
  for (; i + kWidth <= num_elements; i += kWidth) {
    vf sum = {};
    for (int64_t p = 0; p < num_partials; ++p) sum += load(partials + p * stride + i);
    store(out + i, load(out + i) + sum);
  }
  for (; i < num_elements; ++i) {
    float sum = 0;
    for (int64_t p = 0; p < num_partials; ++p) sum += partials[p * stride + i];
    out[i] += sum;
  }
}

}  // namespace

VILG_SIMD_ENTRY(LayerNormSimd, layer_norm) {
  static const LayerNormSimd table = {
      {forward<float>, forward<uint16_t>}, {backward<float>, backward<uint16_t>}, add_partials};
  return &table;
}

}  // namespace vilg::cpu
