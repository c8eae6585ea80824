#pragma once

#include "cuda/device.h"

namespace vilg::cuda {

// One operand of a matrix product as it lies in memory: op(a) with its rows, or op(b) with its
// columns, which are called rows too. Either K or the rows are contiguous.
struct Operand {
  const void* data;
  int64_t ld, batch_stride;  // elements
  bool half;                 // bfloat16, otherwise float32
  bool along_k;              // K is contiguous
  bool vector;               // 16-byte accesses are possible where an offset is a multiple of 8

  __host__ __device__ int64_t at(int64_t batch, int64_t row, int64_t k) const {
    return batch * batch_stride + (along_k ? row * ld + k : k * ld + row);
  }
};

// Eight elements as they were read: bfloat16 in `low`, float32 in both.
struct RawChunk {
  uint4 low, high;
};

__device__ __forceinline__ RawChunk zero_chunk() { return {{0, 0, 0, 0}, {0, 0, 0, 0}}; }

// Elements at `at` and the seven after it, where 16-byte accesses are possible.
__device__ __forceinline__ RawChunk load_whole_chunk(const void* data, bool half, int64_t at) {
  RawChunk raw = zero_chunk();
  const auto* bytes = static_cast<const unsigned char*>(data) + at * (half ? 2 : 4);
  raw.low = *reinterpret_cast<const uint4*>(bytes);
  if (!half) raw.high = *reinterpret_cast<const uint4*>(bytes + 16);
  return raw;
}

// `count` elements from offset `at` on; zeros after them.
__device__ __forceinline__ RawChunk load_chunk(const void* data, bool half, bool vector, int64_t at,
                                               int count) {
  if (count >= 8 && vector) return load_whole_chunk(data, half, at);
  RawChunk raw = zero_chunk();
  uint32_t bits[8];
#pragma unroll
  for (int e = 0; e < 8; ++e) {
    bits[e] = 0;
    if (e < count) {
      bits[e] = half ? static_cast<const bf16*>(data)[at + e]
                     : float_to_bits(static_cast<const float*>(data)[at + e]);
    }
  }
  if (half) {
    raw.low = {bits[0] | bits[1] << 16, bits[2] | bits[3] << 16, bits[4] | bits[5] << 16,
               bits[6] | bits[7] << 16};
  } else {
    raw.low = {bits[0], bits[1], bits[2], bits[3]};
    raw.high = {bits[4], bits[5], bits[6], bits[7]};
  }
  return raw;
}

__device__ __forceinline__ uint4 chunk_to_bf16(const RawChunk& raw, bool half) {
  if (half) return raw.low;
  const auto pack = [](uint32_t low, uint32_t high) {
    return pack_bf16(bits_to_float(low), bits_to_float(high));
  };
  return {pack(raw.low.x, raw.low.y), pack(raw.low.z, raw.low.w), pack(raw.high.x, raw.high.y),
          pack(raw.high.z, raw.high.w)};
}

__device__ __forceinline__ void chunk_to_floats(float (&x)[8], const RawChunk& raw, bool half) {
  if (half) {
    const uint32_t pairs[4] = {raw.low.x, raw.low.y, raw.low.z, raw.low.w};
#pragma unroll
    for (int i = 0; i < 4; ++i) x[2 * i] = low_bf16(pairs[i]), x[2 * i + 1] = high_bf16(pairs[i]);
  } else {
    const uint32_t bits[8] = {raw.low.x,  raw.low.y,  raw.low.z,  raw.low.w,
                              raw.high.x, raw.high.y, raw.high.z, raw.high.w};
#pragma unroll
    for (int e = 0; e < 8; ++e) x[e] = bits_to_float(bits[e]);
  }
}

}  // namespace vilg::cuda
