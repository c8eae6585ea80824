#pragma once

#include <vector>

#include "autograd/ops.h"

// The ops of image models on tape values. Pictures inside a model are float32 (B, height, width,
// C); only its edges know PyTorch's (B, C, height, width).
namespace vilg {

// GroupNorm's weights and constants.
struct GroupNorm {
  Parameter *gamma = nullptr, *beta = nullptr;  // (C)
  int64_t groups = 32;
  float epsilon = 1e-6f;
};
Value group_norm(Tape& tape, const Value& x, const GroupNorm& norm, bool swish);

// out = bias + residual + conv(in'), in' = x after norm and swish (where `norm` is given), then
// after nearest upsampling, then padded by zeros. Neither in' is kept for the backward pass: it is
// computed again there, so a convolution holds one activation, its input. Pointwise convolutions
// are linear() of ops.h.
struct ConvOptions {
  const GroupNorm* norm = nullptr;  // read during the call only
  Value residual = nullptr;         // like the result
  int64_t stride = 1, upsample = 1;
  int64_t pad_top = 1, pad_left = 1, pad_bottom = 1, pad_right = 1;
};
// `bias` may be null.
Value conv2d(Tape& tape, const Value& x, Parameter& weight, Parameter* bias,
             const ConvOptions& options = {});

// Nearest neighbour, twice the height and width.
Value upsample(Tape& tape, const Value& x);

// x + scale * y
Value add(Tape& tape, const Value& x, const Value& y, float scale);

Value to_channels_last(Tape& tape,
                       const Value& x);  // (B, C, height, width) -> (B, height, width, C)
Value to_channels_first(Tape& tape, const Value& x);  // and back

// One head over all pixels of a picture: softmax(q . k^T / sqrt(C)) . v, each (B, height, width,
// C). Scores exist for a tile of queries of one picture at a time, forward and backward.
Value pixel_attention(Tape& tape, const Value& q, const Value& k, const Value& v);

// Rows of a table, (rows, D) of shape `shape`, which ends in D; the gradient is scattered back.
Value embedding(Tape& tape, const Tensor& indices, Parameter& table, const Shape& shape);

// The nearest code of each vector of z (.., D).
struct Quantized {
  Value codes;               // (.., D); its gradient goes to z unchanged (straight through)
  Tensor indices;            // (rows) int32
  double squared_error = 0;  // mean (z - e)^2 over all elements; 0 where the tape does not record
};
// Losses on the way: commitment_weight * mean (z - sg[e])^2 + codebook_weight * mean (sg[z] - e)^2;
// their gradients go straight into z and the codebook.
Quantized quantize(Tape& tape, const Value& z, Parameter& codebook, float commitment_weight,
                   float codebook_weight);

// Mean squared and mean absolute error against `target`; weight times the gradient goes straight
// into x. Both return the unweighted mean.
double mean_squared_error(Tape& tape, const Value& x, const Tensor& target, float weight);
double mean_absolute_error(Tape& tape, const Value& x, const Tensor& target, float weight);

}  // namespace vilg
