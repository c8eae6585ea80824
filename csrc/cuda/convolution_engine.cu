// Convolution as an implicit matrix product: rows are pixels of the result, columns its channels,
// and the sum runs over slices of 128 bytes of input channels and, within a slice, over the taps.
// Once for each slice a block brings the pixels that its taps read, the halo, through registers,
// where norm, swish and rounding happen, into shared memory; every tap then is a shifted view of
// it. The prologue so costs (10 x 18) / (8 x 16) = 1.4 times the elements for 3 x 3 and not 9
// times. Weights follow by asynchronous copies, a tap at a time.
//
// Clocks of a multiprocessor for 3 x 3, 128 pixels x 128 channels and a slice of 64 channels in
// bfloat16: 7400 of tensor cores (4608 mma of 1.6 at best on Hopper); of shared memory 4600 for
// ldmatrix by four warps of 64 x 64, 1150 for arriving weights, 360 for the halo and up to 720 for
// its loads. Warps of 64 x 32 would need 6900 for ldmatrix and not be limited by tensor cores.
#include "cuda/convolution_tile.h"
#include "cuda/launch.h"

namespace vilg::cuda {
namespace {

constexpr int kFirstRounds = 6;  // of the first halo in registers: there are no sums yet
// of shared memory, so that a multiprocessor of Hopper holds two blocks
constexpr size_t kSharedBytesForTwo = 113 * 1024;

__device__ __forceinline__ int floor_div(int a, int b) { return (a >= 0 ? a : a - b + 1) / b; }

// Which pixels of one axis a block makes, and what they read.
struct BlockAxis {
  int residue, first;  // results (first + i) * step + residue
  int origin;          // input of the first result's first tap
  int weight_class;
  __device__ BlockAxis(const ConvolutionAxis& axis, int block_class, int tile, int tile_pixels)
      : residue(block_class), first(tile * tile_pixels) {
    const int quotient = floor_div(residue + axis.shift, axis.step);
    origin = quotient + axis.extra + first * axis.stride;
    weight_class = residue + axis.shift - quotient * axis.step;
  }
  __device__ bool empty(const ConvolutionAxis& axis) const {
    return first * axis.step + residue >= axis.out;
  }
};

// Results with bias and residual, from registers to memory. offset_of(pixel of the tile) is where
// the channels of a pixel begin, negative for none. The residual, which may be the memory of the
// results, is read for several pixels before any of them is written: one at a time, each would
// wait for memory.
template <typename T, typename Sums, typename OffsetOf>
__device__ __forceinline__ void write_results(const Convolution& c, const Sums& sums,
                                              int first_channel, bool vectors,
                                              const OffsetOf& offset_of) {
  constexpr int kColumns = Sums::kResultColumns, kTogether = Sums::kTogether;
  constexpr int kBatch = kColumns * kTogether <= 8 ? 4 : 2;
  using Results = Vector<T, kTogether>;
  auto* const out = static_cast<T*>(c.out);
  const auto* const residual = static_cast<const T*>(c.residual);
  float bias[kColumns][kTogether] = {};
  if (c.bias) {
#pragma unroll
    for (int j = 0; j < kColumns; ++j) {
#pragma unroll
      for (int e = 0; e < kTogether; ++e) {
        const int channel = first_channel + Sums::channel_of(j) + e;
        if (channel < c.out_channels) bias[j][e] = c.bias[channel];
      }
    }
  }
#pragma unroll
  for (int row = 0; row < Sums::kResultRows; row += kBatch) {
    Results before[kBatch][kColumns] = {};
    int64_t at[kBatch];
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
      at[i] = offset_of(Sums::pixel_of(row + i));
      if (!residual || at[i] < 0) continue;
#pragma unroll
      for (int j = 0; j < kColumns; ++j) {
        const int channel = first_channel + Sums::channel_of(j);
        const T* const from = residual + at[i] + channel;
        if (vectors) {
          if (channel < c.out_channels) before[i][j] = load_vector<kTogether>(from);
        } else {
#pragma unroll
          for (int e = 0; e < kTogether; ++e) {
            if (channel + e < c.out_channels) before[i][j][e] = from[e];
          }
        }
      }
    }
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
      if (at[i] < 0) continue;
#pragma unroll
      for (int j = 0; j < kColumns; ++j) {
        const int channel = first_channel + Sums::channel_of(j);
        T* const to = out + at[i] + channel;
        Results results;
#pragma unroll
        for (int e = 0; e < kTogether; ++e) {
          results[e] =
              from_float<T>(sums.result(row + i, j, e) + bias[j][e] + to_float(before[i][j][e]));
        }
        if (vectors) {
          if (channel < c.out_channels) store_vector<kTogether>(to, results);
        } else {
#pragma unroll
          for (int e = 0; e < kTogether; ++e) {
            if (channel + e < c.out_channels) to[e] = results[e];
          }
        }
      }
    }
  }
}

