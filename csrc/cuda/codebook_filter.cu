// Lower bounds of the scores of codebook_lookup (kernels/codebook.h) from products of bfloat16 on
// tensor cores: codes whose bound is above some exact score need none of their own.
//
// What is bounded: S = fl(norm - 2 chain), the score of a code e for a vector z (both float32, n
// elements). The filter has z' and e', rounded to bfloat16, and t, what the tensor cores make of
// the sum of z'[k] e'[k]. With u = 2^-24, |.| the Euclidean length, and
//   D >= |z - z'|,  d >= |e - e'|,  Z >= |z|, |z'|, D,  E >= |e|, |e'|, d:
//
// 1. z.e - z'.e' = (z - z').e + z'.(e - e'), at most D E + Z d (Cauchy-Schwarz). D and d are
//    measured, not estimated: the worst case is 2^-8 of Z and E (half a unit of 8 bits), 0.4 of
//    that is usual. Subnormal bfloat16 are made zero, so that nothing depends on what tensor cores
//    take them for.
// 2. The chain rounds n times: |chain - z.e| <= 1.01 n u Z E + n 2^-149.
// 3. Tensor cores: products of 8 bits are exact. One instruction adds 16 of them to the sum; what
//    is published of their arithmetic (no specification is) has it shift the 17 terms to the
//    largest exponent and cut each, and the sum, below 2^-23 of the largest, which is at most Z E:
//    18 times 2^-23 of that for each of at most (n + 31) / 16 instructions. Products and sums below
//    2^-126 may become zero: |t - z'.e'| <= 0.58 (n + 31) 2^-22 Z E + 2.02 n 2^-126.
// 4. So |chain - t| <= D E + Z d + (n + 32) 2^-22 Z E + n 2^-123, for n <= 2^14 (n u <= 2^-10):
//    steps 2 and 3 use 0.26 n + 0.58 (n + 31) of the n + 32, and the cuts could be 1.2 times as
//    deep.
// 5. S uses the same norm, and L = ((norm - rest) - 2 t) - D p - Z q with
//      p = 2 E,  q = 2 d + ((n + 32) 2^-21 + 2^-17) E,  rest = 2^-19 E^2 + n 2^-120
//    is at most S when the roundings of S, L, q and rest are covered by
//      2^-17 Z E + 2^-19 E^2 + (n 2^-120 - n 2^-122).
//    There are at most 12, each at most 2^-150 or u of 2 E^2 + 8 Z E + n 2^-119, of which norm (up
//    to 1.01 E^2), 2 t (2.1 Z E), D p (2 Z E), Z q (2.1 Z E), rest and their sums stay below:
//    24 u E^2 < 2^-19 E^2, 96 u Z E < 2^-17 Z E and n 2^-139 < n 2^-121.
// 6. Nothing overflows while Z and E are below 2^60; beyond (or NaN) they become infinity, and L
//    -infinity or NaN, which is made -infinity.
//
// Lengths: a sum of n squares, each step rounded by u and 2^-150, so |x|^2 <= (1 + n 2^-22) (sum +
// n 2^-149), and a factor of 1 + 2^-20 for the roundings after it. n 2^-126 takes the place of
// n 2^-149, so that nothing depends on subnormal numbers: elements below 1e-17 or so are left to
// the exact scores.
#include "core/memory.h"
#include "cuda/best_code.h"
#include "cuda/codebook_search.h"
#include "cuda/launch.h"
#include "cuda/operand_tile.h"

