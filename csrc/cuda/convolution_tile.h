// What the convolution kernel is made of: tiles, the way of the input into shared memory, and the
// products.
#pragma once

#include "cuda/convolution_engine.h"
#include "cuda/operand_tile.h"
#include "cuda/swish.h"

namespace vilg::cuda {

inline constexpr int kConvolutionThreads = 128;
inline constexpr int kConvolutionWarps = kConvolutionThreads / kLanes;
// rows of a tile in shared memory that all threads bring at once, a chunk each
inline constexpr int kRowsPerRound = kConvolutionThreads / kRowChunks;

// What a block makes: kPixels_ pixels, 8 rows of them, by kChannels_ channels.
template <typename Operand_, int kPixels_, int kChannels_, int kStages_, int kRounds_>
struct ConvolutionTile {
  using Operand = Operand_;
  static constexpr int kPixels = kPixels_, kChannels = kChannels_;
  static constexpr int kHeight = 8, kWidth = kPixels / kHeight;
  static constexpr int kStages = kStages_;  // of weights
  static constexpr int kRounds = kRounds_;  // of the halo in registers during the products
  static constexpr int kStageBytes = kChannels * kRowBytes;
  static constexpr int kSlice = kRowElements<Operand>;  // channels
  // mean, factor and offset of a slice's channels, for this pass and the next
  static constexpr int kCoefficientBytes = 2 * 3 * kSlice * static_cast<int>(sizeof(float));
};

struct ConvolutionGeometry {
  int tiles_y, tiles_x, channel_tiles;  // of each class
  int classes_y, classes_x;
  // Halo pixels of a result and of its neighbour are `spacing` apart, and `hop` input pixels lie
  // between one and the next: (stride, 1) where a pass takes all taps of a slice. Where their halo
  // is too large a pass takes one tap: (1, stride).
  int spacing, hop;
  int pass_taps_y, pass_taps_x;
  int halo_y, halo_x;
  int halo_x_inverse;  // pixel / halo_x = pixel * halo_x_inverse >> 20
  // The next pass's halo comes in batches of Tile::kRounds rounds: so many a step, or one in so
  // many steps.
  int batches, batches_per_step, steps_per_batch;
  bool vectors, pairs;  // whether inputs can be read, results written, several at a time
};

// What one pass reads: from pixel (y, x) of one picture on, some channels.
struct PassOrigin {
  int y, x, channel;
};

// Chunks of the halo on their way from global to shared memory.
template <typename T, typename Operand, int kRounds>
struct HeldChunks {
  static constexpr int kElements = kChunkElements<Operand>;
  static constexpr int kVector = kElements * sizeof(T) > 16 ? 16 / sizeof(T) : kElements;
  Vector<T, kVector> data[kRounds][kElements / kVector];
  uint32_t inside = 0;  // bit r: round r has a pixel of the picture
};

template <typename T, typename Tile>
class HaloLoader {
 public:
  using Operand = typename Tile::Operand;
  static constexpr int kElements = kChunkElements<Operand>;

  __device__ HaloLoader(const Convolution& c, const ConvolutionGeometry& g, const T* picture)
      : c_(c), g_(g), picture_(picture), chunk_(static_cast<int>(threadIdx.x) % kRowChunks) {}

  template <int kRounds>
  __device__ __forceinline__ void load(HeldChunks<T, Operand, kRounds>& held,
                                       const PassOrigin& origin, int first_pixel) const {
    using Held = HeldChunks<T, Operand, kRounds>;
    const int channel = origin.channel + chunk_ * kElements;
    held.inside = 0;
#pragma unroll
    for (int r = 0; r < kRounds; ++r) {
      const int pixel = pixel_of(first_pixel, r), row = row_of(pixel);
      const int y = origin.y + row * g_.hop, x = origin.x + (pixel - row * g_.halo_x) * g_.hop;
      if (pixel >= g_.halo_y * g_.halo_x || y < 0 || y >= c_.y.in || x < 0 || x >= c_.x.in ||
          channel >= c_.in_channels) {
        continue;
      }
      held.inside |= 1u << r;
      const int at = (y >> c_.fold) * (c_.x.in >> c_.fold) + (x >> c_.fold);
      const T* from = picture_ + int64_t{at} * c_.in_channels + channel;
      if (g_.vectors) {
#pragma unroll
        for (int v = 0; v < kElements / Held::kVector; ++v) {
          held.data[r][v] = load_vector<Held::kVector>(from + v * Held::kVector);
        }
      } else {
#pragma unroll
        for (int e = 0; e < kElements; ++e) {
          held.data[r][e / Held::kVector][e % Held::kVector] =
              channel + e < c_.in_channels ? from[e] : from_float<T>(0.0f);
        }
      }
    }
  }

  // `coefficients`: of the pass that the chunks belong to.
  template <int kRounds>
  __device__ __forceinline__ void store(const HeldChunks<T, Operand, kRounds>& held,
                                        unsigned char* halo, const float* coefficients,
                                        int first_pixel) const {
    using Held = HeldChunks<T, Operand, kRounds>;
#pragma unroll
    for (int r = 0; r < kRounds; ++r) {
      const int pixel = pixel_of(first_pixel, r);
      if (pixel >= g_.halo_y * g_.halo_x) continue;
      float values[kElements] = {};
      if (held.inside >> r & 1) {
#pragma unroll
        for (int e = 0; e < kElements; ++e) {
          values[e] = to_float(held.data[r][e / Held::kVector][e % Held::kVector]);
        }
        if (c_.norm_mean) normalize(values, coefficients + chunk_ * kElements);
      }
      const int column = pixel - row_of(pixel) * g_.halo_x;
      auto* to =
          reinterpret_cast<uint32_t*>(halo + pixel * kRowBytes + chunk_offset(chunk_, column));
      Vector<uint32_t, 4> chunk;
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        if constexpr (kElements == 8) {
          chunk[i] = pack_bf16(values[2 * i], values[2 * i + 1]);
        } else {
          chunk[i] = float_to_bits(values[i]);
        }
      }
      store_vector<4>(to, chunk);
    }
  }

