// The nearest code by the chains of fused multiply-adds that define it (kernels/codebook.h): a
// matrix product whose tiles end in a comparison instead of memory. A thread holds the chains of 8
// x 8 pairs, each in the order of the definition, so the bits are those of every other backend.
// Where it pays, codebook_filter.cu leaves little of it to do.
#include "kernels/codebook.h"

#include "core/memory.h"
#include "cuda/best_code.h"
#include "cuda/codebook_search.h"
#include "cuda/cuda_ops.h"
#include "cuda/launch.h"
#include "cuda/operand_rows.h"
#include "cuda/operand_tile.h"

namespace vilg::cuda {
namespace {

constexpr int kThreads = 256, kStages = 3;
constexpr int kCodes = 128, kSlice = kRowElements<float>;
constexpr int kTileBytes = kCodebookRows * kRowBytes;  // of vectors, and of codes
constexpr int kRowsPerRound = kThreads / kRowChunks;
constexpr int kBlocks = 1056;     // about so many: four waves of an H200
constexpr int kFlaggedParts = 8;  // where few blocks of vectors are left, for more parallel work

// --- squared norms
// ---------------------------------------------------------------------------------

// norms[row] by the chain: a thread owns a row, and the rows of a block come through shared memory
// so that memory is read in whole lines.
__global__ void __launch_bounds__(kCodebookRows)
    squared_norms_kernel(float* norms, const float* rows, int64_t count, int pitch) {
  VILG_SHARED_MEMORY(smem);
  wait_for_previous_kernel();
  let_next_kernel_begin();
  constexpr int kRounds = kRowChunks;  // a chunk of kCodebookRows / kRowChunks rows in each
  const int64_t first = int64_t{blockIdx.x} * kCodebookRows;
  const auto thread = static_cast<int>(threadIdx.x);
  const int chunk = thread % kRowChunks, row = thread / kRowChunks;
  const auto load = [&](int slice, int stage) {
    const int column = slice * kSlice + chunk * 4;
#pragma unroll
    for (int i = 0; i < kRounds; ++i) {
      const int at = row + i * (kCodebookRows / kRowChunks);
      const bool exists = first + at < count && column < pitch;
      copy_async_16(smem + stage * kTileBytes + at * kRowBytes + chunk_offset(chunk, at),
                    exists ? rows + (first + at) * pitch + column : rows, exists ? 16 : 0);
    }
    copy_async_commit();
  };
  const int slices = (pitch + kSlice - 1) / kSlice;
  load(0, 0);
  float sum = 0;
  for (int slice = 0; slice < slices; ++slice) {
    if (slice + 1 < slices) {
      load(slice + 1, (slice + 1) % 2);
      copy_async_wait<1>();
    } else {
      copy_async_wait<0>();
    }
    __syncthreads();
    const unsigned char* mine = smem + slice % 2 * kTileBytes + thread * kRowBytes;
#pragma unroll
    for (int c = 0; c < kRowChunks; ++c) {
      const auto x = load_vector<4>(reinterpret_cast<const float*>(mine + chunk_offset(c, thread)));
#pragma unroll
      for (int k = 0; k < 4; ++k) sum = fmaf(x[k], x[k], sum);
    }
    __syncthreads();
  }
  if (first + thread < count) norms[first + thread] = sum;
}

// --- exact search
// ----------------------------------------------------------------------------------

// Part `blockIdx.x % parts` of the codes for a block of vectors; with flags, only where one is up.
// A multiprocessor holds one block: two would be short of registers, and the 64 chains of a thread
// keep it busy, with 4096 clocks from one barrier to the next.
__global__ void __launch_bounds__(kThreads, 1)
    exact_search_kernel(const CodebookSearch s, int parts, const int32_t* flags) {
  VILG_SHARED_MEMORY(smem);  // stages of vectors and codes, the best of each vector
  auto* const best = reinterpret_cast<BestCode*>(smem + kStages * 2 * kTileBytes);
  wait_for_previous_kernel();
  const int part = static_cast<int>(blockIdx.x) % parts;
  const int64_t block = blockIdx.x / static_cast<unsigned>(parts);
  if (flags && flags[block] == 0) return;
  const int64_t first_row = block * kCodebookRows;
  const int tiles = (s.size + kCodes - 1) / kCodes;
  const auto begin = static_cast<int>(int64_t{tiles} * part / parts);
  const auto end = static_cast<int>(int64_t{tiles} * (part + 1) / parts);
  const int slices = (s.pitch + kSlice - 1) / kSlice;
  const auto thread = static_cast<int>(threadIdx.x);

  const int load_row = thread / kRowChunks, load_chunk = thread % kRowChunks;
  int load_tile = begin, load_slice = 0;
  const auto load = [&](int to_stage) {
    if (load_tile < end) {
      unsigned char* const to = smem + to_stage * 2 * kTileBytes + load_row * kRowBytes +
                                chunk_offset(load_chunk, load_row);
      const int column = load_slice * kSlice + load_chunk * 4;
      const int first_code = load_tile * kCodes;
#pragma unroll
      for (int row = 0; row < kCodebookRows; row += kRowsPerRound) {
        const int64_t vector = first_row + load_row + row;
        const bool exists = vector < s.rows && column < s.pitch;
        copy_async_16(to + row * kRowBytes,
                      exists ? s.vectors + vector * s.pitch + column : s.vectors, exists ? 16 : 0);
      }
#pragma unroll
      for (int row = 0; row < kCodes; row += kRowsPerRound) {
        const int64_t code = first_code + load_row + row;
        const bool exists = code < s.size && column < s.pitch;
        copy_async_16(to + kTileBytes + row * kRowBytes,
                      exists ? s.codes + code * s.pitch + column : s.codes, exists ? 16 : 0);
      }
      if (++load_slice == slices) load_slice = 0, ++load_tile;
    }
    copy_async_commit();
  };
#pragma unroll
  for (int stage = 0; stage < kStages - 1; ++stage) load(stage);

  // vectors and codes of a thread, 16 apart
  const int row = thread / 16, code = thread % 16;
  const unsigned char* const a = smem + row * kRowBytes;
  const unsigned char* const b = smem + kTileBytes + code * kRowBytes;
  if (thread < kCodebookRows) best[thread] = {};
  int stage = 0;
  for (int tile = begin; tile < end; ++tile) {
    float dots[8][8] = {};
    for (int slice = 0; slice < slices; ++slice) {
      copy_async_wait<kStages - 2>();
      __syncthreads();
      load(stage == 0 ? kStages - 1 : stage - 1);
      const int offset = stage * 2 * kTileBytes;
#pragma unroll 2
      for (int chunk = 0; chunk < kRowChunks; ++chunk) {
        multiply_chunk(dots, a + offset + chunk_offset(chunk, row), 16 * kRowBytes,
                       b + offset + chunk_offset(chunk, code), 16 * kRowBytes);
      }
      stage = stage + 1 == kStages ? 0 : stage + 1;
    }
    // Half a warp has all codes of its vectors. What it found so far is in shared memory.
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      BestCode found;
#pragma unroll
      for (int j = 0; j < 8; ++j) {
        const int index = tile * kCodes + code + 16 * j;
        if (index < s.size) found.add(fmaf(-2.0f, dots[i][j], s.code_norms[index]), index);
      }
      found.reduce<16>();
      if (code == 0) best[row + 16 * i].add(found.score, found.index);
    }
  }
  copy_async_wait<0>();
  let_next_kernel_begin();
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    const int64_t vector = first_row + row + 16 * i;
    if (code > 0 || vector >= s.rows) continue;
    s.scores[part * s.rows + vector] = best[row + 16 * i].score;
    s.indices[part * s.rows + vector] = best[row + 16 * i].index;
  }
}