template <typename T, typename Tile>
__global__ void __launch_bounds__(kConvolutionThreads, 2)
    convolution_kernel(const Convolution c, const ConvolutionGeometry g) {
  using Operand = typename Tile::Operand;
  constexpr int kElements = kChunkElements<Operand>, kStages = Tile::kStages;
  VILG_SHARED_MEMORY(smem);
  auto* coefficients = reinterpret_cast<float*>(smem);
  unsigned char* const stages = smem + Tile::kCoefficientBytes;
  unsigned char* const halos = stages + kStages * Tile::kStageBytes;
  const int halo_bytes = g.halo_y * g.halo_x * kRowBytes;
  const auto thread = static_cast<int>(threadIdx.x);

  auto number = static_cast<int>(blockIdx.x);
  const auto digit = [&](int base) {
    const int value = number % base;
    number /= base;
    return value;
  };
  // channels first: blocks that run together share their pixels
  const int first_channel = digit(g.channel_tiles) * Tile::kChannels;
  const int tile_x = digit(g.tiles_x), tile_y = digit(g.tiles_y);
  const BlockAxis x(c.x, digit(g.classes_x), tile_x, Tile::kWidth);
  const BlockAxis y(c.y, digit(g.classes_y), tile_y, Tile::kHeight);
  const int picture = number;
  if (y.empty(c.y) || x.empty(c.x)) return;
  wait_for_previous_kernel();

  const int taps = c.y.taps * c.x.taps;
  const int slices = (c.in_channels + Tile::kSlice - 1) / Tile::kSlice;
  const bool has_weights =
      y.weight_class < c.y.weight_classes && x.weight_class < c.x.weight_classes;

  // --- weights: one tap of one slice a step
  const int weight_row = thread / kRowChunks, weight_chunk = thread % kRowChunks;
  const int64_t weight_class = int64_t{y.weight_class} * c.x.weight_classes + x.weight_class;
  const auto* weights = static_cast<const Operand*>(c.weight);
  const Operand* const my_weights =
      weights +
      (weight_class * c.out_channels + first_channel + weight_row) * taps * c.weight_pitch +
      weight_chunk * kElements;
  int load_slice = has_weights ? 0 : slices, load_tap = 0, load_stage = 0;
  const auto load_weights = [&] {
    if (load_slice < slices) {
      const int channel = load_slice * Tile::kSlice;
      unsigned char* const to = stages + load_stage * Tile::kStageBytes + weight_row * kRowBytes +
                                chunk_offset(weight_chunk, weight_row);
      const Operand* const from = my_weights + load_tap * c.weight_pitch + channel;
      const bool exists = channel + weight_chunk * kElements < c.weight_pitch;
#pragma unroll
      for (int row = 0; row < Tile::kChannels; row += kRowsPerRound) {
        const bool copies = exists && first_channel + weight_row + row < c.out_channels;
        copy_async_16(to + row * kRowBytes,
                      copies ? from + int64_t{row} * taps * c.weight_pitch : weights,
                      copies ? 16 : 0);
      }
      load_stage = load_stage + 1 == kStages ? 0 : load_stage + 1;
      if (++load_tap == taps) load_tap = 0, ++load_slice;
    }
    copy_async_commit();
  };
#pragma unroll
  for (int stage = 0; stage < kStages - 1; ++stage) load_weights();

  // --- passes: a halo and the steps over it
  const int pass_steps = g.pass_taps_y * g.pass_taps_x, slice_passes = taps / pass_steps;
  const int passes = has_weights ? slices * slice_passes : 0;
  const auto origin_of = [&](int pass) {
    const int tap = pass % slice_passes;  // 0, or of a pass of one tap
    return PassOrigin{y.origin + tap / c.x.taps, x.origin + tap % c.x.taps,
                      pass / slice_passes * Tile::kSlice};
  };
  const auto write_coefficients = [&](int pass) {
    if (!c.norm_mean || thread >= Tile::kSlice || pass >= passes) return;
    const int channel = pass / slice_passes * Tile::kSlice + thread;
    float mean = 0, factor = 0, offset = 0;
    if (channel < c.in_channels) {
      const int group = channel / (c.in_channels / c.norm_groups);
      mean = c.norm_mean[int64_t{picture} * c.norm_groups + group];
      factor = c.norm_rstd[int64_t{picture} * c.norm_groups + group] * c.norm_gamma[channel];
      offset = c.norm_beta[channel];
    }
    float* const to = coefficients + pass % 2 * 3 * Tile::kSlice + thread;
    to[0] = mean, to[Tile::kSlice] = factor, to[2 * Tile::kSlice] = offset;
  };
  const auto halo_of = [&](int pass) { return halos + pass % 2 * halo_bytes; };
  const auto coefficients_of = [&](int pass) { return coefficients + pass % 2 * 3 * Tile::kSlice; };
  const int64_t picture_pixels = int64_t{c.y.in >> c.fold} * (c.x.in >> c.fold);
  const HaloLoader<T, Tile> loader(
      c, g, static_cast<const T*>(c.in) + picture * picture_pixels * c.in_channels);

  write_coefficients(0);
  write_coefficients(1);
  __syncthreads();
  if (passes > 0) {
    for (int pixel = 0; pixel < g.halo_y * g.halo_x; pixel += kFirstRounds * kRowsPerRound) {
      HeldChunks<T, Operand, kFirstRounds> held;
      loader.load(held, origin_of(0), pixel);
      loader.store(held, halo_of(0), coefficients_of(0), pixel);
    }
  }

  Multiplier<Tile> multiplier;
  constexpr int kBatchPixels = Tile::kRounds * kRowsPerRound;
  int stage = 0;
  for (int pass = 0; pass < passes; ++pass) {
    const int channels = c.in_channels - pass / slice_passes * Tile::kSlice;
    const bool more = pass + 1 < passes;
    HeldChunks<T, Operand, Tile::kRounds> held;
    int batch = 0, store_at = -1;  // the step after which what is held is stored
    int tap_y = 0, tap_x = 0;
    for (int step = 0; step < pass_steps; ++step) {
      copy_async_wait<kStages - 2>();
      __syncthreads();  // this step's weights are there, the last one's and an old halo free
      load_weights();
      for (int turn = g.batches_per_step; turn > 0; --turn) {
        if (more && store_at < step && batch < g.batches) {
          loader.load(held, origin_of(pass + 1), batch * kBatchPixels);
          store_at = turn > 1 ? step : step + g.steps_per_batch - 1;
          ++batch;
        }
        if (turn == 1) {
          multiplier.multiply(halo_of(pass), stages + stage * Tile::kStageBytes, g, tap_y, tap_x,
                              channels);
        }
        if (store_at == step) {
          loader.store(held, halo_of(pass + 1), coefficients_of(pass + 1),
                       (batch - 1) * kBatchPixels);
          if (turn > 1) store_at = -1;
        }
      }
      stage = stage + 1 == kStages ? 0 : stage + 1;
      if (++tap_x == g.pass_taps_x) tap_x = 0, ++tap_y;
    }
    // in the place of this pass's, which all have used before the last barrier
    write_coefficients(pass + 2);
  }
  copy_async_wait<0>();
  let_next_kernel_begin();

  write_results<T>(c, multiplier, first_channel, g.pairs, [&](int pixel) -> int64_t {
    const int row = (y.first + pixel / Tile::kWidth) * c.y.step + y.residue;
    const int column = (x.first + pixel % Tile::kWidth) * c.x.step + x.residue;
    if (row >= c.y.out || column >= c.x.out) return -1;
    return ((int64_t{picture} * c.y.out + row) * c.x.out + column) * c.out_channels;
  });
}

