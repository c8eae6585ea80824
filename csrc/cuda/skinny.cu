// Up to 64 rows of x times weights [N, K]: bound by reading the weights once.
//
// A warp has 32 rows of weights and streams them through a ring in shared memory that is its own:
// 128 bytes of each row to a stage, two or three stages (32 KB each for the block) under way, where
// about 27 KB on every multiprocessor keep 4.3 TB/s busy. Rows of x pass through shared memory once
// for all eight warps of a block, converted by it, a stage ahead.
//
// K is cut into slices, whose sums are added in order; how many depends on N and K alone, so that
// the bits of a row do not depend on how many rows there are. Who has a slice does: up to eight
// rows of x, a block has all slices of its rows of weights (one to a warp) and writes c itself;
// more rows of x would have to be read by every block in full, so there a block has 256 rows of
// weights and one slice, and finish() adds the slices from memory. Either way a block reads the
// same number of weights. For 60 rows and the four matrices of a layer of 4096 (402 MB of weights),
// x costs 189 MB and the slices 35 MB of traffic between the second-level cache and the
// multiprocessors.
#include <algorithm>

#include "cuda/gemm.h"
#include "cuda/launch.h"
#include "cuda/skinny_multiply.h"

namespace vilg::cuda {
namespace {

constexpr int kWarps = 8, kThreads = kWarps * kLanes;
constexpr int kBlockRows = kWarps * kSlotRows;  // of weights, counted once for each slice
constexpr int kFewRows = 8;                     // of x: a block has all slices

struct SkinnyTask {
  Operand w, x;  // both with Operand::vector; rows of x are zero up to a multiple of eight
  int m, n, k;
  int row_blocks;  // of weights
  int slices, slices_in_block;
  bool keeps_sums;  // of each slice, in place of c
  int stages;       // of the ring: 2 or 3
};

__device__ __forceinline__ void wait_for_stage(int stages) {
  if (stages == 3) {
    copy_async_wait<2>();
  } else {
    copy_async_wait<1>();
  }
  __syncwarp();
}

// In K, of a slice.
template <class Multiply>
__device__ __forceinline__ int first_stage(const SkinnyTask& t, int slice) {
  const int stages = (t.k + Multiply::kDepth - 1) / Multiply::kDepth;
  return static_cast<int>(int64_t{stages} * slice / t.slices);
}

// A warp's rows of weights, stage after stage.
template <typename W>
class WeightStream {
 public:
  static constexpr int kDepth = kSlotRowBytes / static_cast<int>(sizeof(W));
  static constexpr int kChunk = 16 / static_cast<int>(sizeof(W));

  __device__ WeightStream(const SkinnyTask& t, int batch, int first_row, int first_stage)
      : data_(static_cast<const W*>(t.w.data) +
              t.w.at(batch, first_row + lane_id() / 8,
                     first_stage * kDepth + lane_id() % 8 * kChunk)),
        rows_(t.n - first_row - lane_id() / 8),
        left_(t.k - first_stage * kDepth - lane_id() % 8 * kChunk) {}

  // The next stage into `slot`. Eight lanes have 128 bytes of a row.
  __device__ __forceinline__ void fetch(const SkinnyTask& t, unsigned char* slot) {
    const int elements = max(0, min(left_, kChunk));
    const int64_t row_step = 4 * t.w.ld;
    // rows that are 8 apart are permuted alike
    unsigned char* const even = slot + slot_offset(lane_id() / 8, lane_id() % 8);
    unsigned char* const odd = slot + slot_offset(lane_id() / 8 + 4, lane_id() % 8);
    const W* from = data_;
    const int bytes = elements * static_cast<int>(sizeof(W));
#pragma unroll
    for (int i = 0; i < kSlotRows / 4; ++i) {
      copy_async_16((i % 2 ? odd : even) + i / 2 * 8 * kSlotRowBytes, from,
                    i * 4 < rows_ ? bytes : 0);
      if ((i + 1) * 4 < rows_) from += row_step;
    }
    data_ += kDepth;
    left_ -= kDepth;
  }