// The best of all parts; without a raised flag, where there are flags, of the filter's alone.
__global__ void __launch_bounds__(kThreads)
    choose_kernel(int32_t* indices, float* distances, const CodebookSearch s,
                  const float* vector_norms, int parts, const int32_t* flags) {
  wait_for_previous_kernel();
  let_next_kernel_begin();
  const int64_t row = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (row >= s.rows) return;
  if (flags && flags[row / kCodebookRows] == 0) parts = 1;
  BestCode best{s.scores[row], s.indices[row]};
  for (int part = 1; part < parts; ++part) {
    best.add(s.scores[part * s.rows + row], s.indices[part * s.rows + row]);
  }
  indices[row] = best.index;
  if (!distances) return;
  const float distance = vector_norms[row] + best.score;
  distances[row] = distance < 0 ? 0 : distance;  // NaN stays
}

void squared_norms(float* norms, const float* rows, int64_t count, int pitch, Queue& queue) {
  launch(queue,
         {dim3(ceil_div(count, kCodebookRows)), kCodebookRows, 2 * kTileBytes, /*overlaps=*/true},
         squared_norms_kernel, norms, rows, count, pitch);
}

// --- argmax
// ----------------------------------------------------------------------------------------

// A block owns a row. Larger wins, then the lower index; NaN is larger than nothing.
__global__ void __launch_bounds__(kThreads)
    argmax_kernel(int32_t* indices, const float* values, int64_t n) {
  VILG_SHARED_MEMORY(smem);
  auto* scores = reinterpret_cast<float*>(smem);
  auto* positions = reinterpret_cast<int32_t*>(scores + kThreads / kLanes);
  wait_for_previous_kernel();
  let_next_kernel_begin();
  values += blockIdx.x * n;
  BestCode best;  // of -values
#pragma unroll 4
  for (int64_t i = threadIdx.x; i < n; i += kThreads) {
    best.add(-values[i], static_cast<int32_t>(i));
  }
  best.reduce<kLanes>();
  if (lane_id() == 0) scores[warp_id()] = best.score, positions[warp_id()] = best.index;
  __syncthreads();
  if (threadIdx.x > 0) return;
  for (int warp = 1; warp < kThreads / kLanes; ++warp) best.add(scores[warp], positions[warp]);
  indices[blockIdx.x] = best.index;
}

}  // namespace

