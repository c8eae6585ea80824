#include "cpu/simd/gelu.h"

#include "cpu/simd/gelu_math.h"
#include "cpu/simd/lanes.h"

namespace {

template <typename T>
inline void store_up_to(T* p, vf x, int64_t n) {
  if (n >= kWidth) {
    store(p, x);
  } else {
    store_partial(p, x, n);
  }
}

template <typename T>
void forward_of(void* out, const void* x, int64_t n) {
  for (int64_t i = 0; i < n; i += kWidth) {
    const vf value = load_up_to(static_cast<const T*>(x) + i, n - i);
    store_up_to(static_cast<T*>(out) + i, gelu(value), n - i);
  }
}

template <typename T>
void backward_of(void* dx, const void* dout, const void* x, int64_t n, bool accumulate) {
  for (int64_t i = 0; i < n; i += kWidth) {
    const vf value = load_up_to(static_cast<const T*>(x) + i, n - i);
    vf grad = load_up_to(static_cast<const T*>(dout) + i, n - i) * gelu_slope(value);
    T* to = static_cast<T*>(dx) + i;
    if (accumulate) grad = grad + load_up_to(to, n - i);
    store_up_to(to, grad, n - i);
  }
}

template <typename T>
void column_sums_of(float* sums, const T* x, int64_t ld, int64_t rows, int64_t n) {
  constexpr int kVectors = 4;
  int64_t j = 0;
  for (; j + kVectors * kWidth <= n; j += kVectors * kWidth) {
    vf acc[kVectors] = {};
    for (int64_t i = 0; i < rows; ++i) {
      const T* row = x + i * ld + j;
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) acc[v] = acc[v] + load(row + v * kWidth);
    }
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) store(sums + j + v * kWidth, acc[v]);
  }
  for (; j < n; j += kWidth) {
    vf acc = {};
    for (int64_t i = 0; i < rows; ++i) acc = acc + load_up_to(x + i * ld + j, n - j);
    store_up_to(sums + j, acc, n - j);
  }
}

void forward(void* out, const void* x, VilgStorage storage, int64_t n) {
  storage == kVilgFloat32 ? forward_of<float>(out, x, n) : forward_of<uint16_t>(out, x, n);
}

void backward(void* dx, const void* dout, const void* x, VilgStorage storage, int64_t n,
              bool accumulate) {
  storage == kVilgFloat32 ? backward_of<float>(dx, dout, x, n, accumulate)
                          : backward_of<uint16_t>(dx, dout, x, n, accumulate);
}

void column_sums(float* sums, const void* x, VilgStorage storage, int64_t ld, int64_t rows,
                 int64_t n) {
  storage == kVilgFloat32 ? column_sums_of(sums, static_cast<const float*>(x), ld, rows, n)
                          : column_sums_of(sums, static_cast<const uint16_t*>(x), ld, rows, n);
}

}  // namespace

VILG_SIMD_ENTRY(GeluSimd, gelu) {
  static const GeluSimd table = {forward, backward, column_sums};
  return &table;
}
