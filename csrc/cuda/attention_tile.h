// Tiles of the attention kernels that use tensor cores: rows of bf16 in shared memory, and 16-row
// fragments in registers. A "quad" is the four lanes that share a row of a fragment.
#pragma once

#include "cuda/attention_sight.h"
#include "cuda/launch.h"

namespace vilg::cuda {

inline constexpr int kMostText = 8192;

// Head sizes up to kWidth. Blocks are four warps; a warp has kRows rows of its own (queries, or
// keys in the second half of the backward pass), which share every operand read from shared memory:
// 32 where the accumulators leave room for it.
template <int kWidth>
struct AttentionShape {
  static constexpr int kWarps = 4, kThreads = kWarps * kLanes;
  static constexpr int kFragments = kWidth <= 64 ? 2 : 1;  // of 16 rows
  static constexpr int kRows = 16 * kFragments;
  static constexpr int kBlockPlaces = kWarps * kRows;
  // tiles that arrive together; twice that lies in shared memory
  static constexpr int kChunkTiles = kWidth <= 64 ? 4 : 2;
  static constexpr int kChunkRows = kChunkTiles * kTilePlaces;
  static constexpr int kChunkBytes = kChunkRows * kWidth * 2;
};

// Rows of kWidth bf16, of 32, 64 or 128. The 16-byte pieces of a row are exchanged so that the
// eight rows of a matrix lie in different banks.
template <int kWidth>
struct SharedRows {
  unsigned char* data;

  static __device__ __forceinline__ int offset(int row, int piece) {
    const int turn = kWidth == 32 ? row / 2 & 3 : row & 7;
    return row * kWidth * 2 ^ (piece ^ turn) * 16;
  }
  __device__ __forceinline__ SharedRows from(int row) const { return {data + row * kWidth * 2}; }

  // 16 rows from `row`, a constant, elements 16 step ... of each: as the left operand,
  __device__ __forceinline__ void left(uint32_t (&a)[4], int row, int step) const {
    load_matrices(a, at(row, lane_id() % 16, lane_id() / 16, step));
  }
  // as 16 columns of the right operand: a product with rows,
  __device__ __forceinline__ void right(uint32_t (&b)[4], int row, int step) const {
    load_matrices(b, at(row, lane_id() % 8 + lane_id() / 16 * 8, lane_id() / 8 % 2, step));
  }
  // as 16 rows of the right operand: a sum over rows.
  __device__ __forceinline__ void right_transposed(uint32_t (&b)[4], int row, int step) const {
    load_matrices_transposed(b, at(row, lane_id() % 16, lane_id() / 16, step));
  }

