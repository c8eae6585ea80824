// The register tile of every matrix product (matmul.cc, the convolutions), and the packing that
// feeds it. Plain pointers and sizes; blocking and threads are the caller's.
//
// A is (M, K) and B is (K, N). Both are cut into panels:
//   A panel: `mr` rows of A,    element (i, k) at [k / k_step][i][k % k_step]
//   B panel: `nr` columns of B, element (k, j) at [k / k_step][j][k % k_step]
// of elements of `element_bytes`. Missing rows, missing columns and the missing half of an odd K
// are zeros, so the tile always computes mr x nr. A panel of k elements takes
// gemm_panel_bytes(kernels, mr or nr, k) bytes; panels are best aligned to 64 bytes.
//
// Two compute types:
//   float32   k_step 1, element float
//   bfloat16  operands rounded to bfloat16 (to nearest even), products summed in float32.
//             With AVX512-BF16: k_step 2, element bfloat16 (vdpbf16ps takes pairs of k).
//             Elsewhere: k_step 1, element float that holds the rounded value.
//
// One element of C depends on its row of A, its column of B and k alone, never on where it lies in
// the tile or on its neighbours: row and batch invariance rest on this.
#pragma once

#include <stdint.h>

#include "cpu/simd/variant.h"

// float or bfloat16 (uint16_t) of memory; kernels convert on the way in and out
enum VilgStorage { kVilgFloat32 = 0, kVilgBFloat16 = 1 };

struct GemmKernels {
  int32_t mr, nr;
  int32_t k_step;         // 1, or 2 where panels hold pairs
  int32_t element_bytes;  // of a panel

  // Packs one A (B) panel from memory where element (i, k) of `count` <= mr (nr) rows (columns) is
  //   source[i * ld + k] when k_contiguous, else source[k * ld + i].
  void (*pack_a)(void* panel, const void* source, VilgStorage storage, int64_t ld,
                 bool k_contiguous, int64_t count, int64_t k);
  void (*pack_b)(void* panel, const void* source, VilgStorage storage, int64_t ld,
                 bool k_contiguous, int64_t count, int64_t k);

  // Packs one A panel from `count` <= mr rows that lie anywhere, k contiguous elements each: for
  // convolutions (a row is the channels of one pixel; point padding at zeros). To put several taps
  // one after another into a panel, call it for each at panel + gemm_panel_bytes(kernels, mr, taps
  // before * k): k must then be a multiple of k_step.
  void (*pack_a_rows)(void* panel, const void* const* rows, VilgStorage storage, int64_t count,
                      int64_t k);

  // c[i * ldc + j] = sum over k of a(i, k) b(k, j), or += when accumulate, for all of mr x nr: give
  // a scratch tile at the edges. The sum starts at zero and runs in order of k (pairs of k with
  // k_step 2); `accumulate` adds the finished sum.
  void (*tile)(float* c, int64_t ldc, const void* a_panel, const void* b_panel, int64_t k,
               bool accumulate);

  // The same with A read in place: taps x k elements, rows[tap * mr + i] points at the k contiguous
  // elements of row i (all mr must be readable; point missing ones at zeros). Elements are float
  // for float32 and bfloat16 (uint16_t) for bfloat16, in every variant. k must be a multiple of
  // k_step. About 10 % slower than `tile`, so worth it where a packed A would be used for few
  // columns only (N <= 4 * nr or so).
  void (*tile_rows)(float* c, int64_t ldc, const void* const* rows, int64_t taps, int64_t k,
                    const void* b_panel, bool accumulate);
};

[[maybe_unused]] static inline int64_t gemm_panel_bytes(const GemmKernels* kernels, int64_t width,
                                                        int64_t k) {
  const int64_t steps = (k + kernels->k_step - 1) / kernels->k_step;
  return steps * kernels->k_step * width * kernels->element_bytes;
}

enum VilgEpilogue { kVilgNone = 0, kVilgGelu = 1, kVilgGeluBackward = 2 };

// What happens to a finished tile; pointers stand at its first element.
// c = epilogue(alpha * acc + bias) + residual (+ c when accumulate), as in kernels/matmul.h
struct GemmEpilogue {
  void* c;
  void* pre_activation;  // may be null
  const void* residual;  // may be null, may be c
  const float* bias;     // may be null
  int64_t ldc;
  float alpha;
  VilgStorage storage;  // of c, pre_activation and residual
  VilgEpilogue kind;
  bool accumulate;
};

struct GemmSimd {
  GemmKernels f32, bf16;

  // acc (rows, cols), rows ldacc apart
  void (*epilogue)(const GemmEpilogue* epilogue, const float* acc, int64_t ldacc, int64_t rows,
                   int64_t cols);
};
VILG_DECLARE_SIMD(GemmSimd, gemm)