void codebook_lookup(const CodebookLookupParams& p, Queue& queue) {
  const OperandRows vectors(p.vectors, DType::kFloat32, DType::kFloat32, p.rows, p.dim, queue);
  const OperandRows codes(p.codebook, DType::kFloat32, DType::kFloat32, p.size, p.dim, queue);
  CodebookSearch s{.vectors = vectors.as<float>(),
                   .codes = codes.as<float>(),
                   .code_norms = nullptr,
                   .rows = p.rows,
                   .size = static_cast<int>(p.size),
                   .dim = static_cast<int>(p.dim),
                   .pitch = static_cast<int>(codes.pitch()),
                   .scores = nullptr,
                   .indices = nullptr};
  const bool filters = CodebookFilter::pays(s, queue);
  const int64_t blocks = ceil_div(p.rows, kCodebookRows), tiles = ceil_div(p.size, kCodes);
  int64_t parts = ceil_div(kBlocks, blocks);
  if (filters) parts = max(parts, int64_t{kFlaggedParts});
  parts = min(parts, tiles);

  // code norms, vector norms, scores, indices, flags: 4 bytes each
  const int64_t words = p.size + p.rows + 2 * parts * p.rows + blocks;
  Workspace memory(queue.allocator(), static_cast<size_t>(words) * 4);
  auto* code_norms = memory.as<float>();
  float* const vector_norms = code_norms + p.size;
  s.code_norms = code_norms;
  s.scores = vector_norms + p.rows;
  s.indices = reinterpret_cast<int32_t*>(s.scores + parts * p.rows);
  int32_t* const flags = filters ? s.indices + parts * p.rows : nullptr;

  squared_norms(code_norms, s.codes, p.size, s.pitch, queue);
  if (p.distances) squared_norms(vector_norms, s.vectors, p.rows, s.pitch, queue);
  if (filters) {
    queue.fill(flags, 0, static_cast<size_t>(blocks) * sizeof(int32_t));
    CodebookFilter::run(s, flags, queue);
  }
  launch(queue,
         {dim3(blocks * parts), kThreads,
          kStages * 2 * kTileBytes + kCodebookRows * sizeof(BestCode), /*overlaps=*/true},
         exact_search_kernel, s, static_cast<int>(parts), flags);
  launch(queue, {dim3(ceil_div(p.rows, kThreads)), kThreads, 0, /*overlaps=*/true}, choose_kernel,
         p.indices, p.distances, s, vector_norms, static_cast<int>(parts), flags);
}

void argmax(const ArgmaxParams& p, Queue& queue) {
  launch(queue,
         {dim3(p.rows), kThreads, kThreads / kLanes * (sizeof(float) + sizeof(int32_t)),
          /*overlaps=*/true},
         argmax_kernel, p.indices, p.values, p.n);
}

}  // namespace vilg::cuda