 private:
  // Where the lane's row of the operand begins. The lane's part stays the same all the while, the
  // step costs an exclusive or and an addition, and rows go into the instruction.
  __device__ __forceinline__ const unsigned char* at(int row, int lane_row, int lane_piece,
                                                     int step) const {
    return data + (offset(lane_row, lane_piece) ^ step * 32) + row * kWidth * 2;
  }
};

// One of q, k, v, out, ... of one head: element 0 of position n at data + n * stride.
template <typename T>
struct HeadRows {
  T* data;
  int64_t stride;
};

template <typename T>
__device__ __forceinline__ const T* shifted(const T* address, int64_t bytes) {
  return reinterpret_cast<const T*>(reinterpret_cast<const char*>(address) + bytes);
}

// Eight elements as bf16, zeros unless `given`: past the registers where they are bf16 already.
__device__ __forceinline__ void stage_piece(unsigned char* to, const bf16* from, bool given) {
  copy_async_16(to, from, given ? 16 : 0);
}
__device__ __forceinline__ void stage_piece(unsigned char* to, const float* from, bool given) {
  uint4 piece{0, 0, 0, 0};
  if (given) {
    const Vector<float, 4> x = load_vector<4>(from), y = load_vector<4>(from + 4);
    piece = {pack_bf16(x[0], x[1]), pack_bf16(x[2], x[3]), pack_bf16(y[0], y[1]),
             pack_bf16(y[2], y[3])};
  }
  *reinterpret_cast<uint4*>(to) = piece;
}

// The rows of `places` of two operands of one head, token after token a_bytes and b_bytes apart, by
// the whole block; rows past the end of the segment and elements past the head size are zero. Eight
// lanes read the 128 bytes of one row, so places that lie far apart, as those of a column, cost no
// more than neighbours.
template <typename T, int kWidth>
__device__ __forceinline__ void stage_rows(unsigned char* to_a, const T* a, int a_bytes,
                                           unsigned char* to_b, const T* b, int b_bytes,
                                           const AttentionStream& s, const Places& places) {
  constexpr int kPieces = kWidth / 8;
  constexpr int kStep = AttentionShape<kWidth>::kThreads / kPieces;  // rows
  static_assert(kTilePlaces % kStep == 0 && kStep % 8 == 0);
  const unsigned thread = thread_number_again();
  const int element = static_cast<int>(thread % kPieces * 8);
  int row = static_cast<int>(thread / kPieces);
  int offset = SharedRows<kWidth>::offset(row, element / 8);
  const int end = element < s.head_size ? s.places(places.image) : 0;
  if (element < s.head_size) a += element, b += element;
  PlaceWalk walk = PlaceWalk::from(s, places.image, places.first + row);
  // what passes through registers is read ahead; asynchronous copies need no registers to wait in
#pragma unroll(sizeof(T) == 2 ? 1 : 2)
  for (; row < places.count; row += kStep, offset += kStep * kWidth * 2, walk.advance(kStep)) {
    const bool given = walk.place < end;
    const int position = given ? walk.position() : 0;
    stage_piece(to_a + offset, shifted(a, int64_t{position} * a_bytes), given);
    stage_piece(to_b + offset, shifted(b, int64_t{position} * b_bytes), given);
  }
}

// Where the rows that this lane has of its warp's fragments lie: rows lane / 4 + 8 i. -1: nowhere.
template <int kFragments>
struct FragmentRows {
  int position[2 * kFragments];

  // The warp's rows are the places from `first`.
  static __device__ __forceinline__ FragmentRows at(const AttentionStream& s, bool image,
                                                    int first) {
    FragmentRows rows;
#pragma unroll
    for (int i = 0; i < 2 * kFragments; ++i) {
      const int place = first + lane_id() / 4 + 8 * i;
      rows.position[i] = place < s.places(image) ? s.position(image, place) : -1;
    }
    return rows;
  }
};

__device__ __forceinline__ uint32_t load_pair(const bf16* from) {
  return *reinterpret_cast<const uint32_t*>(from);
}
__device__ __forceinline__ uint32_t load_pair(const float* from) {
  const Vector<float, 2> pair = load_vector<2>(from);
  return pack_bf16(pair[0], pair[1]);
}

// The left operand of products along the head, zeros where there is nothing.
template <typename T, int kFragments, int kSteps>
__device__ __forceinline__ void load_fragments(uint32_t (&a)[kFragments][kSteps][4],
                                               const HeadRows<const T>& x,
                                               const FragmentRows<kFragments>& rows,
                                               int head_size) {
#pragma unroll
  for (int m = 0; m < kFragments; ++m) {
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int position = rows.position[2 * m + i % 2];
        const int element = 16 * step + 8 * (i / 2);
        a[m][step][i] = position >= 0 && element < head_size
                            ? load_pair(x.data + position * x.stride + element + lane_id() % 4 * 2)
                            : 0u;
      }
    }
  }
}

// Four words of each lane of a quad: lane i gets word i of every lane.
__device__ __forceinline__ void transpose_quad(uint32_t (&x)[4]) {
  const bool odd = lane_id() & 1, upper = lane_id() & 2;
#pragma unroll
  for (int i = 0; i < 4; i += 2) {
    const uint32_t other = shuffle_xor(odd ? x[i] : x[i + 1], 1);
    if (odd) {
      x[i] = other;
    } else {
      x[i + 1] = other;
    }
  }
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const uint32_t other = shuffle_xor(upper ? x[i] : x[i + 2], 2);
    if (upper) {
      x[i] = other;
    } else {
      x[i + 2] = other;
    }
  }
}

