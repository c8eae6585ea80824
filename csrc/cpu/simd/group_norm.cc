#include "cpu/simd/group_norm.h"

#include "cpu/simd/lanes.h"
#include "cpu/simd/pixels.h"

namespace {

template <typename T>
[[gnu::always_inline]] inline void store_up_to(T* p, vf x, int64_t n) {
  if (n >= kWidth) {
    store(p, x);
  } else {
    store_partial(p, x, n);
  }
}

// sum over pixels of f(x): four sums, so that additions do not wait for each other
template <typename T, typename F>
[[gnu::always_inline]] inline void sum_pixels(const T* x, int64_t pixels, int64_t channels,
                                              int64_t n, const F& f) {
  int64_t p = 0;
  for (; p + 4 <= pixels; p += 4) {
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) f(i, load_up_to(x + (p + i) * channels, n));
  }
  for (; p < pixels; ++p) f(0, load_up_to(x + p * channels, n));
}

template <typename T>
void sums(float* to, const T* x, int64_t pixels, int64_t channels) {
  for (int64_t c = 0; c < channels; c += kWidth) {
    vf sum[4] = {};
    sum_pixels(x + c, pixels, channels, channels - c, [&](int i, vf v) { sum[i] += v; });
    store_up_to(to + c, (sum[0] + sum[1]) + (sum[2] + sum[3]), channels - c);
  }
}

template <typename T>
void moments(float* to, float* squares, const T* x, int64_t pixels, int64_t channels,
             const float* shift) {
  for (int64_t c = 0; c < channels; c += kWidth) {
    const vf s = load_up_to(shift + c, channels - c);
    vf sum[4] = {}, square[4] = {};
    sum_pixels(x + c, pixels, channels, channels - c, [&](int i, vf v) {
      const vf d = v - s;
      sum[i] += d;
      square[i] = fma(d, d, square[i]);
    });
    store_up_to(to + c, (sum[0] + sum[1]) + (sum[2] + sum[3]), channels - c);
    store_up_to(squares + c, (square[0] + square[1]) + (square[2] + square[3]), channels - c);
  }
}

void sums_entry(float* to, const void* x, VilgStorage storage, int64_t pixels, int64_t channels) {
  storage == kVilgBFloat16 ? sums(to, static_cast<const uint16_t*>(x), pixels, channels)
                           : sums(to, static_cast<const float*>(x), pixels, channels);
}

void moments_entry(float* to, float* squares, const void* x, VilgStorage storage, int64_t pixels,
                   int64_t channels, const float* shift) {
  if (storage == kVilgBFloat16) {
    moments(to, squares, static_cast<const uint16_t*>(x), pixels, channels, shift);
  } else {
    moments(to, squares, static_cast<const float*>(x), pixels, channels, shift);
  }
}

// float_to_bf16 of memory keeps denormals, unlike the operand of a product
struct StoreMemory {
  typedef uint16_t Type;
  [[gnu::always_inline]] static inline void put(uint16_t* p, vf x) { store(p, x); }
};

template <typename Store>
void normalize(typename Store::Type* out, const typename Store::Type* x, int64_t pixels,
               int64_t channels, const float* mean, const float* scale, const float* shift,
               int32_t has_swish) {
  typedef typename Store::Type T;
  if (has_swish) {
    normalize_pixels<Store, T, true>(out, x, pixels, channels, channels, mean, scale, shift);
  } else {
    normalize_pixels<Store, T, false>(out, x, pixels, channels, channels, mean, scale, shift);
  }
}

void normalize_entry(void* out, const void* x, VilgStorage storage, int64_t pixels,
                     int64_t channels, const float* mean, const float* scale, const float* shift,
                     int32_t has_swish) {
  if (storage == kVilgBFloat16) {
    normalize<StoreMemory>(static_cast<uint16_t*>(out), static_cast<const uint16_t*>(x), pixels,
                           channels, mean, scale, shift, has_swish);
  } else {
    normalize<StoreFloat>(static_cast<float*>(out), static_cast<const float*>(x), pixels, channels,
                          mean, scale, shift, has_swish);
  }
}

// The gradient of t, and the normalised x.
template <bool HasSwish>
[[gnu::always_inline]] inline vf gradient(vf dout, vf normalized, vf gamma, vf beta) {
  if (!HasSwish) return dout;
  const vf t = normalized * gamma + beta;
  const vf s = sigmoid(t);
  return dout * (s + t * s * (1.0f - s));
}

