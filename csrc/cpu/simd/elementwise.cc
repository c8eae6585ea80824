#include "cpu/simd/elementwise.h"

#include "cpu/simd/vec.h"

namespace vilg::cpu {
namespace {

template <typename T>
void add(void* out_, const void* x_, const void* y_, int64_t n, float alpha, float beta) {
  T* out = static_cast<T*>(out_);
  const T* x = static_cast<const T*>(x_);
  const T* y = static_cast<const T*>(y_);
  int64_t i = 0;
  if (!y) {
    for (; i + kWidth <= n; i += kWidth) store(out + i, alpha * load(x + i));
    if (i < n) store_partial(out + i, alpha * load_partial(x + i, n - i), n - i);
    return;
  }
  for (; i + kWidth <= n; i += kWidth) {
    store(out + i, alpha * load(x + i) + beta * load(y + i));
  }
  if (const int64_t tail = n - i; tail > 0) {
    const vf result = alpha * load_partial(x + i, tail) + beta * load_partial(y + i, tail);
    store_partial(out + i, result, tail);
  }
}

template <typename Out, typename In>
void convert(Out* out, const In* x, int64_t n) {
  int64_t i = 0;
  for (; i + kWidth <= n; i += kWidth) store(out + i, load(x + i));
  if (i < n) store_partial(out + i, load_partial(x + i, n - i), n - i);
}

}  // namespace

VILG_SIMD_ENTRY(ElementwiseSimd, elementwise) {
  static const ElementwiseSimd table = {
      {add<float>, add<uint16_t>}, convert<uint16_t, float>, convert<float, uint16_t>};
  return &table;
}

}  // namespace vilg::cpu
