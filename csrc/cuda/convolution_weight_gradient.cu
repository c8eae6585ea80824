// The gradient of a convolution by its weights: for each tap a matrix product over all pixels of
// the result, rows are out channels, columns in channels. A block makes up to three taps of one
// row of the kernel, which read the same results and neighbouring inputs, over a part of the
// pixels; a second pass adds the parts in order. Operands are rounded and padded to whole 16 bytes
// beforehand where they are not so, and arrive by asynchronous copies.
//
// Three taps of 64 x 64 channels and 64 pixels are 96 mma for each of four warps (614 clocks on
// Hopper) against 512 clocks of ldmatrix, and 17 KB that arrive.
#include "cuda/convolution_weight_gradient.h"

#include "core/memory.h"
#include "cuda/launch.h"
#include "cuda/operand_rows.h"
#include "cuda/operand_tile.h"

namespace vilg::cuda {
namespace {

constexpr int kThreads = 128, kStages = 3;
constexpr int kRowsPerRound = kThreads / kRowChunks;
constexpr int kTaps = 3;
constexpr int kTileHeight = 4, kTileWidth = 16, kPixels = kTileHeight * kTileWidth;
constexpr int kBlocks = 512;  // about so many, for any device: parts decide about the bits
constexpr int64_t kPartialBytes = int64_t{64} << 20;

struct Problem {
  const void *dout, *in;  // operands: rows of pixels, dout_pitch and in_pitch elements apart
  int64_t dout_pitch, in_pitch;
  int batch, height, width, in_channels;
  int out_height, out_width, out_channels;
  int kernel_y, kernel_x, stride, pad_top, pad_left;
  int group_taps;    // taps that a block makes, at most kTaps
  int spacing, hop;  // as in ConvolutionGeometry, along x; along y every row has its own
  int halo_x, halo_x_inverse;
  int channel_tiles_in, channel_tiles_out, groups_x;
  int tiles_y, tiles_x, parts;
};

template <typename Operand>
struct WeightSums {  // bfloat16: warps of 32 x 32 channels
  float sums[kTaps][2][4][4] = {};

  __device__ __forceinline__ void multiply(const unsigned char* dout, const unsigned char* in,
                                           const Problem& p, int taps) {
    const int matrix = lane_id() / 8, row = lane_id() % 8;
    const int dout_pixel = row + matrix / 2 * 8, dout_chunk = warp_id() / 2 * 4 + matrix % 2;
    const int in_pixel = row + matrix % 2 * 8, in_chunk = warp_id() % 2 * 4 + matrix / 2;
#pragma unroll
    for (int y = 0; y < kTileHeight; ++y) {
      uint32_t a[2][4];
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        load_matrices_transposed(a[i], dout + (y * kTileWidth + dout_pixel) * kRowBytes +
                                           chunk_offset(dout_chunk + 2 * i, dout_pixel));
      }
#pragma unroll
      for (int tap = 0; tap < kTaps; ++tap) {
        if (tap >= taps) break;
        const int x = in_pixel * p.spacing + tap;
#pragma unroll
        for (int j = 0; j < 4; j += 2) {
          uint32_t b[4];
          load_matrices_transposed(
              b, in + (y * p.halo_x + x) * kRowBytes + chunk_offset(in_chunk + j, x));
#pragma unroll
          for (int i = 0; i < 2; ++i) {
            multiply_bf16(sums[tap][i][j], a[i], b[0], b[1]);
            multiply_bf16(sums[tap][i][j + 1], a[i], b[2], b[3]);
          }
        }
      }
    }
  }

  // write(out channel, in channel, sum and that of the next in channel) of the tile
  template <typename Write>
  __device__ __forceinline__ void for_each_pair(int tap, const Write& write) const {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const int out = warp_id() / 2 * 32 + i * 16 + lane_id() / 4;
        const int in = warp_id() % 2 * 32 + j * 8 + 2 * (lane_id() % 4);
        write(out, in, sums[tap][i][j][0], sums[tap][i][j][1]);
        write(out + 8, in, sums[tap][i][j][2], sums[tap][i][j][3]);
      }
    }
  }
};

template <>
struct WeightSums<float> {  // 32 x 32 channels, 4 x 2 a thread
  float sums[kTaps][4][2] = {};

  __device__ __forceinline__ void multiply(const unsigned char* dout, const unsigned char* in,
                                           const Problem& p, int taps) {
    const int out = static_cast<int>(threadIdx.x) / 16, pair = static_cast<int>(threadIdx.x) % 16;
    for (int y = 0; y < kTileHeight; ++y) {
#pragma unroll 4
      for (int pixel = 0; pixel < kTileWidth; ++pixel) {
        const auto a = load_vector<4>(reinterpret_cast<const float*>(
            dout + (y * kTileWidth + pixel) * kRowBytes + chunk_offset(out, pixel)));
#pragma unroll
        for (int tap = 0; tap < kTaps; ++tap) {
          if (tap >= taps) break;
          const int x = pixel * p.spacing + tap;
          const auto b = load_vector<2>(reinterpret_cast<const float*>(
              in + (y * p.halo_x + x) * kRowBytes + chunk_offset(pair / 2, x) + pair % 2 * 8));
#pragma unroll
          for (int i = 0; i < 4; ++i) {
            sums[tap][i][0] = fmaf(a[i], b[0], sums[tap][i][0]);
            sums[tap][i][1] = fmaf(a[i], b[1], sums[tap][i][1]);
          }
        }
      }
    }
  }

