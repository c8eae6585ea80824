// y = s((x - mean) * scale + shift) over rows of channels: the GroupNorm that a convolution applies
// while it reads its input and the one that stands alone are this loop.
#pragma once

#include "cpu/simd/vec.h"

namespace {

// What a value becomes on its way to memory.
struct StoreFloat {
  typedef float Type;
  [[gnu::always_inline]] static inline void put(float* p, vf x) { store(p, x); }
};
// float32 that holds a bfloat16 value, for instruction sets that cannot multiply bfloat16
struct StoreRounded {
  typedef float Type;
  [[gnu::always_inline]] static inline void put(float* p, vf x) {
    uint16_t half[kWidth];
    store(half, x);
    store(p, load(half));
  }
};
struct StoreBFloat16 {
  typedef uint16_t Type;
  [[gnu::always_inline]] static inline void put(uint16_t* p, vf x) {
#if defined(__AVX512BF16__)
    // one instruction for ten; flushes denormals, as the products made from it would
    const __m256bh half = _mm512_cvtneps_pbh((__m512)x);
    __builtin_memcpy(p, &half, sizeof half);
#else
    store(p, x);
#endif
  }
};

[[maybe_unused, gnu::always_inline]] inline vf sigmoid(vf t) { return 1.0f / (1.0f + exp(-t)); }
[[maybe_unused, gnu::always_inline]] inline vf swish(vf t) { return t / (1.0f + exp(-t)); }

template <bool HasSwish>
[[gnu::always_inline]] inline vf normalized(vf x, vf mean, vf scale, vf shift) {
  const vf t = (x - mean) * scale + shift;
  return HasSwish ? swish(t) : t;
}

template <typename Store, typename In, bool HasSwish>
inline void normalize_pixels(typename Store::Type* dst, const In* src, int64_t pixels,
                             int64_t channels, int64_t dst_pitch, const float* mean,
                             const float* scale, const float* shift) {
  const int64_t full = channels / kWidth * kWidth, rest = channels - full;
  for (int64_t p = 0; p < pixels; ++p, src += channels, dst += dst_pitch) {
    for (int64_t c = 0; c < full; c += kWidth) {
      Store::put(dst + c, normalized<HasSwish>(load(src + c), load(mean + c), load(scale + c),
                                               load(shift + c)));
    }
    if (rest) {
      const vf y =
          normalized<HasSwish>(load_partial(src + full, rest), load_partial(mean + full, rest),
                               load_partial(scale + full, rest), load_partial(shift + full, rest));
      typename Store::Type buffer[kWidth];
      Store::put(buffer, y);
      for (int64_t i = 0; i < rest; ++i) dst[full + i] = buffer[i];
    }
  }
}

template <typename Store, typename In>
inline void convert_run(typename Store::Type* dst, const In* src, int64_t count) {
  const int64_t full = count / kWidth * kWidth;
  for (int64_t i = 0; i < full; i += kWidth) Store::put(dst + i, load(src + i));
  if (full < count) {
    typename Store::Type buffer[kWidth];
    Store::put(buffer, load_partial(src + full, count - full));
    for (int64_t i = full; i < count; ++i) dst[i] = buffer[i - full];
  }
}

}  // namespace
