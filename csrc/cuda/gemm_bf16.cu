// Tensor core products of bfloat16 operands that are copied to shared memory asynchronously, four
// tiles of K in flight.
//
// A block of 128 x 256 outputs reads 24 KB for 2^20 products: at the rate of mma.sync (about 1270 a
// clock and multiprocessor on an H200) 29 bytes a clock, what the second-level cache gives.
// 128 x 128 needs 40, but leaves fewer multiprocessors idle where there are few tiles. A warp's
// 64 x 64 outputs read 4 KB of shared memory for 65536 products: 32 of the 51 clocks that those
// take; 64 x 32 would need all of them.
#include "cuda/gemm_tile.h"
#include "cuda/launch.h"

namespace vilg::cuda {
namespace {

constexpr int kStages = 4;

template <int kM_, int kN_, int kWarpsM_, int kWarpsN_, int kBlocks_>
struct Tile {
  static constexpr int kM = kM_, kN = kN_, kWarpsM = kWarpsM_, kWarpsN = kWarpsN_;
  static constexpr int kBlocks = kBlocks_;  // on a multiprocessor at a time
  static constexpr int kThreads = kWarpsM * kWarpsN * kLanes;
  using Warp = WarpTile<kM / kWarpsM, kN / kWarpsN>;
  static constexpr int kStageBytes = (kM + kN) * kTileDepth * 2;
  static constexpr int kSharedBytes = kStages * kStageBytes;
  static_assert(kWarpsM * kWarpsN * Warp::kScratchBytes <= kSharedBytes);
};
using Large = Tile<128, 256, 2, 4, 1>;
using Middle = Tile<128, 128, 2, 2, 2>;
using Small = Tile<64, 64, 2, 2, 4>;

// A thread's part of copying one operand: chunks of 16 bytes, the same in every tile. What lies
// outside the matrix is zero.
template <bool kAlongK, int kRows, int kThreads>
class Copier {
 public:
  __device__ Copier(const Operand& o, int batch, int row, int rows, int first_k, int last_k) {
    const auto thread = static_cast<int>(threadIdx.x);
    const int r = row + Layout::chunk_row(thread), k = first_k + Layout::chunk_k(thread);
    from_ = static_cast<const char*>(o.data) + o.at(batch, r, k) * 2;
    to_ = Layout::offset(Layout::chunk_row(thread), Layout::chunk_k(thread));
    step_ = int64_t{kAlongK ? kRowStep : kKStep} * o.ld * 2;
    advance_ = kAlongK ? kTileDepth * 2 : int64_t{kTileDepth} * o.ld * 2;
    left_k_ = last_k - k;
    left_rows_ = rows - r;
  }
  __device__ __forceinline__ void copy(unsigned char* tile) {
#pragma unroll
    for (int i = 0; i < kCopies; ++i) {
      int bytes;
      if constexpr (kAlongK) {
        bytes = i * kRowStep < left_rows_ ? 2 * left_k_ : 0;
      } else {
        bytes = i * kKStep < left_k_ ? 2 * left_rows_ : 0;
      }
      copy_async_16(tile + to_ + i * kOffsetStep, bytes > 0 ? from_ + i * step_ : from_,
                    max(0, min(bytes, 16)));
    }
    from_ += advance_;
    left_k_ -= kTileDepth;
  }