 private:
  const W* data_;    // of this lane's first chunk
  int rows_, left_;  // rows and elements of K from there on
};

// The first stages of a warp into the second-level cache, which later writes by others still reach.
template <typename W>
__device__ __forceinline__ void prefetch_weights(const SkinnyTask& t, int batch, int first_row,
                                                 int first_stage, int count) {
  constexpr int kDepth = WeightStream<W>::kDepth;
  if (first_row + lane_id() >= t.n) return;
  const int k = first_stage * kDepth;
  const int elements = min(min(t.stages, count) * kDepth, t.k - k);
  const auto* from = static_cast<const W*>(t.w.data) + t.w.at(batch, first_row + lane_id(), k);
  prefetch_to_second_level(from, elements * static_cast<int>(sizeof(W)) / 16 * 16);
}

// Brings a stage of x (of each slice of the block) to shared memory, eight elements a thread: all
// of it at once, or in two parts, the second of which are other rows or, where a block has eight
// slices, other slices.
template <class Multiply>
class XStream {
  static constexpr int kChunks = Multiply::kDepth / 8;  // of a row of x in a stage
  static constexpr bool kSlices = Multiply::kColumns <= kFewRows;
  static constexpr int kLines = kSlices ? Multiply::kColumns * kWarps : Multiply::kColumns;
  static constexpr int kLinesAtOnce = kThreads / kChunks;
  static_assert(kLines % 8 == 0 && kLinesAtOnce % 8 == 0);

 public:
  static constexpr int kParts = kLines > kLinesAtOnce ? 2 : 1;
  static_assert(kLines <= kParts * kLinesAtOnce);

  __device__ XStream(const SkinnyTask& t, int batch, int first_slice) {
    const int chunk = static_cast<int>(threadIdx.x) % kChunks;
    const int line = static_cast<int>(threadIdx.x) / kChunks;
    const int row = line % Multiply::kColumns, slice = line / Multiply::kColumns;
    const auto active = [&](int r, int s) { return r < t.m && s < t.slices_in_block; };
    const auto first_k = [&](int s) {
      return first_stage<Multiply>(t, first_slice + s) * Multiply::kDepth + chunk * 8;
    };
    at_ = t.x.at(batch, row, first_k(slice));
    left_ = t.k - first_k(slice);
    to_ = Multiply::x_offset(line, chunk);
    active_[0] = active(row, slice);
    if constexpr (kParts == 2 && kSlices) {
      const int other = slice + kLinesAtOnce / Multiply::kColumns;
      step_k_ = first_k(other) - first_k(slice);
      active_[1] = active(row, other);
    } else if constexpr (kParts == 2) {
      active_[1] = active(row + kLinesAtOnce, slice);
    }
  }
  // Asks for a part of the next stage, and puts it to where it belongs. One part at a time is in
  // registers.
  template <int kPart>
  __device__ __forceinline__ void load(const SkinnyTask& t) {
    const bool inside = left_ > (kSlices ? kPart * step_k_ : 0);
    raw_ = zero_chunk();
    if (active_[kPart] && inside) {
      const int64_t at = at_ + kPart * (kSlices ? step_k_ : kLinesAtOnce * t.x.ld);
      raw_ = load_whole_chunk(t.x.data, t.x.half, at);
    }
    if (kPart == kParts - 1) {
      at_ += Multiply::kDepth;
      left_ -= Multiply::kDepth;
    }
  }
  template <int kPart>
  __device__ __forceinline__ void store(const SkinnyTask& t, unsigned char* x) const {
    if (active_[kPart]) {
      Multiply::store_x(x + to_ + kPart * kLinesAtOnce * Multiply::kXRowBytes, raw_, t.x.half);
    }
  }

