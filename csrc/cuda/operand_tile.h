// Operands of products in shared memory, and the products: by tensor cores where the operands are
// bfloat16, by fused multiply-adds where they are float.
#pragma once

#include "cuda/device.h"

namespace vilg::cuda {

// A row of a tile is 128 bytes along the sum, 64 bfloat16 or 32 floats, in chunks of 16 bytes. A
// row has a key, which exchanges its chunks: eight rows of different keys (modulo 8) have the same
// chunk in different banks, so ldmatrix, or eight lanes that read a row each, meet no conflict.
inline constexpr int kRowBytes = 128, kChunkBytes = 16, kRowChunks = kRowBytes / kChunkBytes;
template <typename Operand>
inline constexpr int kRowElements = kRowBytes / static_cast<int>(sizeof(Operand));
template <typename Operand>
inline constexpr int kChunkElements = kChunkBytes / static_cast<int>(sizeof(Operand));

// Where a row has a chunk.
__device__ __forceinline__ int chunk_offset(int chunk, int key) {
  return (chunk ^ (key & (kRowChunks - 1))) * kChunkBytes;
}

// What lanes are to multiply_chunks: the row and the chunk (of two that a step takes) whose address
// a lane gives for operand a, of 16 rows, and for operand b, of 16 columns.
__device__ __forceinline__ int a_row() { return lane_id() % 16; }
__device__ __forceinline__ int a_chunk() { return lane_id() / 16; }
__device__ __forceinline__ int b_row() { return lane_id() % 8 + lane_id() / 16 * 8; }
__device__ __forceinline__ int b_chunk() { return lane_id() / 8 % 2; }

// sums += a . b over 16 bfloat16 for kM times 16 rows of a and kN times 8 of b, each `step` bytes
// after the other (16 rows for a, 16 for b). Every lane gives its own addresses.
template <int kM, int kN>
__device__ __forceinline__ void multiply_chunks(float (&sums)[kM][kN][4], const unsigned char* a,
                                                int a_step, const unsigned char* b, int b_step) {
  static_assert(kN % 2 == 0);
  uint32_t rows[kM][4];
#pragma unroll
  for (int i = 0; i < kM; ++i) load_matrices(rows[i], a + i * a_step);
#pragma unroll
  for (int j = 0; j < kN; j += 2) {
    uint32_t columns[4];
    load_matrices(columns, b + j / 2 * b_step);
#pragma unroll
    for (int i = 0; i < kM; ++i) {
      multiply_bf16(sums[i][j], rows[i], columns[0], columns[1]);
      multiply_bf16(sums[i][j + 1], rows[i], columns[2], columns[3]);
    }
  }
}

// sums[i][j] = the chain of four fused multiply-adds, in order, over a chunk of row i of a and of
// row j of b.
template <int kM, int kN>
__device__ __forceinline__ void multiply_chunk(float (&sums)[kM][kN], const unsigned char* a,
                                               int a_step, const unsigned char* b, int b_step) {
  Vector<float, 4> rows[kM];
#pragma unroll
  for (int i = 0; i < kM; ++i) {
    rows[i] = load_vector<4>(reinterpret_cast<const float*>(a + i * a_step));
  }
#pragma unroll
  for (int j = 0; j < kN; ++j) {
    const auto column = load_vector<4>(reinterpret_cast<const float*>(b + j * b_step));
#pragma unroll
    for (int i = 0; i < kM; ++i) {
#pragma unroll
      for (int k = 0; k < 4; ++k) sums[i][j] = fmaf(rows[i][k], column[k], sums[i][j]);
    }
  }
}

}  // namespace vilg::cuda
