#include "cuda/convolution_weights.h"

#include "cuda/launch.h"
#include "cuda/operand_rows.h"

namespace vilg::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kSide = 32;  // of a tile that is transposed

// An axis of packed weights: every class has `taps` of the kernel's.
struct PackedAxis {
  int kernel, taps, step, classes;
};
PackedAxis packed(const ConvolutionAxis& axis, int kernel) {
  return {kernel, axis.taps, axis.step, axis.weight_classes};
}

// A thread makes 16 bytes of packed weights: sums of the taps k with floor((class + k) / step) =
// tap. `vectors`: the weights can be read several at a time.
template <typename To, typename From>
__global__ void __launch_bounds__(kThreads)
    pack_kernel(To* to, const From* from, PackedAxis y, PackedAxis x, int in_channels, int pitch,
                int out_channels, int rows, bool vectors) {
  constexpr int kElements = 16 / sizeof(To);
  constexpr int kVector = kElements * sizeof(From) > 16 ? 16 / sizeof(From) : kElements;
  wait_for_previous_kernel();
  let_next_kernel_begin();
  // a row is a tap of a filter of a class
  const int64_t chunk = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  const auto row = static_cast<int>(chunk / (pitch / kElements));
  const auto channel = static_cast<int>(chunk - int64_t{row} * (pitch / kElements)) * kElements;
  if (row >= rows) return;
  int rest = row;
  const auto digit = [&](int base) {
    const int value = rest % base;
    rest /= base;
    return value;
  };
  const int tap_x = digit(x.taps), tap_y = digit(y.taps), out_channel = digit(out_channels);
  const int class_x = digit(x.classes), class_y = rest;
  float sums[kElements] = {};
  for (int i = 0; i < y.step; ++i) {
    const int ky = tap_y * y.step - class_y + i;
    for (int j = 0; j < x.step; ++j) {
      const int kx = tap_x * x.step - class_x + j;
      if (ky < 0 || ky >= y.kernel || kx < 0 || kx >= x.kernel) continue;
      const int64_t tap = (int64_t{out_channel} * y.kernel + ky) * x.kernel + kx;
      const From* const at = from + tap * in_channels + channel;
      if (vectors) {
#pragma unroll
        for (int v = 0; v < kElements; v += kVector) {
          const auto some = load_vector<kVector>(at + v);
#pragma unroll
          for (int e = 0; e < kVector; ++e) sums[v + e] += to_float(some[e]);
        }
      } else {
#pragma unroll
        for (int e = 0; e < kElements; ++e) {
          if (channel + e < in_channels) sums[e] += to_float(at[e]);
        }
      }
    }
  }
  Vector<To, kElements> packed;
#pragma unroll
  for (int e = 0; e < kElements; ++e) packed[e] = from_float<To>(sums[e]);
  store_vector<kElements>(to + int64_t{row} * pitch + channel, packed);
}

// A block transposes kSide x kSide channels of one tap of one class. Tap t of a class is tap
// class + step * (taps - 1 - t) of the kernel.
template <typename To, typename From>
__global__ void __launch_bounds__(kThreads)
    pack_transposed_kernel(To* to, const From* from, PackedAxis y, PackedAxis x, int in_channels,
                           int out_channels, int pitch) {
  VILG_SHARED_MEMORY(smem);
  auto* tile = reinterpret_cast<float*>(smem);  // [kSide][kSide + 1]
  wait_for_previous_kernel();
  let_next_kernel_begin();
  const auto number = static_cast<int>(blockIdx.z);  // (class y, class x, tap y, tap x)
  const int tap_x = number % x.taps, tap_y = number / x.taps % y.taps;
  const int weight_class = number / (x.taps * y.taps);
  const int kx = weight_class % x.classes + x.step * (x.taps - 1 - tap_x);
  const int ky = weight_class / x.classes + y.step * (y.taps - 1 - tap_y);
  const bool exists = ky < y.kernel && kx < x.kernel;
  const int first_in = static_cast<int>(blockIdx.x) * kSide;
  const int first_out = static_cast<int>(blockIdx.y) * kSide;
  const int column = lane_id();
  for (int row = warp_id(); row < kSide; row += kThreads / kLanes) {
    const int in = first_in + column, out = first_out + row;
    float value = 0;
    if (exists && in < in_channels && out < out_channels) {
      const int64_t tap = (int64_t{out} * y.kernel + ky) * x.kernel + kx;
      value = to_float(from[tap * in_channels + in]);
    }
    tile[row * (kSide + 1) + column] = value;
  }
  __syncthreads();
  const int64_t taps = int64_t{y.taps} * x.taps;
  for (int row = warp_id(); row < kSide; row += kThreads / kLanes) {
    const int in = first_in + row, out = first_out + column;
    if (in >= in_channels || out >= pitch) continue;
    const int64_t at = (int64_t{weight_class} * in_channels + in) * taps + number % taps;
    to[at * pitch + out] = from_float<To>(tile[column * (kSide + 1) + row]);
  }
}

