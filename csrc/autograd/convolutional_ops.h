#pragma once

#include "autograd/tape.h"

// The ops of convolutional networks that VQGAN's own image models (image_ops.h) do without: those
// of discriminators, VGG and discrete VAEs. Pictures are float32 (B, height, width, C).
namespace vilg {

// ReLU with slope 0.
Value leaky_relu(Tape& tape, const Value& x, float slope);

// The largest of each 2 x 2 pixels.
Value max_pool(Tape& tape, const Value& x);

// BatchNorm's weights and constants, as PyTorch's BatchNorm2d has them.
struct BatchNorm {
  Parameter *gamma = nullptr, *beta = nullptr;                     // (C)
  Parameter *running_mean = nullptr, *running_variance = nullptr;  // (C), not trained
  float epsilon = 1e-5f;
  float momentum = 0.1f;  // share of a batch in the running averages
};
// In training mode: by the statistics of this batch, which also go into the running averages (the
// variance as that of a sample, divided by count - 1).
Value batch_norm(Tape& tape, const Value& x, const BatchNorm& norm);
// In evaluation mode: by the running averages. Not differentiated.
Value batch_norm_by_averages(Tape& tape, const Value& x, const BatchNorm& norm);

}  // namespace vilg
