// The arithmetic of convolutions; cpu/convolution_engine.cc drives it. Weight panels are those of
// gemm.h, whose two compute types and their element types hold here too: `pairs` below means
// bfloat16 elements (k_step 2), else floats.
#pragma once

#include <stdint.h>

#include "cpu/simd/gemm.h"

extern "C" {

// c[i][j] = sum over runs r and units k of run_r[i][k] * panel[r, k][j], in this order.
struct VilgConvTile {
  float* c;
  int64_t ldc;
  const char* const* runs;       // of row 0; row i is i * row_stride bytes further
  int64_t num_runs, run_length;  // in units of 4 bytes
  int64_t row_stride;
  const float* panel;     // (num_runs * run_length, nr)
  int32_t rows, columns;  // as many of c as are needed; whole vectors are written
  int32_t continues;      // start from c instead of 0: bits are those of one longer call
};

// Few output channels (columns <= narrow_columns): vectors run over k instead. weights is (columns,
// num_runs * run_length); run_length is a multiple of the vector width. c is (rows, ldc), plain.
struct VilgConvNarrow {
  float* c;
  int64_t ldc;
  const char* const* runs;
  int64_t num_runs, run_length, row_stride;
  const float* weights;
  int32_t rows, columns;
};

// How input pixels are held: floats, floats rounded to bfloat16, bfloat16
enum VilgOperand { kVilgFloat = 0, kVilgRounded = 1, kVilgPairs = 2 };

struct VilgConvPixels {
  void* dst;
  const void* src;
  int64_t pixels, channels, dst_pitch;  // pitch in elements; channels past the last become 0
  const float *mean, *scale, *shift;    // (channels): swish((x - mean) * scale + shift); null: x
  VilgStorage storage;                  // of src
  VilgOperand operand;
};

struct VilgConvolutionKernels {
  int32_t tile_rows, vector_width, narrow_columns;
  void (*tile)(const VilgConvTile*);
  void (*tile_pairs)(const VilgConvTile*);  // null without the instruction
  void (*narrow)(const VilgConvNarrow*);
  void (*narrow_pairs)(const VilgConvNarrow*);
  void (*prepare)(const VilgConvPixels*);
  void (*add)(float* x, const float* y, int64_t n);  // x += y
};

VILG_DECLARE_SIMD(VilgConvolutionKernels, convolution)
}