// Shared memory with a halo of so many pixels.
template <typename Tile>
constexpr size_t shared_bytes(int64_t halo_pixels) {
  return static_cast<size_t>(Tile::kCoefficientBytes + Tile::kStages * Tile::kStageBytes +
                             2 * halo_pixels * kRowBytes);
}

template <typename T, typename Tile>
ConvolutionGeometry geometry_of(const Convolution& c, size_t most_shared_bytes) {
  constexpr int kElements = kChunkElements<typename Tile::Operand>;
  ConvolutionGeometry g{};
  g.classes_y = min(c.y.step, c.y.out);
  g.classes_x = min(c.x.step, c.x.out);
  g.tiles_y = static_cast<int>(ceil_div(ceil_div(c.y.out, c.y.step), Tile::kHeight));
  g.tiles_x = static_cast<int>(ceil_div(ceil_div(c.x.out, c.x.step), Tile::kWidth));
  g.channel_tiles = static_cast<int>(ceil_div(c.out_channels, Tile::kChannels));
  const auto halo = [&](int spacing, int taps_y, int taps_x) {
    g.pass_taps_y = taps_y;
    g.pass_taps_x = taps_x;
    g.halo_y = (Tile::kHeight - 1) * spacing + taps_y;
    g.halo_x = (Tile::kWidth - 1) * spacing + taps_x;
    return shared_bytes<Tile>(int64_t{g.halo_y} * g.halo_x);
  };
  // both axes have one stride; beyond a tile's height no halo fits, nor perhaps its size in an int
  g.spacing = c.y.stride, g.hop = 1;
  if (c.y.stride > Tile::kHeight ||
      halo(g.spacing, c.y.taps, c.x.taps) > min(most_shared_bytes, kSharedBytesForTwo)) {
    g.spacing = 1, g.hop = c.y.stride;
    halo(g.spacing, 1, 1);
  }
  g.halo_x_inverse = (1 << 20) / g.halo_x + 1;  // exact below 900 pixels
  const auto pixels = g.halo_y * g.halo_x, steps = g.pass_taps_y * g.pass_taps_x;
  g.batches = static_cast<int>(ceil_div(pixels, Tile::kRounds * kRowsPerRound));
  g.batches_per_step = static_cast<int>(ceil_div(g.batches, steps));
  g.steps_per_batch = max(1, steps / g.batches);
  g.vectors = c.in_channels % kElements == 0 && aligned_to_16(c.in);
  g.pairs = c.out_channels % 2 == 0 && aligned_to_16(c.out, c.residual);
  return g;
}

