#include "core/memory.h"
#include "cuda/convolution_weights.h"
#include "cuda/cuda_ops.h"
#include "cuda/launch.h"
#include "cuda/operand_rows.h"

namespace vilg::cuda {

void conv2d_forward(const Conv2dForwardParams& p, Queue& queue) {
  Convolution c;
  c.out = p.out;
  c.in = p.x;
  c.residual = p.residual;
  c.bias = p.bias;
  c.norm_mean = p.norm_mean, c.norm_rstd = p.norm_rstd;
  c.norm_gamma = p.norm_gamma, c.norm_beta = p.norm_beta;
  c.norm_groups = static_cast<int>(p.norm_mean ? p.norm_groups : 1);
  c.dtype = p.dtype;
  c.compute = p.compute;
  c.batch = static_cast<int>(p.batch);
  c.in_channels = static_cast<int>(p.in_channels);
  c.out_channels = static_cast<int>(p.out_channels);
  if (p.upsample == 2 && p.stride == 1) {
    // 3 x 3 taps as 2 x 2: four ninths of the products
    c.y = ConvolutionAxis::upsampled(p.height, p.out_height(), p.kernel_y, p.pad_top);
    c.x = ConvolutionAxis::upsampled(p.width, p.out_width(), p.kernel_x, p.pad_left);
  } else {
    c.fold = p.upsample == 2 ? 1 : 0;
    c.y = ConvolutionAxis::plain(p.height * p.upsample, p.out_height(), p.kernel_y, p.stride,
                                 p.pad_top);
    c.x = ConvolutionAxis::plain(p.width * p.upsample, p.out_width(), p.kernel_x, p.stride,
                                 p.pad_left);
  }
  c.weight_pitch = padded_columns(p.in_channels, p.compute);
  const ConvolutionWeights weights{
      p.weight,      p.weight_dtype, static_cast<int>(p.kernel_y), static_cast<int>(p.kernel_x),
      c.in_channels, c.out_channels};
  const bool as_they_are = engine_reads(weights, c);
  Workspace packed(queue.allocator(), as_they_are ? 0 : packed_bytes(c));
  c.weight = as_they_are ? p.weight : packed.data();
  if (!as_they_are) pack_weights(weights, c, packed.data(), queue);
  run_convolution(c, queue);
}

}  // namespace vilg::cuda
