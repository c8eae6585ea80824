// The gradients of a convolution: by its input a convolution of the engine, by the weights a
// product of its own, by the bias a sum over the pixels in two passes of fixed order.
#include "core/memory.h"
#include "cuda/convolution_weight_gradient.h"
#include "cuda/convolution_weights.h"
#include "cuda/cuda_ops.h"
#include "cuda/launch.h"
#include "cuda/operand_rows.h"

namespace vilg::cuda {
namespace {

constexpr int kThreads = 256, kWarps = kThreads / kLanes;

// partial (parts, channels): a block sums kLanes channels of the rows of one part.
template <typename T>
__global__ void __launch_bounds__(kThreads)
    sum_rows_kernel(float* partial, const T* rows, int64_t count, int channels) {
  VILG_SHARED_MEMORY(smem);
  auto* sums = reinterpret_cast<float*>(smem);  // [kWarps][kLanes]
  wait_for_previous_kernel();
  const int channel = static_cast<int>(blockIdx.x) * kLanes + lane_id();
  const int64_t part = blockIdx.y, parts = gridDim.y;
  float sum = 0;
  if (channel < channels) {
    const int64_t end = count * (part + 1) / parts;
#pragma unroll 4
    for (int64_t row = count * part / parts + warp_id(); row < end; row += kWarps) {
      sum += to_float(rows[row * channels + channel]);
    }
  }
  sums[threadIdx.x] = sum;
  __syncthreads();
  if (warp_id() > 0 || channel >= channels) return;
  for (int warp = 1; warp < kWarps; ++warp) sum += sums[warp * kLanes + lane_id()];
  partial[part * channels + channel] = sum;
}

template <typename T>
void add_bias_gradient(const Conv2dBackwardParams& p, Queue& queue) {
  const int64_t rows = p.batch * p.out_height() * p.out_width();
  const int64_t parts = min(ceil_div(rows, 64), int64_t{256});
  Workspace partial(queue.allocator(), static_cast<size_t>(parts * p.out_channels) * sizeof(float));
  launch(queue,
         {dim3(ceil_div(p.out_channels, kLanes), parts), kThreads, kThreads * sizeof(float),
          /*overlaps=*/true},
         sum_rows_kernel<T>, partial.as<float>(), static_cast<const T*>(p.dout), rows,
         static_cast<int>(p.out_channels));
  add_partial_sums(p.dbias, partial.as<float>(), parts, p.out_channels, queue);
}

void input_gradient(const Conv2dBackwardParams& p, Queue& queue) {
  Convolution c;
  c.out = p.dx;
  c.in = p.dout;
  c.residual = p.accumulate ? p.dx : nullptr;
  c.dtype = p.dtype;
  c.compute = p.compute;
  c.batch = static_cast<int>(p.batch);
  c.in_channels = static_cast<int>(p.out_channels);
  c.out_channels = static_cast<int>(p.in_channels);
  c.y = ConvolutionAxis::gradient(p.height, p.out_height(), p.kernel_y, p.stride, p.pad_top);
  c.x = ConvolutionAxis::gradient(p.width, p.out_width(), p.kernel_x, p.stride, p.pad_left);
  c.weight_pitch = padded_columns(p.out_channels, p.compute);
  Workspace packed(queue.allocator(), packed_bytes(c));
  c.weight = packed.data();
  pack_transposed_weights({p.weight, p.weight_dtype, static_cast<int>(p.kernel_y),
                           static_cast<int>(p.kernel_x), c.out_channels, c.in_channels},
                          c, packed.data(), queue);
  run_convolution(c, queue);
}

}  // namespace

void conv2d_backward(const Conv2dBackwardParams& p, Queue& queue) {
  if (p.dx) input_gradient(p, queue);
  if (p.dweight) add_weight_gradient(p, queue);
  if (!p.dbias) return;
  p.dtype == DType::kFloat32 ? add_bias_gradient<float>(p, queue)
                             : add_bias_gradient<bf16>(p, queue);
}

}  // namespace vilg::cuda