int64_t blocks_of(const Convolution& c, const ConvolutionGeometry& g) {
  return int64_t{c.batch} * g.classes_y * g.classes_x * g.tiles_y * g.tiles_x * g.channel_tiles;
}

// The first of some tiles, from large to small, with enough blocks for the device; the last one
// otherwise. All sum in the same order. The largest is too slow alone on a multiprocessor, where
// nothing hides its barriers and its prologue. The smallest reads 10.8 KB a step from the
// second-level cache, 53 bytes a clock at the speed of tensor cores, where Hopper has about 25; the
// middle one 13.1 KB for twice the products.
template <typename T, typename Tile, typename... Smaller>
void run_with(const Convolution& c, Queue& queue) {
  const DeviceProperties& device = queue.properties();
  const auto g = geometry_of<T, Tile>(c, device.shared_bytes_per_block);
  const size_t bytes = shared_bytes<Tile>(int64_t{g.halo_y} * g.halo_x);
  const int64_t blocks = blocks_of(c, g);
  if constexpr (sizeof...(Smaller) > 0) {
    constexpr int kPercent = Tile::kPixels * Tile::kChannels > 128 * 64 ? 150 : 90;
    if (100 * blocks < kPercent * int64_t{device.multiprocessors} ||
        bytes > device.shared_bytes_per_block || (Tile::kChannels > 64 && c.out_channels <= 64)) {
      return run_with<T, Smaller...>(c, queue);
    }
  }
  launch(queue, {dim3(blocks), kConvolutionThreads, bytes, /*overlaps=*/true},
         convolution_kernel<T, Tile>, c, g);
}

template <typename T>
void run(const Convolution& c, Queue& queue) {
  if (c.compute == DType::kFloat32) {
    run_with<T, ConvolutionTile<float, 64, 64, 4, 4>>(c, queue);
  } else if (c.out_channels <= 16) {
    run_with<T, ConvolutionTile<bf16, 128, 16, 4, 4>>(c, queue);
  } else {
    run_with<T, ConvolutionTile<bf16, 128, 128, 3, 2>, ConvolutionTile<bf16, 128, 64, 4, 4>,
             ConvolutionTile<bf16, 64, 64, 4, 4>>(c, queue);
  }
}

}  // namespace

void run_convolution(const Convolution& c, Queue& queue) {
  c.dtype == DType::kFloat32 ? run<float>(c, queue) : run<bf16>(c, queue);
}

}  // namespace vilg::cuda