// Accumulators, each row times its factor, to the places that they belong to, in full sectors.
template <int kFragments, int kSteps>
__device__ __forceinline__ void store_fragments(const HeadRows<bf16>& to,
                                                const float (&x)[kFragments][2 * kSteps][4],
                                                const float (&factors)[2 * kFragments],
                                                const FragmentRows<kFragments>& rows,
                                                int head_size) {
#pragma unroll
  for (int i = 0; i < 2 * kFragments; ++i) {
#pragma unroll
    for (int columns = 0; columns < 2 * kSteps; columns += 4) {
      uint32_t piece[4];
#pragma unroll
      for (int n = 0; n < 4; ++n) {
        const float* pair = &x[i / 2][columns + n][2 * (i % 2)];
        piece[n] = pack_bf16(pair[0] * factors[i], pair[1] * factors[i]);
      }
      transpose_quad(piece);
      const int element = 8 * (columns + lane_id() % 4);
      if (rows.position[i] >= 0 && element < head_size) {
        *reinterpret_cast<uint4*>(to.data + rows.position[i] * to.stride + element) =
            uint4{piece[0], piece[1], piece[2], piece[3]};
      }
    }
  }
}
template <int kFragments, int kSteps>
__device__ __forceinline__ void store_fragments(const HeadRows<float>& to,
                                                const float (&x)[kFragments][2 * kSteps][4],
                                                const float (&factors)[2 * kFragments],
                                                const FragmentRows<kFragments>& rows,
                                                int head_size) {
#pragma unroll
  for (int i = 0; i < 2 * kFragments; ++i) {
#pragma unroll
    for (int n = 0; n < 2 * kSteps; ++n) {
      if (rows.position[i] < 0 || 8 * n >= head_size) continue;
      Vector<float, 2> pair;
      pair[0] = x[i / 2][n][2 * (i % 2)] * factors[i];
      pair[1] = x[i / 2][n][2 * (i % 2) + 1] * factors[i];
      store_vector<2>(to.data + rows.position[i] * to.stride + 8 * n + lane_id() % 4 * 2, pair);
    }
  }
}

// The sum, the largest, of what the lanes of a quad have.
__device__ __forceinline__ float quad_sum(float x) {
  x += shuffle_xor(x, 1);
  return x + shuffle_xor(x, 2);
}
__device__ __forceinline__ float quad_max(float x) {
  x = fmaxf(x, shuffle_xor(x, 1));
  return fmaxf(x, shuffle_xor(x, 2));
}

// A block of queries that goes through all keys that one of them sees. What it keeps in shared
// memory beside keys and values is kept there because registers are short.
template <typename T, int kWidth>
class QueryBlock {
 public:
  using Shape = AttentionShape<kWidth>;
  using Rows = FragmentRows<Shape::kFragments>;

  // All threads must call. The first keys are under way when it returns.
  static __device__ __forceinline__ QueryBlock& begin(unsigned char* smem, const AttentionStream& s,
                                                      const T* k, const T* v) {
    auto& self = *reinterpret_cast<QueryBlock*>(smem + 4 * Shape::kChunkBytes);
    // those with the most keys first
    const auto index = static_cast<int>(
        s.direction == Direction::kTextToImage ? gridDim.x - 1 - blockIdx.x : blockIdx.x);
    const AttentionBlock block = AttentionBlock::at(
        s, static_cast<int>(blockIdx.z), static_cast<int>(blockIdx.y), index, Shape::kBlockPlaces);
    if (threadIdx.x == 0) {
      self.block_ = block;
      const int64_t offset = head_offset(s.qkv_strides, block);
      self.keys_ = k + offset, self.values_ = v + offset;
      self.chunks_ = key_chunks(s, block.places, Shape::kChunkTiles);
    }
    const int place = block.places.first + warp_id() * Shape::kRows + lane_id();
    self.sights_[threadIdx.x] =
        lane_id() < Shape::kRows ? sight_of(s, block.sample, block.places.image, place) : Sight();
    for (int tile = warp_id(); tile * kTilePlaces < s.text; tile += Shape::kWarps) {
      const uint32_t valid = valid_text(s, block.sample, tile * kTilePlaces);
      if (lane_id() == 0) self.valid_[tile] = valid;
    }
    __syncthreads();
    self.stage(smem, s, 0);
    return self;
  }

