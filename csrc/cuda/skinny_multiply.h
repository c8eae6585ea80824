#pragma once

#include <type_traits>

#include "cuda/operand.h"

// How a warp of the skinny kernel (skinny.cu) multiplies 32 rows of weights by up to 64 rows of x,
// one stage of K after the other. A stage is 128 bytes of each row of weights in their own type: 64
// elements of bfloat16 or 32 of float32.
namespace vilg::cuda {

inline constexpr int kSlotRows = 32, kSlotRowBytes = 128;
inline constexpr int kSlotBytes = kSlotRows * kSlotRowBytes;

// Where in a slot 16 bytes of a row of weights lie. Eight rows following each other have all eight
// places, and so do rows 0 to 3, and 4 to 7, in pairs of chunks.
__device__ __forceinline__ int slot_offset(int row, int chunk) {
  return row * kSlotRowBytes + (chunk ^ ((row & 3) << 1 | (row >> 2 & 1))) * 16;
}

// Tensor cores: weights are the rows of the product, rows of x its columns, eight to a column tile.
template <typename W_, int kColumnTiles_>
class TensorMultiply {
 public:
  using W = W_;
  static constexpr int kColumnTiles = kColumnTiles_, kColumns = 8 * kColumnTiles;
  static constexpr int kDepth = kSlotRowBytes / static_cast<int>(sizeof(W));
  static constexpr int kXRowBytes = kDepth * 2;  // bfloat16
  // On a multiprocessor; for two, 64 sums and the conversion of float32 lack some registers.
  static constexpr int kBlocksAtOnce = sizeof(W) == 4 && kColumnTiles == 8 ? 1 : 2;

  // Where eight elements of a row of x lie, K from `chunk` times 8 of the stage on. Rows have 128
  // or 64 bytes, and the eight rows of a matrix lie in different banks.
  __device__ __forceinline__ static int x_offset(int row, int chunk) {
    return row * kXRowBytes + (chunk ^ (kDepth == 64 ? row & 7 : row >> 1 & 3)) * 16;
  }
  __device__ __forceinline__ static void store_x(unsigned char* to, const RawChunk& raw,
                                                 bool half) {
    *reinterpret_cast<uint4*>(to) = chunk_to_bf16(raw, half);
  }

  // Part kPart of kParts of the stage.
  template <int kPart, int kParts>
  __device__ __forceinline__ void multiply(const unsigned char* slot, const unsigned char* x) {
    constexpr int kAtOnce = kColumnTiles > 1 ? 2 : 1;  // column tiles to a load
    const int matrix = lane_id() / 8, r = lane_id() % 8;
    // 16 of K are two chunks, so the next 16 differ in one bit of the offset
    const int w_at = slot_offset(matrix % 2 * 8 + r, matrix / 2);
    // with a single column tile, the second half repeats the first
    const int x_at = x_offset(matrix / 2 % kAtOnce * 8 + r, matrix % 2);
#pragma unroll
    for (int k = kDepth * kPart / kParts; k < kDepth * (kPart + 1) / kParts; k += 16) {
      uint32_t w[2][4];
#pragma unroll
      for (int tile = 0; tile < 2; ++tile) {
        if constexpr (std::is_same_v<W, bf16>) {
          load_matrices(w[tile], slot + tile * 16 * kSlotRowBytes + (w_at ^ k * 2));
        } else {
          convert_weights(w[tile], slot + tile * 16 * kSlotRowBytes, k);
        }
      }
#pragma unroll
      for (int column = 0; column < kColumnTiles; column += kAtOnce) {
        uint32_t b[4];
        load_matrices(b, x + column * 8 * kXRowBytes + (x_at ^ k * 2));
#pragma unroll
        for (int i = 0; i < kAtOnce; ++i) {
          multiply_bf16(sums_[0][column + i], w[0], b[2 * i], b[2 * i + 1]);
          multiply_bf16(sums_[1][column + i], w[1], b[2 * i], b[2 * i + 1]);
        }
      }
    }
  }

