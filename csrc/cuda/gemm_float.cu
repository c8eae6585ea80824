// float32 products. A thread owns 8 x 8 outputs (4 x 4 in small tiles), each one chain of fused
// multiply-adds along K, whatever the tile: 64 of them for four 16-byte reads of shared memory,
// which with 256 threads is what 128 lanes a clock need.
#include "cuda/epilogue.h"
#include "cuda/gemm_tile.h"
#include "cuda/launch.h"

namespace vilg::cuda {
namespace {

constexpr int kThreads = 256, kDepth = 8;
static_assert(kTileDepth % kDepth == 0, "splits end where tiles do");

// kTile rows of one operand by kDepth of K, K after K, in shared memory.
template <int kTile>
struct FloatTile {
  static constexpr int kStride = kTile + 4;  // floats: 16-byte reads
  static constexpr int kFloats = kDepth * kStride;
  static constexpr int kChunks = kTile * kDepth / 8;
  static_assert(2 * kChunks <= kThreads);

  // Where chunk by chunk lies, in the order of memory.
  __device__ static int row(const Operand& o, int chunk) {
    return o.along_k ? chunk : chunk % (kTile / 8) * 8;
  }
  __device__ static int k(const Operand& o, int chunk) {
    return o.along_k ? 0 : chunk / (kTile / 8);
  }
  // Rows first_row to rows - 1, K from first_k to last_k - 1.
  __device__ static RawChunk load(const Operand& o, int chunk, int batch, int first_row, int rows,
                                  int first_k, int last_k) {
    const int r = first_row + row(o, chunk), c = first_k + k(o, chunk);
    const int count = o.along_k ? (r < rows ? last_k - c : 0) : (c < last_k ? rows - r : 0);
    return load_chunk(o.data, o.half, o.vector, o.at(batch, r, c), count);
  }
  __device__ static void store(const Operand& o, int chunk, const RawChunk& raw, float* tile) {
    float x[8];
    chunk_to_floats(x, raw, o.half);
    float* to = tile + k(o, chunk) * kStride + row(o, chunk);
    if (o.along_k) {
#pragma unroll
      for (int e = 0; e < 8; ++e) to[e * kStride] = x[e];
    } else {
      store_vector<4>(to, Vector<float, 4>{{x[0], x[1], x[2], x[3]}});
      store_vector<4>(to + 4, Vector<float, 4>{{x[4], x[5], x[6], x[7]}});
    }
  }
};

// Threads are 16 x 16; each has rows 4 y to 4 y + 3 of every 64, and columns alike.
template <int kTile>
__global__ void __launch_bounds__(kThreads, 2)
    gemm_float_kernel(const Product p, const Output out) {
  using Layout = FloatTile<kTile>;
  constexpr int kGroups = kTile / 64, kPart = 4 * kGroups;
  VILG_SHARED_MEMORY(shared);
  auto* tiles = reinterpret_cast<float*>(shared);
  const BlockPlace place = block_place<kTile, kTile>(p, out);
  const int x = static_cast<int>(threadIdx.x) % 16, y = static_cast<int>(threadIdx.x) / 16;

  // the first threads bring a, the next ones b, a chunk each
  const auto thread = static_cast<int>(threadIdx.x);
  const bool is_b = thread >= Layout::kChunks;
  const int chunk = is_b ? thread - Layout::kChunks : thread;
  RawChunk raw = zero_chunk();
  const auto load = [&](int k) {
    if (chunk >= Layout::kChunks) return;
    raw = is_b ? Layout::load(p.b, chunk, place.batch, place.column, p.n, k, place.last_k)
               : Layout::load(p.a, chunk, place.batch, place.row, p.m, k, place.last_k);
  };
  const auto store = [&](float* stage) {
    if (chunk >= Layout::kChunks) return;
    is_b ? Layout::store(p.b, chunk, raw, stage + Layout::kFloats)
         : Layout::store(p.a, chunk, raw, stage);
  };
  float sums[kPart][kPart] = {};
  load(place.first_k);
  store(tiles);
  __syncthreads();
  int current = 0;
  for (int k = place.first_k; k < place.last_k; k += kDepth) {
    const bool more = k + kDepth < place.last_k;
    if (more) load(k + kDepth);
    const float* stage = tiles + current * 2 * Layout::kFloats;
#pragma unroll
    for (int depth = 0; depth < kDepth; ++depth) {
      float u[kPart], v[kPart];
#pragma unroll
      for (int g = 0; g < kGroups; ++g) {
        const float* from = stage + depth * Layout::kStride + g * 64;
        const auto rows = load_vector<4>(from + y * 4);
        const auto columns = load_vector<4>(from + Layout::kFloats + x * 4);
#pragma unroll
        for (int e = 0; e < 4; ++e) u[g * 4 + e] = rows[e], v[g * 4 + e] = columns[e];
      }
#pragma unroll
      for (int i = 0; i < kPart; ++i) {
#pragma unroll
        for (int j = 0; j < kPart; ++j) sums[i][j] = fmaf(u[i], v[j], sums[i][j]);
      }
    }
    current ^= 1;
    if (more) store(tiles + current * 2 * Layout::kFloats);
    __syncthreads();
  }

  // a warp has two y: its rows come in pairs that are 4 apart
  constexpr int kStride = kTile + 8;
  float* scratch = tiles + warp_id() * 2 * kStride;
#pragma unroll
  for (int i = 0; i < kPart; ++i) {
    __syncwarp();
#pragma unroll
    for (int g = 0; g < kGroups; ++g) {
      store_vector<4>(scratch + y % 2 * kStride + g * 64 + x * 4,
                      Vector<float, 4>{{sums[i][g * 4], sums[i][g * 4 + 1], sums[i][g * 4 + 2],
                                        sums[i][g * 4 + 3]}});
    }
    __syncwarp();
    finish_rectangle<2, kTile>(out, scratch, kStride, place.base,
                               place.row + i / 4 * 64 + y / 2 * 8 + i % 4, 4, place.column, p.m,
                               p.n);
  }
}

template <int kTile>
void run(const Product& p, const Output& out, Queue& queue) {
  const int64_t tiles = ceil_div(p.m, kTile) * ceil_div(p.n, kTile) * p.batch;
  launch(queue,
         {dim3(tiles, p.splits), kThreads, size_t{4} * FloatTile<kTile>::kFloats * sizeof(float)},
         gemm_float_kernel<kTile>, p, out);
}

}  // namespace

void gemm_float(const Product& p, const Output& out, Queue& queue) {
  const int64_t tiles = ceil_div(p.m, 128) * ceil_div(p.n, 128) * p.batch * p.splits;
  tiles < 132 ? run<64>(p, out, queue) : run<128>(p, out, queue);
}

}  // namespace vilg::cuda
