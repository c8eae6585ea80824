// out = x . w^T for few rows of x: w (rows of K contiguous elements) is streamed from memory once,
// as it lies there.
#pragma once

#include <stdint.h>

#include "cpu/simd/gemm.h"

// What w is and how products are made. x is bfloat16 for the last two where has_pairs, else float.
enum SkinnyMode {
  kSkinnyFloat = 0,  // w float
  kSkinnyWiden = 1,  // w bfloat16, products of floats
  kSkinnyRound = 2,  // w float, rounded to bfloat16
  kSkinnyPairs = 3,  // w and x bfloat16, vdpbf16ps; only where has_pairs
};

struct SkinnySimd {
  bool has_pairs;
  int32_t x_multiple;  // rows of x are padded with zeros to a multiple of this many elements

  // Puts row i of m of x, k elements, where `dots` wants it in m * padded elements. round: to
  // bfloat16.
  void (*convert_x)(void* to, const void* x, VilgStorage storage, SkinnyMode mode, bool round,
                    int64_t i, int64_t m, int64_t k, int64_t padded);

  // out[i * ldout + j] = sum over k of x(i, k) w(j, k), i < m, j < n. Every sum has one vector
  // accumulator that runs over k in order and is folded in halves at the end, whatever m, n, i and
  // j are.
  void (*dots)(float* out, int64_t ldout, const void* x, int64_t padded, int64_t m, const void* w,
               int64_t ldw, int64_t n, int64_t k, SkinnyMode mode);
};
VILG_DECLARE_SIMD(SkinnySimd, skinny)