 private:
  int64_t at_;
  int left_, to_, step_k_ = 0;
  bool active_[kParts];
  RawChunk raw_ = zero_chunk();
};

// One stage. Each part of it gives the time in which a part of the next stage of x arrives; what is
// asked for or put away beyond the last stage of a slice, nobody reads.
template <class Multiply, int kPart = 0>
__device__ __forceinline__ void run_stage(const SkinnyTask& t, Multiply& multiply,
                                          XStream<Multiply>& x_stream, const unsigned char* slot,
                                          const unsigned char* x, unsigned char* next_x,
                                          bool active) {
  constexpr int kParts = XStream<Multiply>::kParts;
  if (active) multiply.template multiply<kPart, kParts>(slot, x);
  x_stream.template store<kPart>(t, next_x);
  x_stream.template load<(kPart + 1) % kParts>(t);
  if constexpr (kPart + 1 < kParts) {
    run_stage<Multiply, kPart + 1>(t, multiply, x_stream, slot, x, next_x, active);
  }
}

// The first stage of x, and the first part of the next one under way.
template <class Multiply, int kPart = 0>
__device__ __forceinline__ void bring_first_x(const SkinnyTask& t, XStream<Multiply>& x_stream,
                                              unsigned char* x) {
  x_stream.template load<kPart>(t);
  x_stream.template store<kPart>(t, x);
  if constexpr (kPart + 1 < XStream<Multiply>::kParts) {
    bring_first_x<Multiply, kPart + 1>(t, x_stream, x);
  } else {
    x_stream.template load<0>(t);
  }
}

template <class Multiply>
__global__ void __launch_bounds__(kThreads, Multiply::kBlocksAtOnce)
    skinny_kernel(const SkinnyTask t, const Output out) {
  VILG_SHARED_MEMORY(shared);
  unsigned char* ring = shared + warp_id() * t.stages * kSlotBytes;
  unsigned char* x_buffers = shared + kWarps * t.stages * kSlotBytes;
  const int x_slice_bytes = Multiply::kColumns * Multiply::kXRowBytes;

  const int in_block = t.slices_in_block, rows_in_block = kBlockRows / in_block;
  const int row_block = static_cast<int>(blockIdx.x) % t.row_blocks;
  const int batch = static_cast<int>(blockIdx.x) / t.row_blocks;
  const int first_slice = static_cast<int>(blockIdx.y) * in_block;
  const int slice_in_block = warp_id() % in_block;
  const int row_in_block = warp_id() / in_block * kSlotRows;
  const int first_row = row_block * rows_in_block + row_in_block;
  const int begin = first_stage<Multiply>(t, first_slice + slice_in_block);
  const int end = first_stage<Multiply>(t, first_slice + slice_in_block + 1);
  const int count = first_row < t.n ? end - begin : 0;
  // those of the longest slice
  const int steps = ((t.k + Multiply::kDepth - 1) / Multiply::kDepth + t.slices - 1) / t.slices;

  using W = typename Multiply::W;
  WeightStream<W> weights(t, batch, first_row, begin);
  prefetch_weights<W>(t, batch, first_row, begin, count);
  wait_for_previous_kernel();
  let_next_kernel_begin();
  for (int stage = 0; stage < t.stages; ++stage) {
    if (stage < count) weights.fetch(t, ring + stage * kSlotBytes);
    copy_async_commit();
  }
  XStream<Multiply> x_stream(t, batch, first_slice);
  bring_first_x(t, x_stream, x_buffers);
  __syncthreads();
  Multiply multiply;
  int slot = 0;
  for (int step = 0; step < steps; ++step) {
    unsigned char* const weights_now = ring + slot * kSlotBytes;
    wait_for_stage(t.stages);
    run_stage(t, multiply, x_stream, weights_now,
              x_buffers + (step % 2 * in_block + slice_in_block) * x_slice_bytes,
              x_buffers + (step + 1) % 2 * in_block * x_slice_bytes, step < count);
    __syncwarp();
    if (step + t.stages < count) weights.fetch(t, weights_now);
    copy_async_commit();
    slot = slot + 1 == t.stages ? 0 : slot + 1;
    __syncthreads();
  }
  copy_async_wait<0>();

  if (t.keeps_sums) {
    auto* to = static_cast<float*>(out.c) + first_slice * out.split_stride +
               batch * out.batch_stride + first_row;
    multiply.for_each([&](int w_row, int x_row, float sum) {
      if (first_row + w_row < t.n && x_row < t.m) to[x_row * out.ldc + w_row] = sum;
    });
    return;
  }
  // slice after slice, rows of x, then columns of c; the rings are read to the end
  auto* sums = reinterpret_cast<float*>(shared);
  multiply.for_each([&](int w_row, int x_row, float sum) {
    sums[(slice_in_block * Multiply::kColumns + x_row) * rows_in_block + row_in_block + w_row] =
        sum;
  });
  __syncthreads();
  for (int i = static_cast<int>(threadIdx.x); i < t.m * rows_in_block; i += kThreads) {
    const int row = i / rows_in_block;
    const int column = row_block * rows_in_block + i % rows_in_block;
    if (column >= t.n) continue;
    float sum[1] = {sums[i]};
    for (int slice = 1; slice < in_block; ++slice) {
      sum[0] = __fadd_rn(sum[0], sums[slice * Multiply::kColumns * rows_in_block + i]);
    }
    finish_elements<1>(out, sum, batch * out.batch_stride + row * out.ldc + column, column);
  }
}

// A block reads N K / (blocks of all slices) weights: 128 blocks and more keep a large GPU busy,
// all of them at the same time. At least two stages to a slice.
int count_slices(int64_t n, int64_t stages) {
  const int64_t row_blocks = ceil_div(n, kBlockRows);
  int slices = 1;
  while (slices < kWarps && row_blocks * slices < 128 && stages / (2 * slices) >= 2) slices *= 2;
  return slices;
}

template <class Multiply>
void run(SkinnyTask t, const MatmulParams& p, const Output& out, Queue& queue) {
  t.slices = count_slices(p.n, ceil_div(p.k, Multiply::kDepth));
  const bool few = p.m <= kFewRows;
  t.slices_in_block = few ? t.slices : 1;
  const size_t x_bytes = size_t{2} * Multiply::kColumns * Multiply::kXRowBytes *
                         static_cast<size_t>(t.slices_in_block);
  const auto shared_bytes = [&](int stages) {
    return x_bytes + static_cast<size_t>(kWarps * stages * kSlotBytes);
  };
  t.stages = shared_bytes(3) <= queue.properties().shared_bytes_per_block ? 3 : 2;
  t.row_blocks = static_cast<int>(ceil_div(p.n, kBlockRows / t.slices_in_block));
  Grid grid{dim3(p.batch * t.row_blocks, few ? 1 : t.slices), kThreads, shared_bytes(t.stages)};
  grid.overlaps = true;
  if (few) {
    launch(queue, grid, skinny_kernel<Multiply>, t, out);
    return;
  }
  const SumsWorkspace workspace(t.slices, p.batch, p.m, p.n, queue);
  t.keeps_sums = true;
  launch(queue, grid, skinny_kernel<Multiply>, t, workspace.output());
  finish(workspace.sums(), out, p.m, p.n, p.batch, queue);
}

template <template <typename, int> class Multiply, typename W>
void run_columns(const SkinnyTask& t, const MatmulParams& p, const Output& out, Queue& queue) {
  if (p.m <= 8) {
    run<Multiply<W, 1>>(t, p, out, queue);
  } else if (p.m <= 16) {
    run<Multiply<W, 2>>(t, p, out, queue);
  } else if (p.m <= 32) {
    run<Multiply<W, 4>>(t, p, out, queue);
  } else {
    run<Multiply<W, 8>>(t, p, out, queue);
  }
}

}  // namespace

void skinny_matmul(const MatmulParams& p, const Output& out, Queue& queue) {
  SkinnyTask t{};
  const bool tensor = p.compute == DType::kBFloat16;
  t.x = operand_a(p), t.w = operand_b(p);
  std::optional<Workspace> packed_x, packed_w;
  if (!t.x.vector || p.k % 8 != 0) {
    t.x = pack_operand(t.x, tensor || t.x.half, p.m, p.k, p.batch, packed_x, queue);
  }
  if (!t.w.vector) t.w = pack_operand(t.w, t.w.half, p.n, p.k, p.batch, packed_w, queue);
  t.m = static_cast<int>(p.m), t.n = static_cast<int>(p.n), t.k = static_cast<int>(p.k);
  if (p.b_dtype == DType::kBFloat16) {
    tensor ? run_columns<TensorMultiply, bf16>(t, p, out, queue)
           : run_columns<FloatMultiply, bf16>(t, p, out, queue);
  } else {
    tensor ? run_columns<TensorMultiply, float>(t, p, out, queue)
           : run_columns<FloatMultiply, float>(t, p, out, queue);
  }
}

}  // namespace vilg::cuda
