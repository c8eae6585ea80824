#include "cpu/simd/image.h"

#include "cpu/simd/lanes.h"

namespace {

// log2(kWidth) perfect shuffles of the rows
[[gnu::always_inline]] inline void transpose_square(vf (&m)[kWidth]) {
#pragma GCC unroll 4
  for (int round = 1; round < kWidth; round *= 2) {
    vf next[kWidth];
#pragma GCC unroll 16
    for (int i = 0; i < kWidth / 2; ++i) {
      next[2 * i] = interleave_low(m[i], m[i + kWidth / 2]);
      next[2 * i + 1] = interleave_high(m[i], m[i + kWidth / 2]);
    }
#pragma GCC unroll 16
    for (int i = 0; i < kWidth; ++i) m[i] = next[i];
  }
}

// A square at the edge: `rows` of it exist, with `columns` elements each.
template <typename Out, typename In>
void transpose_edge(Out* dst, int64_t dst_stride, const In* src, int64_t src_stride, int64_t rows,
                    int64_t columns) {
  vf m[kWidth];
  for (int i = 0; i < kWidth; ++i) {
    m[i] = i < rows ? load_up_to(src + i * src_stride, columns) : vf{};
  }
  transpose_square(m);
  for (int64_t i = 0; i < columns; ++i) store_partial(dst + i * dst_stride, m[i], rows);
}

template <typename Out, typename In>
void transpose(Out* dst, int64_t dst_stride, const In* src, int64_t src_stride, int64_t rows,
               int64_t columns) {
  for (int64_t r = 0; r < rows; r += kWidth) {
    for (int64_t c = 0; c < columns; c += kWidth) {
      const In* from = src + r * src_stride + c;
      Out* to = dst + c * dst_stride + r;
      const int64_t rows_left = rows - r, columns_left = columns - c;
      if (rows_left < kWidth || columns_left < kWidth) {
        transpose_edge(to, dst_stride, from, src_stride, rows_left < kWidth ? rows_left : kWidth,
                       columns_left < kWidth ? columns_left : kWidth);
        continue;
      }
      vf m[kWidth];
#pragma GCC unroll 16
      for (int i = 0; i < kWidth; ++i) m[i] = load(from + i * src_stride);
      transpose_square(m);
#pragma GCC unroll 16
      for (int i = 0; i < kWidth; ++i) store(to + i * dst_stride, m[i]);
    }
  }
}

template <typename Out>
void transpose_to(Out* dst, int64_t dst_stride, const void* src, VilgStorage src_storage,
                  int64_t src_stride, int64_t rows, int64_t columns) {
  if (src_storage == kVilgBFloat16) {
    transpose(dst, dst_stride, static_cast<const uint16_t*>(src), src_stride, rows, columns);
  } else {
    transpose(dst, dst_stride, static_cast<const float*>(src), src_stride, rows, columns);
  }
}

void transpose_entry(void* dst, VilgStorage dst_storage, int64_t dst_stride, const void* src,
                     VilgStorage src_storage, int64_t src_stride, int64_t rows, int64_t columns) {
  if (dst_storage == kVilgBFloat16) {
    transpose_to(static_cast<uint16_t*>(dst), dst_stride, src, src_storage, src_stride, rows,
                 columns);
  } else {
    transpose_to(static_cast<float*>(dst), dst_stride, src, src_storage, src_stride, rows, columns);
  }
}

template <typename T>
void sum_quads(T* dst, const T* upper, const T* lower, int64_t width, int64_t channels) {
  for (int64_t x = 0; x < width; ++x) {
    for (int64_t c = 0; c < channels; c += kWidth) {
      const int64_t n = channels - c < kWidth ? channels - c : kWidth;
      const T *a = upper + 2 * x * channels + c, *b = lower + 2 * x * channels + c;
      const vf sum = (load_up_to(a, n) + load_up_to(a + channels, n)) +
                     (load_up_to(b, n) + load_up_to(b + channels, n));
      T* to = dst + x * channels + c;
      if (n == kWidth) {
        store(to, sum);
      } else {
        store_partial(to, sum, n);
      }
    }
  }
}

void sum_quads_entry(void* dst, const void* upper, const void* lower, VilgStorage storage,
                     int64_t width, int64_t channels) {
  if (storage == kVilgBFloat16) {
    sum_quads(static_cast<uint16_t*>(dst), static_cast<const uint16_t*>(upper),
              static_cast<const uint16_t*>(lower), width, channels);
  } else {
    sum_quads(static_cast<float*>(dst), static_cast<const float*>(upper),
              static_cast<const float*>(lower), width, channels);
  }
}

}  // namespace

VILG_SIMD_ENTRY(VilgImageKernels, image) {
  static const VilgImageKernels table = {kWidth, transpose_entry, sum_quads_entry};
  return &table;
}
