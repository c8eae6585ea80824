// Tensor core products of operands in any type and with any alignment: a tile of K ahead is held in
// registers as it was read, and rounded to bfloat16 on its way to shared memory. For products so
// small that a pass over the operands (pack.cu) would cost more than reading them twice as wide,
// and once for each tile.
#include "cuda/gemm_tile.h"
#include "cuda/launch.h"

namespace vilg::cuda {
namespace {

constexpr int kM = 64, kN = 64, kWarpsM = 2, kWarpsN = 2;
constexpr int kThreads = kWarpsM * kWarpsN * kLanes;
using Warp = WarpTile<kM / kWarpsM, kN / kWarpsN>;
constexpr int kStageBytes = (kM + kN) * kTileDepth * 2;
constexpr int kScratchBytes = kWarpsM * kWarpsN * Warp::kScratchBytes;
constexpr int kSharedBytes = kScratchBytes > 2 * kStageBytes ? kScratchBytes : 2 * kStageBytes;

// A thread's part of one operand.
template <bool kAlongK, int kRows>
class Reader {
 public:
  __device__ void load(const Operand& o, int batch, int row, int rows, int k, int last_k) {
#pragma unroll
    for (int i = 0; i < kChunks; ++i) {
      const int chunk = static_cast<int>(threadIdx.x) + i * kThreads;
      const int r = row + Layout::chunk_row(chunk), c = k + Layout::chunk_k(chunk);
      const int count = kAlongK ? (r < rows ? last_k - c : 0) : (c < last_k ? rows - r : 0);
      raw_[i] = load_chunk(o.data, o.half, o.vector, o.at(batch, r, c), count);
    }
  }
  __device__ void store(const Operand& o, unsigned char* tile) const {
#pragma unroll
    for (int i = 0; i < kChunks; ++i) {
      const int chunk = static_cast<int>(threadIdx.x) + i * kThreads;
      const int offset = Layout::offset(Layout::chunk_row(chunk), Layout::chunk_k(chunk));
      *reinterpret_cast<uint4*>(tile + offset) = chunk_to_bf16(raw_[i], o.half);
    }
  }

 private:
  using Layout = OperandTile<kAlongK, kRows>;
  static constexpr int kChunks = Layout::kChunks / kThreads;
  RawChunk raw_[kChunks];
};

template <bool kAAlongK, bool kBAlongK>
__global__ void __launch_bounds__(kThreads, 4)
    gemm_direct_kernel(const Product p, const Output out) {
  using ATile = OperandTile<kAAlongK, kM>;
  using BTile = OperandTile<kBAlongK, kN>;
  VILG_SHARED_MEMORY(shared);
  const BlockPlace place = block_place<kM, kN>(p, out);
  Reader<kAAlongK, kM> a;
  Reader<kBAlongK, kN> b;
  const auto load = [&](int k) {
    a.load(p.a, place.batch, place.row, p.m, k, place.last_k);
    b.load(p.b, place.batch, place.column, p.n, k, place.last_k);
  };
  const auto store = [&](unsigned char* stage) {
    a.store(p.a, stage);
    b.store(p.b, stage + ATile::kBytes);
  };
  const int row = warp_id() / kWarpsN * (kM / kWarpsM),
            column = warp_id() % kWarpsN * (kN / kWarpsN);
  Warp warp;
  load(place.first_k);
  store(shared);
  __syncthreads();
  int current = 0;
  for (int k = place.first_k; k < place.last_k; k += kTileDepth) {
    const bool more = k + kTileDepth < place.last_k;
    if (more) load(k + kTileDepth);
    const unsigned char* stage = shared + current * kStageBytes;
#pragma unroll
    for (int step = 0; step < kTileDepth; step += 16) {
      typename Warp::Step operands;
      Warp::load<ATile, BTile>(operands, stage, stage + ATile::kBytes, row, column, step);
      warp.multiply(operands);
    }
    current ^= 1;
    if (more) store(shared + current * kStageBytes);
    __syncthreads();
  }
  auto* scratch = reinterpret_cast<float*>(shared + warp_id() * Warp::kScratchBytes);
  warp.finish(out, scratch, place.base, place.row + row, place.column + column, p.m, p.n);
}

}  // namespace

void gemm_direct(const Product& p, const Output& out, Queue& queue) {
  const auto kernel =
      p.a.along_k
          ? (p.b.along_k ? gemm_direct_kernel<true, true> : gemm_direct_kernel<true, false>)
          : (p.b.along_k ? gemm_direct_kernel<false, true> : gemm_direct_kernel<false, false>);
  const int64_t tiles = ceil_div(p.m, kM) * ceil_div(p.n, kN) * p.batch;
  launch(queue, {dim3(tiles, p.splits), kThreads, kSharedBytes}, kernel, p, out);
}

}  // namespace vilg::cuda
