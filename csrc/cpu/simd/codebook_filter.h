// Lower bounds of the scores of codebook_lookup (kernels/codebook.h) at the speed of bfloat16
// products: codes whose bound is above an exact score need no exact score of their own. Only where
// the instruction set multiplies pairs of bfloat16 (twice the rate of float32); elsewhere the table
// is null. The bound is derived in codebook_filter.cc.
#pragma once

#include <stdint.h>

#include "cpu/simd/variant.h"

extern "C" {

struct VilgCodebookFilter {
  int64_t max_dim;  // up to which the derivation holds
  // bytes of a row of vectors and of a panel of tile_columns codes
  int64_t (*vector_bytes)(int64_t dim);
  int64_t (*panel_bytes)(int64_t dim);
  // `rows` vectors, and bounds (rows, 2) of their length and of what rounding takes away
  void (*round_vectors)(void* rounded, float* bounds, const float* vectors, int64_t rows,
                        int64_t dim);
  // from a float32 panel of gemm.h and its norms; `columns` codes exist
  void (*round_codes)(void* rounded, const float* panel, const float* norms, int64_t dim,
                      int64_t columns);
  // For rows <= tile_rows rounded vectors: no code of the panel has a score below lowest[row].
  // -infinity where nothing is known (overflow, NaN).
  void (*lowest)(float* lowest, const void* vectors, const float* bounds, int64_t rows,
                 const void* codes, int64_t dim);
};

VILG_DECLARE_SIMD(VilgCodebookFilter, codebook_filter)
}