  __device__ const AttentionBlock& block() const { return block_; }
  __device__ bool image() const { return block_.places.image; }
  // Place of the warp's first query.
  __device__ int warp_first() const { return block_.places.first + warp_id() * Shape::kRows; }
  __device__ Rows rows(const AttentionStream& s) const {
    return Rows::at(s, image(), warp_first());
  }

  // tile(keys, values, seen) for every tile that the warp's queries see something of; bit i of
  // `seen` is whether the query with the lane's number sees key i. All threads must call, once.
  template <typename Tile>
  __device__ __forceinline__ void for_each_tile(unsigned char* smem, const AttentionStream& s,
                                                const Tile& tile) const {
#pragma unroll 1
    for (int c = 0; c < chunks_.count; ++c) {
      copy_async_wait<0>();
      __syncthreads();
      if (c + 1 < chunks_.count) stage(smem, s, c + 1);
      const Places keys = chunks_.at(c, Shape::kChunkTiles);
      SharedRows<kWidth> rows{chunk(smem, c)};
#pragma unroll 1
      for (int base = keys.first; base < keys.first + keys.count; base += kTilePlaces) {
        const Sight& sight = sights_[thread_number_again()];
        const uint32_t seen = keys.image ? image_word(sight, base, s.grid)
                                         : shared_word(sight, base, valid_[base / kTilePlaces]);
        if (ballot(seen != 0) != 0) tile(rows, rows.from(Shape::kChunkRows), seen);
        rows = rows.from(kTilePlaces);
      }
    }
  }

  static constexpr size_t shared_bytes() { return 4 * Shape::kChunkBytes + sizeof(QueryBlock); }

 private:
  static __device__ unsigned char* chunk(unsigned char* smem, int c) {
    return smem + c % 2 * 2 * Shape::kChunkBytes;
  }
  __device__ __forceinline__ void stage(unsigned char* smem, const AttentionStream& s,
                                        int c) const {
    stage_rows<T, kWidth>(chunk(smem, c), keys_, s.qkv_bytes, chunk(smem, c) + Shape::kChunkBytes,
                          values_, s.qkv_bytes, s, chunks_.at(c, Shape::kChunkTiles));
    copy_async_commit();
  }

  AttentionBlock block_;
  TileChunks chunks_;
  const T *keys_, *values_;
  Sight sights_[Shape::kThreads];
  uint32_t valid_[kMostText / kTilePlaces + 1];  // valid text, by tile of shared places
};

// Whether the kernels of tensor cores can do it: 16-byte pieces of every row, the head in
// registers, the valid text in shared memory.
inline bool fits_tensor_cores(const AttentionParams& p) {
  const auto element = static_cast<int64_t>(dtype_size(p.dtype));
  for (const AttentionStrides& strides : {p.qkv_strides, p.out_strides}) {
    if ((strides.batch | strides.token | strides.head) * element % 16 != 0) return false;
    if (strides.token * element > INT32_MAX) return false;
  }
  return p.compute == DType::kBFloat16 && p.head_size % 8 == 0 && p.head_size <= 128 &&
         p.sizes.text_length <= kMostText && aligned_to_16(p.q, p.k, p.v);
}

}  // namespace vilg::cuda
