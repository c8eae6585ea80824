#include "cpu/simd/convolution.h"

#include "cpu/simd/pixels.h"
#include "cpu/simd/register_tile.h"

namespace {

template <typename Step, int Rows, int Vectors>
void tile(const VilgConvTile& t) {
  vf c[Rows][Vectors];
#pragma GCC unroll 16
  for (int i = 0; i < Rows; ++i) {
#pragma GCC unroll 4
    for (int v = 0; v < Vectors; ++v) c[i][v] = vf{};
  }
  if (t.continues) {
#pragma GCC unroll 16
    for (int i = 0; i < Rows; ++i) {
#pragma GCC unroll 4
      for (int v = 0; v < Vectors; ++v) c[i][v] = load(t.c + i * t.ldc + v * kWidth);
    }
  }
  const float* b = t.panel;
  for (int64_t r = 0; r < t.num_runs; ++r) {
    b = multiply_run<Step>(c, t.runs[r], t.row_stride, b, t.run_length);
  }
#pragma GCC unroll 16
  for (int i = 0; i < Rows; ++i) {
#pragma GCC unroll 4
    for (int v = 0; v < Vectors; ++v) store(t.c + i * t.ldc + v * kWidth, c[i][v]);
  }
}

// Picks the instance for t.rows, and the one that leaves out vectors of missing columns.
template <typename Step, int Rows = kTileRows>
void tile_entry(const VilgConvTile* t) {
  if (t->rows == Rows) {
    if (t->columns <= kWidth) {
      tile<Step, Rows, 1>(*t);
    } else if (kTileVectors == 2 || t->columns > 2 * kWidth) {
      tile<Step, Rows, kTileVectors>(*t);
    } else {
      tile<Step, Rows, 2>(*t);
    }
  } else if constexpr (Rows > 1) {
    tile_entry<Step, Rows - 1>(t);
  }
}

#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int kNarrowRows = 6;
#else
constexpr int kNarrowRows = 3;
#endif
constexpr int kNarrowColumns = 4;

template <typename Step, int Rows, int Columns>
void narrow(const VilgConvNarrow& t, int first_row) {
  vf c[Rows][Columns];
#pragma GCC unroll 16
  for (int i = 0; i < Rows; ++i) {
#pragma GCC unroll 4
    for (int j = 0; j < Columns; ++j) c[i][j] = vf{};
  }
  const int64_t total = t.num_runs * t.run_length;
  const float* w = t.weights;
  for (int64_t r = 0; r < t.num_runs; ++r) {
    const char* a = t.runs[r] + first_row * t.row_stride;
    for (int64_t k = 0; k < t.run_length; k += kWidth, w += kWidth) {
      vf wv[Columns];
#pragma GCC unroll 4
      for (int j = 0; j < Columns; ++j) wv[j] = load(w + j * total);
#pragma GCC unroll 16
      for (int i = 0; i < Rows; ++i) {
        const vf av = load(reinterpret_cast<const float*>(a + i * t.row_stride) + k);
#pragma GCC unroll 4
        for (int j = 0; j < Columns; ++j) c[i][j] = Step::apply(av, wv[j], c[i][j]);
      }
    }
  }
  for (int i = 0; i < Rows; ++i) {
    for (int j = 0; j < Columns; ++j) t.c[(first_row + i) * t.ldc + j] = hsum(c[i][j]);
  }
}

template <typename Step, int Columns>
void narrow_rows(const VilgConvNarrow& t) {
  int row = 0;
  for (; row + kNarrowRows <= t.rows; row += kNarrowRows) {
    narrow<Step, kNarrowRows, Columns>(t, row);
  }
  for (; row < t.rows; ++row) narrow<Step, 1, Columns>(t, row);
}

template <typename Step>
void narrow_entry(const VilgConvNarrow* t) {
  switch (t->columns) {
    case 1:
      return narrow_rows<Step, 1>(*t);
    case 2:
      return narrow_rows<Step, 2>(*t);
    case 3:
      return narrow_rows<Step, 3>(*t);
    default:
      return narrow_rows<Step, 4>(*t);
  }
}

template <typename Store, typename In>
void prepare(const VilgConvPixels& p) {
  auto* dst = static_cast<typename Store::Type*>(p.dst);
  const auto* src = static_cast<const In*>(p.src);
  if (p.mean) {
    normalize_pixels<Store, In, true>(dst, src, p.pixels, p.channels, p.dst_pitch, p.mean, p.scale,
                                      p.shift);
  } else if (p.dst_pitch == p.channels) {
    convert_run<Store>(dst, src, p.pixels * p.channels);
  } else {
    // an odd channel count: convert all as one run, then spread from the end
    convert_run<Store>(dst, src, p.pixels * p.channels);
    for (int64_t i = p.pixels - 1; i > 0; --i) {
      for (int64_t c = p.channels - 1; c >= 0; --c) {
        dst[i * p.dst_pitch + c] = dst[i * p.channels + c];
      }
    }
  }
  for (int64_t c = p.channels; c < p.dst_pitch; ++c) {
    for (int64_t i = 0; i < p.pixels; ++i) dst[i * p.dst_pitch + c] = 0;
  }
}

template <typename Store>
void prepare_from(const VilgConvPixels& p) {
  p.storage == kVilgBFloat16 ? prepare<Store, uint16_t>(p) : prepare<Store, float>(p);
}

void prepare_entry(const VilgConvPixels* p) {
  switch (p->operand) {
    case kVilgFloat:
      return prepare_from<StoreFloat>(*p);
    case kVilgRounded:
      return prepare_from<StoreRounded>(*p);
    case kVilgPairs:
      return prepare_from<StoreBFloat16>(*p);
  }
}

void add_entry(float* x, const float* y, int64_t n) {
  int64_t i = 0;
  for (; i + kWidth <= n; i += kWidth) store(x + i, load(x + i) + load(y + i));
  for (; i < n; ++i) x[i] += y[i];
}

}  // namespace

VILG_SIMD_ENTRY(VilgConvolutionKernels, convolution) {
  static const VilgConvolutionKernels table = {
    kTileRows,
    kWidth,
    kNarrowColumns,
    tile_entry<FloatStep>,
#if defined(__AVX512BF16__)
    tile_entry<PairStep>,
    narrow_entry<FloatStep>,
    narrow_entry<PairStep>,
#else
    nullptr,
    narrow_entry<FloatStep>,
    nullptr,
#endif
    prepare_entry,
    add_entry,
  };
  return &table;
}
