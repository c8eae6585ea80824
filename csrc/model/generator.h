#pragma once

#include <span>
#include <vector>

#include "autograd/ops.h"
#include "model/parameters.h"

namespace vilg {

// config.json of a generator; field by field in docs/model.md.
struct GeneratorConfig {
  int64_t layers = 0, hidden = 0, heads = 0;
  int64_t text_vocab = 0, image_vocab = 0;
  int64_t text_length = 0, grid = 0, kernel = 0;
  bool full_attention = false;  // attention: "full"
  float layer_norm_epsilon = 1e-5f;

  int64_t head_size() const { return hidden / heads; }
  int64_t image_length() const { return grid * grid; }
  StreamSizes sizes() const { return {.text_length = text_length, .grid = grid, .kernel = kernel}; }
  // Layer i counts from 1: the last is convolutional, else every fourth from the second on columns,
  // else rows (ERNIE-ViLG 3.1.2).
  Pattern pattern(int64_t layer) const {
    if (full_attention) return Pattern::kFull;
    if (layer == layers) return Pattern::kConv;
    return layer % 4 == 2 ? Pattern::kColumn : Pattern::kRow;
  }
  void validate() const;
};

std::vector<ParameterSpec> generator_parameters(const GeneratorConfig& config);

// B pairs in host memory.
struct TokenBatch {
  std::span<const int32_t> text;        // (B, T)
  std::span<const uint8_t> text_valid;  // (B, T)
  std::span<const int32_t> image;       // (B, G*G)
  // (B, T), 1 where the loss of describing asks for the token: answers, but not their questions.
  // Empty: every valid token but CLS.
  std::span<const uint8_t> text_target = {};
  int64_t batch = 0;
};

// The bidirectional transformer (ERNIE-ViLG 3.1.2): pre-norm blocks, one set of weights, the
// direction decides order and mask.
class Generator {
 public:
  Generator(Backend& backend, const GeneratorConfig& config, DType precision);

  const GeneratorConfig& config() const { return config_; }
  ParameterList& parameters() { return parameters_; }
  Backend& backend() const { return parameters_.backend(); }
  // The type of the matrices, and of the products.
  DType precision() const { return precision_; }

  struct Block {
    Parameter *attention_norm_weight, *attention_norm_bias, *query_key_value_weight,
        *query_key_value_bias, *attention_out_weight, *attention_out_bias, *mlp_norm_weight,
        *mlp_norm_bias, *mlp_in_weight, *mlp_in_bias, *mlp_out_weight, *mlp_out_bias;
  };
  Block& block(int64_t index) { return blocks_[static_cast<size_t>(index)]; }  // from 0
  Parameter& weight(std::string_view name) { return parameters_[name]; }
  StreamTables tables();

  // Everything up to the heads: hidden states before the final norm, (B, N, H).
  Value hidden(Tape& tape, const StreamTokens& tokens, Direction direction);
  // Text to image: logits at IMG, z1 .. z(n-1), (B, n, Vz). Image to text: at CLS, t1 .., (B, M -
  // 1, Vt).
  Value logits(Tape& tape, const StreamTokens& tokens, Direction direction);
  // What those logits must predict; -1 where nothing (PAD, and what text_target leaves out).
  std::vector<int32_t> targets(const TokenBatch& batch, Direction direction) const;

  // Refuses what cannot be: wrong sizes, ids out of range, a text without CLS.
  void check(const TokenBatch& batch) const;
  StreamTokens upload(const TokenBatch& batch);

  struct Output {
    std::vector<float> logits;
    Shape shape;
    double loss = 0;
    std::vector<float> row_losses;  // one a logit row
  };
  Output forward(const TokenBatch& batch, Direction direction, const StopFlag* stop = nullptr);
  // Adds the gradient of options.weight * loss to the weights' gradients; returns the unweighted
  // loss. mode.compute may be bfloat16 while the weights are float32.
  double accumulate_gradients(const TokenBatch& batch, Direction direction,
                              const CrossEntropyOptions& options, const GradientMode& mode,
                              const StopFlag* stop = nullptr);

 private:
  Value layer(Tape& tape, Value x, int64_t index, const Tensor& text_valid, Direction direction);

  GeneratorConfig config_;
  DType precision_;
  ParameterList parameters_;
  std::vector<Block> blocks_;
};

}  // namespace vilg