  template <typename Write>
  __device__ __forceinline__ void for_each_pair(int tap, const Write& write) const {
    const int out = static_cast<int>(threadIdx.x) / 16, pair = static_cast<int>(threadIdx.x) % 16;
#pragma unroll
    for (int i = 0; i < 4; ++i) write(4 * out + i, 2 * pair, sums[tap][i][0], sums[tap][i][1]);
  }
};

// partial (parts, Cout, Ky, Kx, Cin)
template <typename Operand>
__global__ void __launch_bounds__(kThreads, 2)
    weight_gradient_kernel(float* partial, const Problem p) {
  constexpr int kElements = kChunkElements<Operand>, kChannels = kRowElements<Operand>;
  VILG_SHARED_MEMORY(smem);
  const int halo_pixels = kTileHeight * p.halo_x;
  const int stage_bytes = (kPixels + halo_pixels) * kRowBytes;

  auto number = static_cast<int>(blockIdx.x);
  const auto digit = [&](int base) {
    const int value = number % base;
    number /= base;
    return value;
  };
  // the parts last: blocks that run together read the same pixels
  const int first_in = digit(p.channel_tiles_in) * kChannels;
  const int first_out = digit(p.channel_tiles_out) * kChannels;
  const int first_x = digit(p.groups_x) * p.group_taps, tap_y = digit(p.kernel_y);
  const int part = number;
  const int taps = min(p.group_taps, p.kernel_x - first_x);
  wait_for_previous_kernel();

  const int64_t tiles = int64_t{p.batch} * p.tiles_y * p.tiles_x;
  const int64_t begin = tiles * part / p.parts, end = tiles * (part + 1) / p.parts;
  const int row = static_cast<int>(threadIdx.x) / kRowChunks;
  const int chunk = static_cast<int>(threadIdx.x) % kRowChunks;
  const auto* dout = static_cast<const Operand*>(p.dout);
  const auto* in = static_cast<const Operand*>(p.in);
  const int out_channel = first_out + chunk * kElements, in_channel = first_in + chunk * kElements;
  const auto load = [&](int64_t tile, int stage) {
    if (tile < end) {
      const int tile_x = static_cast<int>(tile % p.tiles_x) * kTileWidth;
      const int tile_y = static_cast<int>(tile / p.tiles_x % p.tiles_y) * kTileHeight;
      const int64_t picture = tile / p.tiles_x / p.tiles_y;
      unsigned char* to = smem + stage * stage_bytes;
#pragma unroll
      for (int pixel = row; pixel < kPixels; pixel += kRowsPerRound) {
        const int y = tile_y + pixel / kTileWidth, x = tile_x + pixel % kTileWidth;
        const bool exists = y < p.out_height && x < p.out_width && out_channel < p.dout_pitch;
        const int64_t at = (picture * p.out_height + y) * p.out_width + x;
        copy_async_16(to + pixel * kRowBytes + chunk_offset(chunk, pixel),
                      exists ? dout + at * p.dout_pitch + out_channel : dout, exists ? 16 : 0);
      }
      to += kPixels * kRowBytes;
      for (int pixel = row; pixel < halo_pixels; pixel += kRowsPerRound) {
        const int halo_row = pixel * p.halo_x_inverse >> 20, column = pixel - halo_row * p.halo_x;
        const int y = (tile_y + halo_row) * p.stride + tap_y - p.pad_top;
        const int x = tile_x * p.stride + first_x - p.pad_left + column * p.hop;
        const bool exists =
            y >= 0 && y < p.height && x >= 0 && x < p.width && in_channel < p.in_pitch;
        const int64_t at = (picture * p.height + y) * p.width + x;
        copy_async_16(to + pixel * kRowBytes + chunk_offset(chunk, column),
                      exists ? in + at * p.in_pitch + in_channel : in, exists ? 16 : 0);
      }
    }
    copy_async_commit();
  };

  WeightSums<Operand> sums;
  for (int stage = 0; stage < kStages - 1; ++stage) load(begin + stage, stage);
  int stage = 0, load_stage = kStages - 1;
  for (int64_t tile = begin; tile < end; ++tile) {
    copy_async_wait<kStages - 2>();
    __syncthreads();
    load(tile + kStages - 1, load_stage);
    const unsigned char* from = smem + stage * stage_bytes;
    sums.multiply(from, from + kPixels * kRowBytes, p, taps);
    stage = stage + 1 == kStages ? 0 : stage + 1;
    load_stage = load_stage + 1 == kStages ? 0 : load_stage + 1;
  }
  copy_async_wait<0>();
  let_next_kernel_begin();

  const bool pairs = p.in_channels % 2 == 0;
#pragma unroll
  for (int tap = 0; tap < kTaps; ++tap) {
    if (tap >= taps) break;
    sums.for_each_pair(tap, [&](int out, int in_channel_of_tile, float first, float second) {
      const int channel = first_in + in_channel_of_tile;
      out += first_out;
      if (out >= p.out_channels || channel >= p.in_channels) return;
      const int64_t filter = int64_t{part} * p.out_channels + out;
      float* to = partial +
                  ((filter * p.kernel_y + tap_y) * p.kernel_x + first_x + tap) * p.in_channels +
                  channel;
      if (pairs) {
        store_vector<2>(to, Vector<float, 2>{{first, second}});
        return;
      }
      to[0] = first;
      if (channel + 1 < p.in_channels) to[1] = second;
    });
  }
}