 private:
  using Layout = OperandTile<kAlongK, kRows>;
  static constexpr int kCopies = Layout::kChunks / kThreads;
  static constexpr int kRowStep = kAlongK ? kThreads / (kTileDepth / 8) : 0;
  static constexpr int kKStep = kAlongK ? 0 : kThreads / (kRows / 8);
  // multiples of 8 in the dimension that the permutation looks at, so it is the same for all
  static_assert(kRowStep % 8 == 0 && kKStep % 8 == 0);
  static constexpr int kOffsetStep = kAlongK ? kRowStep * kTileDepth * 2 : kKStep * kRows * 2;
  const char* from_;
  int64_t step_, advance_;  // bytes from chunk to chunk and from tile to tile
  int to_, left_k_, left_rows_;
};

template <class T, bool kAAlongK, bool kBAlongK>
__global__ void __launch_bounds__(T::kThreads, T::kBlocks)
    gemm_bf16_kernel(const Product p, const Output out) {
  using ATile = OperandTile<kAAlongK, T::kM>;
  using BTile = OperandTile<kBAlongK, T::kN>;
  using Warp = typename T::Warp;
  VILG_SHARED_MEMORY(shared);
  const BlockPlace place = block_place<T::kM, T::kN>(p, out);
  Copier<kAAlongK, T::kM, T::kThreads> copy_a(p.a, place.batch, place.row, p.m, place.first_k,
                                              place.last_k);
  Copier<kBAlongK, T::kN, T::kThreads> copy_b(p.b, place.batch, place.column, p.n, place.first_k,
                                              place.last_k);
  const int tiles = (place.last_k - place.first_k + kTileDepth - 1) / kTileDepth;
  const auto fetch = [&](int tile) {
    if (tile < tiles) {
      unsigned char* stage = shared + tile % kStages * T::kStageBytes;
      copy_a.copy(stage);
      copy_b.copy(stage + ATile::kBytes);
    }
    copy_async_commit();
  };
  const int row = warp_id() / T::kWarpsN * Warp::kRowTiles * 16;
  const int column = warp_id() % T::kWarpsN * Warp::kColumnTiles * 8;
  const auto load = [&](typename Warp::Step& step, int tile, int k) {
    const unsigned char* stage = shared + tile % kStages * T::kStageBytes;
    Warp::template load<ATile, BTile>(step, stage, stage + ATile::kBytes, row, column, k);
  };

  for (int tile = 0; tile < kStages - 1; ++tile) fetch(tile);
  copy_async_wait<kStages - 2>();
  __syncthreads();
  Warp warp;
  typename Warp::Step even, odd;
  load(even, 0, 0);
  for (int tile = 0; tile < tiles; ++tile) {
    load(odd, tile, 16);
    // into the tile before this one, which all warps had read when they met below
    fetch(tile + kStages - 1);
    warp.multiply(even);
    copy_async_wait<kStages - 2>();
    __syncthreads();
    if (tile + 1 < tiles) load(even, tile + 1, 0);
    warp.multiply(odd);
  }
  copy_async_wait<0>();
  __syncthreads();
  auto* scratch = reinterpret_cast<float*>(shared + warp_id() * Warp::kScratchBytes);
  warp.finish(out, scratch, place.base, place.row + row, place.column + column, p.m, p.n);
}

template <class T>
int64_t count_tiles(const Product& p) {
  return ceil_div(p.m, T::kM) * ceil_div(p.n, T::kN) * p.batch;
}

template <class T>
void run(const Product& p, const Output& out, Queue& queue) {
  const auto kernel =
      p.a.along_k
          ? (p.b.along_k ? gemm_bf16_kernel<T, true, true> : gemm_bf16_kernel<T, true, false>)
          : (p.b.along_k ? gemm_bf16_kernel<T, false, true> : gemm_bf16_kernel<T, false, false>);
  launch(queue, {dim3(count_tiles<T>(p), p.splits), T::kThreads, T::kSharedBytes}, kernel, p, out);
}

}  // namespace

// Which tile it is does not show in the bits: an output is one chain of products along K.
void gemm_bf16(const Product& p, const Output& out, Queue& queue) {
  const int64_t large = count_tiles<Large>(p) * p.splits,
                middle = count_tiles<Middle>(p) * p.splits;
  // times as if each of 132 multiprocessors did one tile after the other, in large tiles
  constexpr double kMiddleRate = 0.8;  // of the products in a clock, by the bytes that they need
  const auto large_time = static_cast<double>(ceil_div(large, 132));
  const double middle_time = static_cast<double>(ceil_div(middle, 132)) / 2 / kMiddleRate;
  if (middle < 132) {
    run<Small>(p, out, queue);
  } else if (large_time <= middle_time) {
    run<Large>(p, out, queue);
  } else {
    run<Middle>(p, out, queue);
  }
}

}  // namespace vilg::cuda
