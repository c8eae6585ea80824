#pragma once

#include <cstdint>

#include "core/dtype.h"
#include "kernels/dims.h"

namespace vilg {

// Where token n of head h of sample b lies, in elements from the start. The three of a fused
// projection are {N*3*H*D, 3*H*D, D} at offsets 0, H*D, 2*H*D.
struct AttentionStrides {
  int64_t batch, token, head;
};

// Fused sparse attention over one stream: out = softmax(scale * q . k^T over the keys that
// attends() allows) . v. Memory beyond inputs and outputs is O(N) a head, forward and backward.
// This is what both passes take.
struct AttentionParams {
  const void *q = nullptr, *k = nullptr, *v = nullptr;  // (B, N, H, D) by qkv_strides
  AttentionStrides out_strides{}, qkv_strides{};
  const uint8_t* text_valid = nullptr;  // (B, T): 1 where not PAD; null: all valid
  DType dtype = DType::kFloat32;        // storage of q, k, v, out
  DType compute = DType::kFloat32;  // kBFloat16: the products may round their operands to bfloat16
  int64_t batch = 0, heads = 0, head_size = 0;
  float scale = 1.0f;
  Pattern pattern = Pattern::kRow;
  Direction direction = Direction::kTextToImage;
  StreamSizes sizes{};
};

struct AttentionForwardParams : AttentionParams {
  void* out = nullptr;   // (B, N, H, D) by out_strides
  float* lse = nullptr;  // (B, H, N): natural-log sum of exp(scale * scores); may be null when no
                         // backward follows
};

// dq, dk, dv are overwritten. Deterministic.
struct AttentionBackwardParams : AttentionParams {
  void *dq = nullptr, *dk = nullptr, *dv = nullptr;  // by qkv_strides
  const void* dout = nullptr;                        // by out_strides
  const void* out = nullptr;
  const float* lse = nullptr;
};

// One new token of each of `rows` sequences (candidates or beams): its query against
// `prefix_length` keys that all rows share and `num_slots` keys of its own, named by slot. Which
// keys those are is the caller's business: they are the ones that attends() allows, so nothing is
// masked here. The bits of a row do not depend on the number of rows.
//
// What changes from token to token may lie in memory, so that a recorded step (kernels/backend.h)
// can be run again: here `slots` and `slot_count`.
struct AttentionDecodeParams {
  float* out = nullptr;                                 // (rows, H, D), rows out_stride apart
  const float* q = nullptr;                             // (rows, H, D), rows q_stride apart
  const void *prefix_k = nullptr, *prefix_v = nullptr;  // (H, prefix_capacity, D), cache_dtype
  const void *own_k = nullptr, *own_v = nullptr;        // (rows, H, own_capacity, D), cache_dtype
  const int32_t* slots = nullptr;                       // (num_slots), each < own_capacity
  const int32_t* slot_count = nullptr;  // how many of num_slots count, at least 1; null: all
  int64_t out_stride = 0, q_stride = 0;
  int64_t prefix_length = 0, prefix_capacity = 0;
  int64_t num_slots = 0, own_capacity = 0;
  int64_t rows = 0, heads = 0, head_size = 0;
  DType cache_dtype = DType::kFloat32;
  float scale = 1.0f;
};

// Puts the keys and values of new tokens into a cache: token i of `tokens` goes to slot first_slot
// + i * slot_step of row i * row_step. Own caches: one token a row (row_step 1, slot_step 0).
// Shared prefix: consecutive slots (0, 1). With `slot` given, its value is added to first_slot.
struct CacheWriteParams {
  void *k_cache = nullptr, *v_cache = nullptr;  // (rows, H, capacity, D), cache_dtype
  const float *k = nullptr, *v = nullptr;       // (tokens, H, D), tokens token_stride apart
  int64_t token_stride = 0;
  int64_t tokens = 0, heads = 0, head_size = 0, capacity = 0;
  const int32_t* slot = nullptr;  // may be null
  int64_t first_slot = 0, slot_step = 0, row_step = 0;
  DType cache_dtype = DType::kFloat32;
};

// Throw kInvalidArgument, kShapeMismatch or kUnsupported naming what is wrong with what is in host
// memory for every backend.
void validate(const AttentionForwardParams& params);
void validate(const AttentionBackwardParams& params);
void validate(const AttentionDecodeParams& params);

// For backends whose memory is the host's: what lies in memory is read and checked too, and put
// into the parameters themselves.
AttentionDecodeParams resolved(const AttentionDecodeParams& params);
CacheWriteParams resolved(const CacheWriteParams& params);

}  // namespace vilg