namespace vilg::cuda {
namespace {

constexpr float kLargest = 0x1p60f, kSmallestNormal = 0x1p-126f;
constexpr int kThreads = 128;
// A block has all of its vectors in shared memory, 64 KB for 256 elements, while codes pass by in
// stages of 32 elements: two blocks on a multiprocessor of Hopper, one where there are 99 KB.
constexpr int kCodes = 128, kSlice = 32, kStages = 4;
constexpr int kSliceBytes = kSlice * 2, kTileBytes = kCodes * kSliceBytes;
static_assert(kCodes == kCodebookRows);
constexpr int kMaxDim = 512;
// A bound is that of the 8 codes that a thread has in four neighbouring tensor core tiles: of a
// block of 32 codes, the columns 2 q, 2 q + 1, 2 q + 8, ..., for one of q = 0 .. 3.
constexpr int kGroup = 8, kGroupsPerTile = kCodes / kGroup;
constexpr int64_t kLowestBytes = int64_t{64} << 20;
constexpr int kBlocks = 264;  // enough for two on each multiprocessor of an H200

struct alignas(8) VectorBound {
  float length, difference;  // Z, D
};
struct alignas(16) CodeBound {
  float norm, p, q, unused;  // norm - rest
};

__device__ __forceinline__ float length(float sum, int dim) {
  const auto n = static_cast<float>(dim);
  return __fsqrt_rn(sum * (1 + n * 0x1p-22f) + n * kSmallestNormal) * (1 + 0x1p-20f);
}

// Where a row of kSliceBytes has a chunk: two rows lie in 128 bytes, and four pairs of rows with
// different keys meet no conflict.
__device__ __forceinline__ int slice_offset(int row, int chunk) {
  return row * kSliceBytes + (chunk ^ (row / 2 & 3)) * kChunkBytes;
}

// --- rounding
// --------------------------------------------------------------------------------------

struct VectorRow {
  using Bound = VectorBound;
  __device__ static Bound bound(float whole, float difference, float, int) {
    return {whole, whole < kLargest ? difference : whole};
  }
};
struct CodeRow {
  using Bound = CodeBound;
  __device__ static Bound bound(float whole, float difference, float norm, int dim) {
    const auto n = static_cast<float>(dim);
    const float rest = whole * whole * 0x1p-19f + n * 0x1p-120f;
    return {norm - rest, whole * 2.0f, difference * 2.0f + whole * ((n + 32) * 0x1p-21f + 0x1p-17f),
            0};
  }
};

// A warp rounds a row, and measures what that takes away.
template <typename Row>
__global__ void __launch_bounds__(kThreads)
    round_kernel(bf16* rounded, typename Row::Bound* bounds, const float* rows, const float* norms,
                 int64_t count, int dim, int pitch, int rounded_pitch) {
  wait_for_previous_kernel();
  let_next_kernel_begin();
  const int64_t row = int64_t{blockIdx.x} * (kThreads / kLanes) + warp_id();
  if (row >= count) return;
  float sum = 0, lost = 0;
  for (int k = 2 * lane_id(); k < rounded_pitch; k += 2 * kLanes) {
    float x[2] = {}, kept[2];
    if (k < pitch) {
      const auto pair = load_vector<2>(rows + row * pitch + k);
      x[0] = pair[0], x[1] = pair[1];
    }
    const uint32_t bits = pack_bf16(x[0], x[1]);
    kept[0] = low_bf16(bits), kept[1] = high_bf16(bits);
#pragma unroll
    for (int e = 0; e < 2; ++e) {
      if (fabsf(kept[e]) < kSmallestNormal) kept[e] = 0;
      const float difference = x[e] - kept[e];
      sum = fmaf(x[e], x[e], sum);
      lost = fmaf(difference, difference, lost);
    }
    *reinterpret_cast<uint32_t*>(rounded + row * rounded_pitch + k) = pack_bf16(kept[0], kept[1]);
  }
  sum = warp_sum(sum);
  const float difference = length(warp_sum(lost), dim);
  float whole = length(sum, dim) + difference;
  if (!(whole < kLargest)) whole = INFINITY;
  if (lane_id() == 0) {
    bounds[row] = Row::bound(whole, difference, norms ? norms[row] : 0.0f, dim);
  }
}

// --- bounds
// ----------------------------------------------------------------------------------------

struct FilterProblem {
  const bf16 *vectors, *codes;  // rounded, `pitch` elements a row, a multiple of kSlice
  const VectorBound* vector_bounds;
  const CodeBound* code_bounds;
  float* lowest;  // (rows, groups)
  int64_t rows;
  int size, pitch, groups, parts;
};

__global__ void __launch_bounds__(kThreads, 2) filter_kernel(const FilterProblem f) {
  VILG_SHARED_MEMORY(smem);
  const int slices = f.pitch / kSlice;
  unsigned char* const stages = smem + slices * kTileBytes;  // behind the vectors, a tile a slice
  auto* const bounds = reinterpret_cast<VectorBound*>(stages + kStages * kTileBytes);
  wait_for_previous_kernel();
  const int part = static_cast<int>(blockIdx.x) % f.parts;
  const int64_t first_row = int64_t{blockIdx.x} / f.parts * kCodebookRows;
  const int tiles = (f.size + kCodes - 1) / kCodes;
  const auto begin = static_cast<int>(int64_t{tiles} * part / f.parts);
  const auto end = static_cast<int>(int64_t{tiles} * (part + 1) / f.parts);
  const auto thread = static_cast<int>(threadIdx.x);

  // a slice of kCodes rows from `first` on, of which `count` exist at all
  const auto load = [&](unsigned char* to, const bf16* rows, int64_t first, int64_t count,
                        int slice) {
    constexpr int kChunks = kSliceBytes / kChunkBytes, kRowsPerRound = kThreads / kChunks;
    const int chunk = thread % kChunks;
#pragma unroll
    for (int i = 0; i < kCodes; i += kRowsPerRound) {
      const int row = thread / kChunks + i;
      const bool exists = first + row < count;
      copy_async_16(to + slice_offset(row, chunk),
                    exists ? rows + (first + row) * f.pitch + slice * kSlice + chunk * 8 : rows,
                    exists ? 16 : 0);
    }
  };
  int load_tile = begin, load_slice = 0, load_stage = 0;
  const auto load_codes = [&] {
    if (load_tile < end) {
      load(stages + load_stage * kTileBytes, f.codes, int64_t{load_tile} * kCodes, f.size,
           load_slice);
      load_stage = load_stage + 1 == kStages ? 0 : load_stage + 1;
      if (++load_slice == slices) load_slice = 0, ++load_tile;
    }
    copy_async_commit();
  };
  for (int slice = 0; slice < slices; ++slice) {
    load(smem + slice * kTileBytes, f.vectors, first_row, f.rows, slice);
  }
#pragma unroll
  for (int stage = 0; stage < kStages - 1; ++stage) load_codes();
  bounds[thread] =
      first_row + thread < f.rows ? f.vector_bounds[first_row + thread] : VectorBound{0.0f, 0.0f};

  // four warps of 64 vectors by 64 codes
  constexpr int kM = 4, kN = 8;
  const int warp_row = warp_id() / 2 * 64, warp_code = warp_id() % 2 * 64;
  int stage = 0;
  for (int tile = begin; tile < end; ++tile) {
    float sums[kM][kN][4] = {};
    for (int slice = 0; slice < slices; ++slice) {
      copy_async_wait<kStages - 2>();
      __syncthreads();
      load_codes();
#pragma unroll
      for (int chunk = 0; chunk < kSliceBytes / kChunkBytes; chunk += 2) {
        multiply_chunks(
            sums, smem + slice * kTileBytes + slice_offset(warp_row + a_row(), chunk + a_chunk()),
            16 * kSliceBytes,
            stages + stage * kTileBytes + slice_offset(warp_code + b_row(), chunk + b_chunk()),
            16 * kSliceBytes);
      }
      stage = stage + 1 == kStages ? 0 : stage + 1;
    }
    const int column = warp_code + 2 * (lane_id() % 4);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      CodeBound code_bounds[kGroup];
#pragma unroll
      for (int c = 0; c < kGroup; ++c) {
        const int code = tile * kCodes + column + half * 32 + c / 2 * 8 + c % 2;
        code_bounds[c] =
            code < f.size ? f.code_bounds[code] : CodeBound{INFINITY, 0.0f, 0.0f, 0.0f};
      }
#pragma unroll
      for (int i = 0; i < 2 * kM; ++i) {
        const int row = warp_row + i * 8 + lane_id() / 4;
        const VectorBound vector = bounds[row];
        float lowest = INFINITY;
#pragma unroll
        for (int c = 0; c < kGroup; ++c) {
          float bound =
              fmaf(-2.0f, sums[i / 2][half * 4 + c / 2][i % 2 * 2 + c % 2], code_bounds[c].norm);
          bound = fmaf(-vector.difference, code_bounds[c].p, bound);
          bound = fmaf(-vector.length, code_bounds[c].q, bound);
          lowest = fminf(lowest, fmaxf(bound, -INFINITY));  // NaN to -infinity
        }
        if (first_row + row < f.rows) {
          const int group = tile * kGroupsPerTile + warp_code / kGroup + half * 4 + lane_id() % 4;
          f.lowest[(first_row + row) * f.groups + group] = lowest;
        }
      }
    }
  }
  copy_async_wait<0>();
}

// --- exact scores of what is left
// ------------------------------------------------------------------

// Code c < kGroup of a group, as filter_kernel numbers them.
__device__ __forceinline__ int code_of(int group, int c) {
  return group / 4 * 32 + c / 2 * 8 + 2 * (group % 4) + c % 2;
}

// A warp owns a vector, and scores four groups at a time, a code a lane.
__global__ void __launch_bounds__(kThreads)
    rescore_kernel(const CodebookSearch s, int32_t* flags, const float* all_lowest,
                   int64_t first_row, int64_t rows, int groups) {
  wait_for_previous_kernel();
  const int64_t number = int64_t{blockIdx.x} * (kThreads / kLanes) + warp_id();
  if (number >= rows) return;
  const int64_t row = first_row + number;
  const float* const vector = s.vectors + row * s.pitch;
  const float* const lowest = all_lowest + number * groups;
  BestCode best;
  const auto score = [&](int group) {
    const int code = group >= 0 ? code_of(group, lane_id() % kGroup) : s.size;
    if (code < s.size) {
      const float* const from = s.codes + int64_t{code} * s.pitch;
      float dot = 0;
      // a line of the cache a lane, asked for at once
      for (int first = 0; first < s.pitch; first += 32) {
        Vector<float, 4> e[8];
#pragma unroll
        for (int i = 0; i < 8; ++i) {
          e[i] = {};
          if (first + 4 * i < s.pitch) e[i] = load_vector<4>(from + first + 4 * i);
        }
#pragma unroll
        for (int i = 0; i < 8; ++i) {
          if (first + 4 * i >= s.pitch) break;
          const auto z = load_vector<4>(vector + first + 4 * i);
#pragma unroll
          for (int k = 0; k < 4; ++k) dot = fmaf(z[k], e[i][k], dot);
        }
      }
      best.add(fmaf(-2.0f, dot, s.code_norms[code]), code);
    }
    best.reduce<kLanes>();
  };

  // the most promising group gives the limit
  BestCode promising{lowest[0], 0};
#pragma unroll 4
  for (int group = lane_id(); group < groups; group += kLanes) {
    promising.add(lowest[group], group);
  }
  promising.reduce<kLanes>();
  score(lane_id() < kGroup ? promising.index : -1);

  const auto needed = [&](int group) {
    return group < groups && group != promising.index && lowest[group] <= best.score;
  };
  int count = 0;
  for (int first = 0; first < groups; first += kLanes) {
    count += __popc(ballot(needed(first + lane_id())));
  }
  // Groups cost 8 KB of the second-level cache each, where the exact search shares them between
  // vectors.
  if (count > max(4, groups / 32)) {
    if (lane_id() == 0) atomic_max(&flags[row / kCodebookRows], 1);
    return;
  }
  for (int first = 0; count > 0 && first < groups; first += kLanes) {
    uint32_t left = ballot(needed(first + lane_id()));
    while (left != 0) {
      int group = -1;
#pragma unroll
      for (int i = 0; i < kLanes / kGroup; ++i) {
        if (lane_id() / kGroup == i && left != 0) group = first + __ffs(left) - 1;
        left &= left - 1;  // 0 stays
      }
      score(group);
    }
  }
  let_next_kernel_begin();
  if (lane_id() > 0) return;
  s.scores[row] = best.score;
  s.indices[row] = best.index;
}

size_t filter_shared_bytes(int pitch) {
  return static_cast<size_t>((pitch / kSlice + kStages) * kTileBytes) +
         kCodebookRows * sizeof(VectorBound);
}

int rounded_pitch(int dim) { return static_cast<int>(round_up(dim, kSlice)); }

template <typename Row>
void round_rows(bf16* rounded, typename Row::Bound* bounds, const float* rows, const float* norms,
                int64_t count, const CodebookSearch& s, Queue& queue) {
  launch(queue, {dim3(ceil_div(count, kThreads / kLanes)), kThreads, 0, /*overlaps=*/true},
         round_kernel<Row>, rounded, bounds, rows, norms, count, s.dim, s.pitch,
         rounded_pitch(s.dim));
}

}  // namespace

