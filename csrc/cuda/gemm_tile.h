#pragma once

#include "cuda/epilogue.h"
#include "cuda/gemm.h"

// What the tensor core kernels share: tiles of operands in shared memory, the product of a warp's
// part of them, and where a block works.
namespace vilg::cuda {

inline constexpr int kTileDepth = 32;  // of K in a tile

// kRows rows of op(a), or columns of op(b), by kTileDepth of K, in bfloat16, as they lie in memory:
// K contiguous (64 bytes a row) or the rows (2 kRows bytes for each k). Chunks of 16 bytes are
// permuted so that the eight that an 8 x 8 matrix is read from lie in different banks.
template <bool kAlongK, int kRows>
struct OperandTile {
  static constexpr int kBytes = kRows * kTileDepth * 2;
  static constexpr int kChunks = kBytes / 16;

  // Of the chunk with element (row, k); along its dimension a multiple of 8.
  __device__ static int offset(int row, int k) {
    if constexpr (kAlongK) {
      return row * (kTileDepth * 2) + (k / 8 ^ (row >> 1 & 3)) * 16;
    } else {
      return k * (kRows * 2) + (row / 8 ^ (k & 7)) * 16;
    }
  }
  // The chunk that a thread copies when the tile is spread over threads chunk by chunk.
  __device__ static int chunk_row(int chunk) {
    return kAlongK ? chunk / (kTileDepth / 8) : chunk % (kRows / 8) * 8;
  }
  __device__ static int chunk_k(int chunk) {
    return kAlongK ? chunk % (kTileDepth / 8) * 8 : chunk / (kRows / 8);
  }

  // 16 rows x 16 of K from (row, k) on, as the first operand of multiply_bf16.
  __device__ static void load_a(uint32_t (&a)[4], const unsigned char* tile, int row, int k) {
    const int matrix = lane_id() / 8, r = lane_id() % 8;
    if constexpr (kAlongK) {
      load_matrices(a, tile + offset(row + matrix % 2 * 8 + r, k + matrix / 2 * 8));
    } else {
      load_matrices_transposed(a, tile + offset(row + matrix % 2 * 8, k + matrix / 2 * 8 + r));
    }
  }
  // 16 of K x 16 columns from (row, k) on: b0 and b1 of the first eight, then of the others.
  __device__ static void load_b(uint32_t (&b)[4], const unsigned char* tile, int row, int k) {
    const int matrix = lane_id() / 8, r = lane_id() % 8;
    if constexpr (kAlongK) {
      load_matrices(b, tile + offset(row + matrix / 2 * 8 + r, k + matrix % 2 * 8));
    } else {
      load_matrices_transposed(b, tile + offset(row + matrix / 2 * 8, k + matrix % 2 * 8 + r));
    }
  }
};

// The sums of kM x kN outputs in the registers of a warp, and the operands of one step of 16 in K.
template <int kM, int kN>
struct WarpTile {
  static constexpr int kRowTiles = kM / 16, kColumnTiles = kN / 8;
  static constexpr int kScratchStride = kN + 8;  // floats: no bank conflicts in finish()
  static constexpr int kScratchBytes = 16 * kScratchStride * 4;

  struct Step {
    uint32_t a[kRowTiles][4], b[kColumnTiles / 2][4];
  };
  float sums[kRowTiles][kColumnTiles][4] = {};

  template <class ATile, class BTile>
  __device__ __forceinline__ static void load(Step& step, const unsigned char* a,
                                              const unsigned char* b, int row, int column, int k) {
#pragma unroll
    for (int i = 0; i < kRowTiles; ++i) ATile::load_a(step.a[i], a, row + i * 16, k);
#pragma unroll
    for (int j = 0; j < kColumnTiles / 2; ++j) BTile::load_b(step.b[j], b, column + j * 16, k);
  }
  __device__ __forceinline__ void multiply(const Step& step) {
#pragma unroll
    for (int i = 0; i < kRowTiles; ++i) {
#pragma unroll
      for (int j = 0; j < kColumnTiles; ++j) {
        multiply_bf16(sums[i][j], step.a[i], step.b[j / 2][j % 2 * 2],
                      step.b[j / 2][j % 2 * 2 + 1]);
      }
    }
  }
  // Through `scratch`, kScratchBytes of the warp's own.
  __device__ __forceinline__ void finish(const Output& out, float* scratch, int64_t base, int row,
                                         int column, int m, int n) const {
    const int g = lane_id() / 4, p = lane_id() % 4 * 2;
#pragma unroll
    for (int i = 0; i < kRowTiles; ++i) {
      __syncwarp();
#pragma unroll
      for (int j = 0; j < kColumnTiles; ++j) {
        const float* d = sums[i][j];
        store_vector<2>(scratch + g * kScratchStride + j * 8 + p, Vector<float, 2>{{d[0], d[1]}});
        store_vector<2>(scratch + (g + 8) * kScratchStride + j * 8 + p,
                        Vector<float, 2>{{d[2], d[3]}});
      }
      __syncwarp();
      finish_rectangle<16, kN>(out, scratch, kScratchStride, base, row + i * 16, 1, column, m, n);
    }
  }
};

// What a block computes. Blocks with neighbouring numbers take tiles in groups of eight tile rows,
// so that those that run at the same time share operands in the second-level cache.
struct BlockPlace {
  int row, column;      // of the first output
  int first_k, last_k;  // the end is not included, and a multiple of kTileDepth or K itself
  int batch;
  int64_t base;  // of Output: element (0, 0) of this matrix and split
};

template <int kM, int kN>
__device__ __forceinline__ BlockPlace block_place(const Product& p, const Output& out) {
  constexpr int kGroup = 8;
  const int tiles_m = (p.m + kM - 1) / kM, tiles_n = (p.n + kN - 1) / kN;
  const auto tile = static_cast<int>(blockIdx.x % static_cast<uint32_t>(tiles_m * tiles_n));
  const int group = tile / (kGroup * tiles_n), in_group = tile % (kGroup * tiles_n);
  const int group_rows = min(kGroup, tiles_m - group * kGroup);
  const auto split = static_cast<int>(blockIdx.y);
  const int64_t depth_tiles = (p.k + kTileDepth - 1) / kTileDepth;
  BlockPlace place;
  place.row = (group * kGroup + in_group % group_rows) * kM;
  place.column = in_group / group_rows * kN;
  place.batch = static_cast<int>(blockIdx.x / static_cast<uint32_t>(tiles_m * tiles_n));
  place.first_k = static_cast<int>(depth_tiles * split / p.splits) * kTileDepth;
  place.last_k = min(p.k, static_cast<int>(depth_tiles * (split + 1) / p.splits) * kTileDepth);
  place.base = split * out.split_stride + place.batch * out.batch_stride;
  return place;
}

}  // namespace vilg::cuda