template <typename To, typename From>
void run_pack(const ConvolutionWeights& w, const Convolution& c, void* to, Queue& queue) {
  const auto bytes = static_cast<int64_t>(packed_bytes(c));
  const int64_t row_bytes = c.weight_pitch * int64_t{sizeof(To)};
  launch(queue, {dim3(ceil_div(bytes / 16, kThreads)), kThreads, 0, /*overlaps=*/true},
         pack_kernel<To, From>, static_cast<To*>(to), static_cast<const From*>(w.data),
         packed(c.y, w.kernel_y), packed(c.x, w.kernel_x), w.in_channels,
         static_cast<int>(c.weight_pitch), w.out_channels, static_cast<int>(bytes / row_bytes),
         c.weight_pitch == w.in_channels && aligned_to_16(w.data));
}

template <typename To, typename From>
void run_pack_transposed(const ConvolutionWeights& w, const Convolution& c, void* to,
                         Queue& queue) {
  const int64_t copies = int64_t{c.y.weight_classes} * c.x.weight_classes * c.y.taps * c.x.taps;
  launch(queue,
         {dim3(ceil_div(w.in_channels, kSide), ceil_div(c.weight_pitch, kSide), copies), kThreads,
          sizeof(float) * kSide * (kSide + 1), /*overlaps=*/true},
         pack_transposed_kernel<To, From>, static_cast<To*>(to), static_cast<const From*>(w.data),
         packed(c.y, w.kernel_y), packed(c.x, w.kernel_x), w.in_channels, w.out_channels,
         static_cast<int>(c.weight_pitch));
}

}  // namespace

bool engine_reads(const ConvolutionWeights& w, const Convolution& c) {
  return w.dtype == c.compute && c.y.step == 1 && c.x.step == 1 && aligned_to_16(w.data) &&
         padded_columns(w.in_channels, c.compute) == w.in_channels;
}

size_t packed_bytes(const Convolution& c) {
  const int64_t classes = int64_t{c.y.weight_classes} * c.x.weight_classes;
  return static_cast<size_t>(classes * c.out_channels * c.y.taps * c.x.taps * c.weight_pitch) *
         dtype_size(c.compute);
}

void pack_weights(const ConvolutionWeights& w, const Convolution& c, void* to, Queue& queue) {
  if (c.compute == DType::kFloat32) {
    w.dtype == DType::kFloat32 ? run_pack<float, float>(w, c, to, queue)
                               : run_pack<float, bf16>(w, c, to, queue);
  } else {
    w.dtype == DType::kFloat32 ? run_pack<bf16, float>(w, c, to, queue)
                               : run_pack<bf16, bf16>(w, c, to, queue);
  }
}

void pack_transposed_weights(const ConvolutionWeights& w, const Convolution& c, void* to,
                             Queue& queue) {
  if (c.compute == DType::kFloat32) {
    w.dtype == DType::kFloat32 ? run_pack_transposed<float, float>(w, c, to, queue)
                               : run_pack_transposed<float, bf16>(w, c, to, queue);
  } else {
    w.dtype == DType::kFloat32 ? run_pack_transposed<bf16, float>(w, c, to, queue)
                               : run_pack_transposed<bf16, bf16>(w, c, to, queue);
  }
}

}  // namespace vilg::cuda