bool CodebookFilter::pays(const CodebookSearch& s, const Queue& queue) {
  return s.rows >= kCodebookRows && s.size >= 1024 && s.dim >= 64 && s.dim <= kMaxDim &&
         filter_shared_bytes(rounded_pitch(s.dim)) <= queue.properties().shared_bytes_per_block;
}

void CodebookFilter::run(const CodebookSearch& s, int32_t* flags, Queue& queue) {
  const int pitch = rounded_pitch(s.dim);
  const int64_t tiles = ceil_div(s.size, kCodes), groups = tiles * kGroupsPerTile;
  // a part of the vectors at a time, so that bounds stay near the second-level cache
  const int64_t most_rows =
      max(kLowestBytes / (groups * int64_t{sizeof(float)}) / kCodebookRows, int64_t{1}) *
      kCodebookRows;
  const int64_t block_rows = min(most_rows, s.rows);
  Workspace rounded(queue.allocator(),
                    static_cast<size_t>((s.rows + s.size) * pitch) * sizeof(bf16));
  Workspace vector_bounds(queue.allocator(), static_cast<size_t>(s.rows) * sizeof(VectorBound));
  Workspace code_bounds(queue.allocator(), static_cast<size_t>(s.size) * sizeof(CodeBound));
  Workspace lowest(queue.allocator(), static_cast<size_t>(block_rows * groups) * sizeof(float));
  auto* const vectors = rounded.as<bf16>();
  bf16* const codes = vectors + s.rows * pitch;
  round_rows<VectorRow>(vectors, vector_bounds.as<VectorBound>(), s.vectors, nullptr, s.rows, s,
                        queue);
  round_rows<CodeRow>(codes, code_bounds.as<CodeBound>(), s.codes, s.code_norms, s.size, s, queue);
  for (int64_t first = 0; first < s.rows; first += block_rows) {
    const int64_t rows = min(block_rows, s.rows - first);
    const int64_t blocks = ceil_div(rows, kCodebookRows);
    const FilterProblem f{.vectors = vectors + first * pitch,
                          .codes = codes,
                          .vector_bounds = vector_bounds.as<VectorBound>() + first,
                          .code_bounds = code_bounds.as<CodeBound>(),
                          .lowest = lowest.as<float>(),
                          .rows = rows,
                          .size = s.size,
                          .pitch = pitch,
                          .groups = static_cast<int>(groups),
                          .parts = static_cast<int>(min(ceil_div(kBlocks, blocks), tiles))};
    launch(queue, {dim3(blocks * f.parts), kThreads, filter_shared_bytes(pitch), /*overlaps=*/true},
           filter_kernel, f);
    launch(queue, {dim3(ceil_div(rows, kThreads / kLanes)), kThreads, 0, /*overlaps=*/true},
           rescore_kernel, s, flags, lowest.as<float>(), first, rows, f.groups);
  }
}

}  // namespace vilg::cuda
