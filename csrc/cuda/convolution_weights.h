#pragma once

#include "cuda/convolution_engine.h"

namespace vilg::cuda {

// Weights of a file, (out_channels, kernel_y, kernel_x, in_channels) of the forward convolution.
struct ConvolutionWeights {
  const void* data = nullptr;
  DType dtype = DType::kFloat32;
  int kernel_y = 1, kernel_x = 1, in_channels = 1, out_channels = 1;
};

// Whether the engine can read them where they lie, for a convolution with plain axes.
bool engine_reads(const ConvolutionWeights& weights, const Convolution& convolution);

// Otherwise: what convolution.weight needs, and its contents. They follow from the axes of the
// convolution, whose weight_pitch is set.
size_t packed_bytes(const Convolution& convolution);
// Sums the taps that plain and upsampled axes read together, in the order of the taps.
void pack_weights(const ConvolutionWeights& weights, const Convolution& convolution, void* to,
                  Queue& queue);
// For gradient axes: in and out channels exchanged, taps in reverse.
void pack_transposed_weights(const ConvolutionWeights& weights, const Convolution& convolution,
                             void* to, Queue& queue);

}  // namespace vilg::cuda
