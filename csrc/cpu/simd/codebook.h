// Nearest codes by chains of fused multiply-adds whose order every backend shares
// (kernels/codebook.h), and the index of the largest value.
#pragma once

#include <stdint.h>

#include "cpu/simd/gemm.h"

extern "C" {

struct VilgCodebookKernels {
  int32_t tile_rows, tile_columns;
  // norms[j] = e_j . e_j of the tile_columns codes of a panel of gemm.h (float32)
  void (*norms)(float* norms, const float* panel, int64_t dim);
  // For `rows` vectors: the best score so far and its index, the lowest on a tie, lane by lane:
  // scores and indices are (rows, tile_columns). `first` is the index of the panel's first code, of
  // which `columns` exist. Panels may come in any order, and again.
  void (*score)(float* scores, int32_t* indices, const float* vectors, int64_t rows,
                const float* panel, const float* norms, int64_t dim, int32_t first,
                int32_t columns);
  // The smallest of tile_columns scores, on a tie the one of the lowest index.
  void (*best)(const float* scores, const int32_t* indices, float* score, int32_t* index);
  // z . z
  float (*squared_norm)(const float* vector, int64_t dim);
  int32_t (*argmax)(const float* values, int64_t n);
};

VILG_DECLARE_SIMD(VilgCodebookKernels, codebook)
}
