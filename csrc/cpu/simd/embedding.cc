#include "cpu/simd/embedding.h"

#include "cpu/simd/vec.h"

namespace vilg::cpu {
namespace {

template <typename In, typename Out>
void sum(void* out_, const void* a_, const void* b_, const void* c_, const void* d_, int64_t n) {
  Out* out = static_cast<Out*>(out_);
  const In* a = static_cast<const In*>(a_);
  const In* b = static_cast<const In*>(b_);
  const In* c = static_cast<const In*>(c_);
  const In* d = static_cast<const In*>(d_);
  int64_t i = 0;
  for (; i + kWidth <= n; i += kWidth) {
    vf total = load(a + i) + load(b + i) + load(c + i);
    if (d) total += load(d + i);
    store(out + i, total);
  }
  if (const int64_t tail = n - i; tail > 0) {
    vf total = load_partial(a + i, tail) + load_partial(b + i, tail) + load_partial(c + i, tail);
    if (d) total += load_partial(d + i, tail);
    store_partial(out + i, total, tail);
  }
}

template <typename In, typename Out>
void add_start(void* out_, const float* start, const void* row_, int64_t n) {
  Out* out = static_cast<Out*>(out_);
  const In* row = static_cast<const In*>(row_);
  int64_t i = 0;
  for (; i + kWidth <= n; i += kWidth) store(out + i, load(start + i) + load(row + i));
  if (const int64_t tail = n - i; tail > 0) {
    store_partial(out + i, load_partial(start + i, tail) + load_partial(row + i, tail), tail);
  }
}

inline void add_to(float* to, vf x) { store(to, load(to) + x); }
inline void add_to(float* to, vf x, int64_t n) { store_partial(to, load_partial(to, n) + x, n); }

template <typename T>
void accumulate(float* a, float* b, float* c, const void* x_, int64_t n) {
  const T* x = static_cast<const T*>(x_);
  int64_t i = 0;
  for (; i + kWidth <= n; i += kWidth) {
    const vf v = load(x + i);
    add_to(a + i, v);
    if (b) add_to(b + i, v);
    if (c) add_to(c + i, v);
  }
  if (const int64_t tail = n - i; tail > 0) {
    const vf v = load_partial(x + i, tail);
    add_to(a + i, v, tail);
    if (b) add_to(b + i, v, tail);
    if (c) add_to(c + i, v, tail);
  }
}

}  // namespace

VILG_SIMD_ENTRY(EmbeddingSimd, embedding) {
  static const EmbeddingSimd table = {
      {{sum<float, float>, sum<float, uint16_t>}, {sum<uint16_t, float>, sum<uint16_t, uint16_t>}},
      {{add_start<float, float>, add_start<float, uint16_t>},
       {add_start<uint16_t, float>, add_start<uint16_t, uint16_t>}},
      {accumulate<float>, accumulate<uint16_t>}};
  return &table;
}

}  // namespace vilg::cpu