 private:
  __device__ int pixel_of(int first_pixel, int round) const {
    return first_pixel + round * kRowsPerRound + static_cast<int>(threadIdx.x) / kRowChunks;
  }
  __device__ int row_of(int pixel) const { return pixel * g_.halo_x_inverse >> 20; }
  __device__ static void normalize(float (&values)[kElements], const float* coefficients) {
#pragma unroll
    for (int v = 0; v < kElements; v += 4) {
      const auto mean = load_vector<4>(coefficients + v);
      const auto factor = load_vector<4>(coefficients + Tile::kSlice + v);
      const auto offset = load_vector<4>(coefficients + 2 * Tile::kSlice + v);
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        // the mean goes first: beside a large one, a factor and an offset alone cancel
        const float t = fmaf(values[v + e] - mean[e], factor[e], offset[e]);
        values[v + e] = t * sigmoid(t);
      }
    }
  }

  const Convolution& c_;
  const ConvolutionGeometry& g_;
  const T* picture_;
  int chunk_;
};

// The products of one step, and where the sums belong: tensor cores.
template <typename Tile, typename Operand = typename Tile::Operand>
struct Multiplier {
  static constexpr int kWarpColumns = Tile::kChannels >= 64 ? 2 : 1;
  static constexpr int kWarpRows = kConvolutionWarps / kWarpColumns;
  static constexpr int kM = Tile::kPixels / 16 / kWarpRows;
  static constexpr int kN = Tile::kChannels / 8 / kWarpColumns;
  float sums[kM][kN][4] = {};

  __device__ static int first_pixel() { return warp_id() / kWarpColumns * kM * 16; }
  __device__ static int first_channel() { return warp_id() % kWarpColumns * kN * 8; }

  __device__ __forceinline__ void multiply(const unsigned char* halo, const unsigned char* weights,
                                           const ConvolutionGeometry& g, int tap_y, int tap_x,
                                           int channels) {
    const int pixel = first_pixel() + a_row();
    const int row = pixel / Tile::kWidth * g.spacing + tap_y;
    const int column = pixel % Tile::kWidth * g.spacing + tap_x;
    const unsigned char* a = halo + (row * g.halo_x + column) * kRowBytes;
    const unsigned char* b = weights + (first_channel() + b_row()) * kRowBytes;
    const int a_step = 16 / Tile::kWidth * g.spacing * g.halo_x * kRowBytes;
    const auto step = [&](int chunk) {
      multiply_chunks(sums, a + chunk_offset(chunk + a_chunk(), column), a_step,
                      b + chunk_offset(chunk + b_chunk(), b_row()), 16 * kRowBytes);
    };
    if (channels >= Tile::kSlice) {
#pragma unroll
      for (int chunk = 0; chunk < kRowChunks; chunk += 2) step(chunk);
    } else {
      for (int chunk = 0; chunk * kChunkElements<Operand> < channels; chunk += 2) step(chunk);
    }
  }

  // Results of a thread: kResultRows pixels by kResultColumns times kTogether neighbouring
  // channels, all counted in the tile.
  static constexpr int kResultRows = 2 * kM, kResultColumns = kN, kTogether = 2;
  __device__ static int pixel_of(int row) { return first_pixel() + row * 8 + lane_id() / 4; }
  __device__ static int channel_of(int column) {
    return first_channel() + column * 8 + 2 * (lane_id() % 4);
  }
  __device__ float result(int row, int column, int e) const {
    return sums[row / 2][column][row % 2 * 2 + e];
  }
};

// The same by fused multiply-adds: a thread has 8 pixels of a column and 4 channels, 16 apart.
template <typename Tile>
struct Multiplier<Tile, float> {
  static_assert(Tile::kPixels == 64 && Tile::kChannels == 64);
  float sums[8][4] = {};

  __device__ static int thread_column() { return static_cast<int>(threadIdx.x) / 16; }
  __device__ static int thread_channel() { return static_cast<int>(threadIdx.x) % 16; }

  __device__ __forceinline__ void multiply(const unsigned char* halo, const unsigned char* weights,
                                           const ConvolutionGeometry& g, int tap_y, int tap_x,
                                           int channels) {
    const int column = thread_column() * g.spacing + tap_x, channel = thread_channel();
    const unsigned char* a = halo + (tap_y * g.halo_x + column) * kRowBytes;
    const unsigned char* b = weights + channel * kRowBytes;
    const int chunks = channels >= Tile::kSlice ? kRowChunks : (channels + 3) / 4;
#pragma unroll 2
    for (int chunk = 0; chunk < chunks; ++chunk) {
      multiply_chunk(sums, a + chunk_offset(chunk, column), g.spacing * g.halo_x * kRowBytes,
                     b + chunk_offset(chunk, channel), 16 * kRowBytes);
    }
  }

  static constexpr int kResultRows = 8, kResultColumns = 4, kTogether = 1;
  __device__ static int pixel_of(int row) { return row * Tile::kWidth + thread_column(); }
  __device__ static int channel_of(int column) { return thread_channel() + 16 * column; }
  __device__ float result(int row, int column, int) const { return sums[row][column]; }
};

}  // namespace vilg::cuda