  // visit(row of weights, row of x, sum) for all that this lane has.
  template <typename Visit>
  __device__ __forceinline__ void for_each(const Visit& visit) const {
    const int g = lane_id() / 4, p = lane_id() % 4 * 2;
#pragma unroll
    for (int tile = 0; tile < 2; ++tile) {
#pragma unroll
      for (int column = 0; column < kColumnTiles; ++column) {
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          visit(tile * 16 + g + e / 2 * 8, column * 8 + p + e % 2, sums_[tile][column][e]);
        }
      }
    }
  }

 private:
  // 16 rows of float32 weights by 16 of K.
  __device__ __forceinline__ static void convert_weights(uint32_t (&w)[4],
                                                         const unsigned char* rows, int k) {
    const int g = lane_id() / 4, p = lane_id() % 4 * 2;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      // 8 of K are two chunks, 8 rows the same permutation
      const int at = (slot_offset(g, p / 4) ^ (k + i / 2 * 8) * 4) + i % 2 * 8 * kSlotRowBytes;
      const auto pair = load_vector<2>(reinterpret_cast<const float*>(rows + at + p % 4 * 4));
      w[i] = pack_bf16(pair[0], pair[1]);
    }
  }

  float sums_[2][kColumnTiles][4] = {};
};

// Fused multiply-adds: every output is one chain along K. A lane has four rows of weights and every
// fourth row of x: 20 reads of shared memory for 256 products with 64 rows.
template <typename W_, int kColumnTiles_>
class FloatMultiply {
 public:
  using W = W_;
  static constexpr int kColumnTiles = kColumnTiles_, kColumns = 8 * kColumnTiles;
  static constexpr int kDepth = kSlotRowBytes / static_cast<int>(sizeof(W));
  static constexpr int kXRowBytes = kDepth * 4;
  static constexpr int kBlocksAtOnce = kColumnTiles == 8 ? 1 : 2;  // on a multiprocessor

  __device__ __forceinline__ static int x_offset(int row, int chunk) {
    return row * kXRowBytes + chunk * 32;
  }
  __device__ __forceinline__ static void store_x(unsigned char* to, const RawChunk& raw,
                                                 bool half) {
    float v[8];
    chunk_to_floats(v, raw, half);
    auto* floats = reinterpret_cast<float*>(to);
    store_vector<4>(floats, Vector<float, 4>{{v[0], v[1], v[2], v[3]}});
    store_vector<4>(floats + 4, Vector<float, 4>{{v[4], v[5], v[6], v[7]}});
  }

  template <int kPart, int kParts>
  __device__ __forceinline__ void multiply(const unsigned char* slot, const unsigned char* x) {
    constexpr int kBytes = 4 * static_cast<int>(sizeof(W));  // four elements
#pragma unroll 1
    for (int k = kDepth * kPart / kParts; k < kDepth * (kPart + 1) / kParts; k += 4) {
      Vector<W, 4> w[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int at = k / 4 * kBytes;
        const auto* from = slot + slot_offset(i * 8 + first_row(), at / 16) + at % 16;
        w[i] = load_vector<4>(reinterpret_cast<const W*>(from));
      }
#pragma unroll
      for (int j = 0; j < kColumns / 4; ++j) {
        const auto* from = x + (j * 4 + first_column()) * kXRowBytes + k * 4;
        const auto v = load_vector<4>(reinterpret_cast<const float*>(from));
#pragma unroll
        for (int i = 0; i < 4; ++i) {
#pragma unroll
          for (int e = 0; e < 4; ++e) sums_[i][j] = fmaf(to_float(w[i][e]), v[e], sums_[i][j]);
        }
      }
    }
  }

  template <typename Visit>
  __device__ __forceinline__ void for_each(const Visit& visit) const {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
#pragma unroll
      for (int j = 0; j < kColumns / 4; ++j) {
        visit(i * 8 + first_row(), j * 4 + first_column(), sums_[i][j]);
      }
    }
  }

 private:
  // A quarter of a warp, which reads 16 bytes a lane at a time, has eight rows and one column.
  __device__ __forceinline__ static int first_row() { return lane_id() % 8; }
  __device__ __forceinline__ static int first_column() { return lane_id() / 8; }

  float sums_[4][kColumns / 4] = {};
};

}  // namespace vilg::cuda