template <typename T, bool HasSwish>
void backward_sums(const VilgGroupNormBackward& g) {
  for (int64_t c = 0; c < g.channels; c += kWidth) {
    const int64_t n = g.channels - c;
    const vf mean = load_up_to(g.mean + c, n), rstd = load_up_to(g.rstd + c, n);
    const vf gamma = load_up_to(g.gamma + c, n), beta = load_up_to(g.beta + c, n);
    const T *x = static_cast<const T*>(g.x) + c, *dout = static_cast<const T*>(g.dout) + c;
    vf sum = {}, sum_normalized = {};
    for (int64_t p = 0; p < g.pixels; ++p, x += g.channels, dout += g.channels) {
      const vf normalized = (load_up_to(x, n) - mean) * rstd;
      const vf dt = gradient<HasSwish>(load_up_to(dout, n), normalized, gamma, beta);
      sum += dt;
      sum_normalized = fma(dt, normalized, sum_normalized);
    }
    store_up_to(g.sum + c, sum, n);
    store_up_to(g.sum_normalized + c, sum_normalized, n);
  }
}

template <typename T, bool HasSwish>
void backward_apply(const VilgGroupNormBackward& g) {
  for (int64_t p = 0; p < g.pixels; ++p) {
    const T* x = static_cast<const T*>(g.x) + p * g.channels;
    const T* dout = static_cast<const T*>(g.dout) + p * g.channels;
    T* dx = static_cast<T*>(g.dx) + p * g.channels;
    for (int64_t c = 0; c < g.channels; c += kWidth) {
      const int64_t n = g.channels - c;
      const vf rstd = load_up_to(g.rstd + c, n), gamma = load_up_to(g.gamma + c, n);
      const vf normalized = (load_up_to(x + c, n) - load_up_to(g.mean + c, n)) * rstd;
      const vf dt =
          gradient<HasSwish>(load_up_to(dout + c, n), normalized, gamma, load_up_to(g.beta + c, n));
      vf result = rstd * (dt * gamma - load_up_to(g.average + c, n) -
                          normalized * load_up_to(g.slope + c, n));
      if (g.accumulate) result += load_up_to(dx + c, n);
      store_up_to(dx + c, result, n);
    }
  }
}

void backward_sums_entry(const VilgGroupNormBackward* g) {
  if (g->storage == kVilgBFloat16) {
    g->swish ? backward_sums<uint16_t, true>(*g) : backward_sums<uint16_t, false>(*g);
  } else {
    g->swish ? backward_sums<float, true>(*g) : backward_sums<float, false>(*g);
  }
}

void backward_apply_entry(const VilgGroupNormBackward* g) {
  if (g->storage == kVilgBFloat16) {
    g->swish ? backward_apply<uint16_t, true>(*g) : backward_apply<uint16_t, false>(*g);
  } else {
    g->swish ? backward_apply<float, true>(*g) : backward_apply<float, false>(*g);
  }
}

// e^d for d <= 0; 0 where it would be denormal, NaN where d is (exp clamps both away)
[[gnu::always_inline]] inline vf exp_of_difference(vf d) {
  const vf e = select(d < -87.3f, vf{}, exp(d));
  return select(d != d, d, e);
}

void softmax_entry(float* out, const float* x, int64_t n, float scale) {
  const int64_t full = n / kWidth * kWidth, rest = n - full;
  vf largest = splat(x[0]) * scale;
  for (int64_t i = 0; i < full; i += kWidth) largest = max(load(x + i) * scale, largest);
  if (rest) largest = max(load_partial(x + full, rest, x[0]) * scale, largest);
  const vf top = splat(hmax(largest));
  vf sum = {};
  for (int64_t i = 0; i < full; i += kWidth) {
    const vf e = exp_of_difference(load(x + i) * scale - top);
    store(out + i, e);
    sum += e;
  }
  vf last = {};
  if (rest) {
    last = exp_of_difference(load_partial(x + full, rest) * scale - top);
    last = select(first_lanes(rest), last, vf{});
    sum += last;
  }
  const vf inverse = splat(1.0f / hsum(sum));
  for (int64_t i = 0; i < full; i += kWidth) store(out + i, load(out + i) * inverse);
  if (rest) store_partial(out + full, last * inverse, rest);
}

void softmax_backward_entry(float* dx, const float* dout, const float* out, int64_t n,
                            float scale) {
  const int64_t full = n / kWidth * kWidth, rest = n - full;
  vf sum = {};
  for (int64_t i = 0; i < full; i += kWidth) sum = fma(load(dout + i), load(out + i), sum);
  const vf last_out = rest ? load_partial(out + full, rest) : vf{};
  const vf last_dout = rest ? load_partial(dout + full, rest) : vf{};
  const vf dot = splat(hsum(fma(last_dout, last_out, sum)));
  for (int64_t i = 0; i < full; i += kWidth) {
    store(dx + i, load(out + i) * (load(dout + i) - dot) * scale);
  }
  if (rest) store_partial(dx + full, last_out * (last_dout - dot) * scale, rest);
}

}  // namespace

VILG_SIMD_ENTRY(VilgGroupNormKernels, group_norm) {
  static const VilgGroupNormKernels table = {
      sums_entry,           moments_entry, normalize_entry,        backward_sums_entry,
      backward_apply_entry, softmax_entry, softmax_backward_entry,
  };
  return &table;
}
