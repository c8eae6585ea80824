#pragma once

#include "autograd/tape.h"

// The ops of kernels/op_table.h on tape values: each runs its forward op and records its backward.
// Activations are float32.
namespace vilg {

// x (.., K) . weight (N, K)^T + bias, then GELU where asked, then + residual.
struct LinearOptions {
  bool gelu = false;
  Value residual = nullptr;  // not together with gelu
};
Value linear(Tape& tape, const Value& x, Parameter& weight, Parameter& bias,
             const LinearOptions& options = {});

Value layer_norm(Tape& tape, const Value& x, Parameter& gamma, Parameter& beta, float epsilon);

struct StreamTokens {
  Tensor text;        // (B, T) int32
  Tensor text_valid;  // (B, T) uint8; none: all valid
  Tensor image;       // (B, G*G) int32
};
// image_start and modality may be null, which is as if they were 0.
struct StreamTables {
  Parameter *text_embedding, *image_embedding, *image_start, *text_position, *row_position,
      *column_position, *modality;
};
// (B, N, C)
Value stream_embedding(Tape& tape, const StreamTokens& tokens, const StreamTables& tables,
                       Direction direction, const StreamSizes& sizes);

// qkv (B, N, 3*C) -> (B, N, C); text_valid as in StreamTokens
Value stream_attention(Tape& tape, const Value& qkv, const Tensor& text_valid, int64_t heads,
                       Pattern pattern, Direction direction, const StreamSizes& sizes);

// Rows start .. start + count - 1 of every sample: (B, N, C) -> (B, count, C)
Value slice_rows(Tape& tape, const Value& x, int64_t start, int64_t count);

// The rows of every sample of x, then those of y: (B, N, C) and (B, M, C) -> (B, N + M, C)
Value concat_rows(Tape& tape, const Value& x, const Value& y);

// Mean cross-entropy over the rows whose target is not negative, times weight; the gradient goes
// straight into `logits`. Returns the unweighted mean; row_losses (rows), where given, gets every
// row's loss.
struct CrossEntropyOptions {
  float weight = 1.0f;
  float label_smoothing = 0.0f;
  float z_loss = 0.0f;
};
double cross_entropy(Tape& tape, const Value& logits, const std::vector<int32_t>& targets,
                     const CrossEntropyOptions& options, std::vector<float>* row_losses = nullptr);

}  // namespace vilg