__global__ void __launch_bounds__(kThreads)
    add_partial_sums_kernel(float* to, const float* partial, int64_t parts, int64_t count) {
  wait_for_previous_kernel();
  let_next_kernel_begin();
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= count) return;
  float sum = to[i];
  for (int64_t part = 0; part < parts; ++part) sum += partial[part * count + i];
  to[i] = sum;
}

template <typename Operand>
void run(const Conv2dBackwardParams& p, Queue& queue) {
  const auto as_int = [](int64_t value) { return static_cast<int>(value); };
  const OperandRows dout(p.dout, p.dtype, p.compute, p.batch * p.out_height() * p.out_width(),
                         p.out_channels, queue);
  const OperandRows in(p.x, p.dtype, p.compute, p.batch * p.height * p.width, p.in_channels, queue);
  // inputs of neighbouring results are far apart from a stride of three on: a tap at a time
  const bool together = p.stride <= 2;
  const int group_taps = as_int(together ? min(p.kernel_x, int64_t{kTaps}) : 1);
  const int spacing = as_int(together ? p.stride : 1);
  const int halo_x = (kTileWidth - 1) * spacing + group_taps;
  Problem q{.dout = dout.as<void>(),
            .in = in.as<void>(),
            .dout_pitch = dout.pitch(),
            .in_pitch = in.pitch(),
            .batch = as_int(p.batch),
            .height = as_int(p.height),
            .width = as_int(p.width),
            .in_channels = as_int(p.in_channels),
            .out_height = as_int(p.out_height()),
            .out_width = as_int(p.out_width()),
            .out_channels = as_int(p.out_channels),
            .kernel_y = as_int(p.kernel_y),
            .kernel_x = as_int(p.kernel_x),
            .stride = as_int(p.stride),
            .pad_top = as_int(p.pad_top),
            .pad_left = as_int(p.pad_left),
            .group_taps = group_taps,
            .spacing = spacing,
            .hop = as_int(together ? 1 : p.stride),
            .halo_x = halo_x,
            .halo_x_inverse = (1 << 20) / halo_x + 1,
            .channel_tiles_in = as_int(ceil_div(p.in_channels, kRowElements<Operand>)),
            .channel_tiles_out = as_int(ceil_div(p.out_channels, kRowElements<Operand>)),
            .groups_x = as_int(ceil_div(p.kernel_x, group_taps)),
            .tiles_y = as_int(ceil_div(p.out_height(), kTileHeight)),
            .tiles_x = as_int(ceil_div(p.out_width(), kTileWidth)),
            .parts = 1};
  const int64_t weights = p.out_channels * p.kernel_y * p.kernel_x * p.in_channels;
  const int64_t blocks =
      int64_t{q.channel_tiles_in} * q.channel_tiles_out * q.groups_x * q.kernel_y;
  const int64_t tiles = p.batch * q.tiles_y * q.tiles_x;
  const int64_t most = max(int64_t{1}, kPartialBytes / (weights * int64_t{sizeof(float)}));
  q.parts = as_int(min(min(ceil_div(kBlocks, blocks), tiles), most));
  Workspace partial(queue.allocator(), static_cast<size_t>(q.parts * weights) * sizeof(float));
  const auto stage_bytes = static_cast<size_t>(kPixels + kTileHeight * halo_x) * kRowBytes;
  launch(queue, {dim3(blocks * q.parts), kThreads, kStages * stage_bytes, /*overlaps=*/true},
         weight_gradient_kernel<Operand>, partial.as<float>(), q);
  add_partial_sums(p.dweight, partial.as<float>(), q.parts, weights, queue);
}

}  // namespace

void add_partial_sums(float* to, const float* partial, int64_t parts, int64_t count, Queue& queue) {
  launch(queue, {dim3(ceil_div(count, kThreads)), kThreads, 0, /*overlaps=*/true},
         add_partial_sums_kernel, to, partial, parts, count);
}

void add_weight_gradient(const Conv2dBackwardParams& p, Queue& queue) {
  p.compute == DType::kFloat32 ? run<float>(p, queue) : run<bf16>(p, queue);
}

}  // namespace vilg::cuda
