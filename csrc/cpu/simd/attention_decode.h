#pragma once

#include <stdint.h>

#include "cpu/simd/variant.h"

namespace vilg::cpu {

// One head, a few rows (AttentionDecodeParams in kernels/attention.h). Pointers are at that head
// and at the first of those rows.
struct AttentionDecodeTile {
  float* out;                       // (rows, head_size), rows out_stride apart
  const float* q;                   // (rows, head_size), rows q_stride apart
  const void *prefix_k, *prefix_v;  // (prefix_length, head_size)
  const void *own_k, *own_v;        // (rows, .., head_size), rows own_stride elements apart
  const int32_t* slots;             // (num_slots)
  float* workspace;  // rows * scores_stride floats, then rows * (head_size + 15) / 16 * 16
  int64_t out_stride, q_stride, own_stride;
  int64_t prefix_length, num_slots, scores_stride;
  int64_t rows, head_size;
  float scale;
  bool is_bf16;
};

struct AttentionDecodeSimd {
  void (*decode)(const AttentionDecodeTile& tile);
};
VILG_DECLARE_SIMD(AttentionDecodeSimd, attention_decode)

}  // namespace vilg::cpu
