#pragma once

#include <span>
#include <string>
#include <vector>

#include "autograd/ops.h"
#include "model/parameters.h"

namespace vilg {

// Sizes of a stream of text and image tokens and of the blocks that it goes through; field by field
// in docs/model.md.
struct TransformerConfig {
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

// Embeddings and pre-norm blocks of a stream (ERNIE-ViLG 3.1.2): what all models of tokens share;
// the direction decides order and mask. Its weights are part of a model's list, after a prefix.
class Transformer {
 public:
  // Of fresh weights, unless a model says otherwise of its matrices.
  static constexpr float kDeviation = 0.02f;
  // Appends the weights in the order of the network: embeddings, blocks, final norm. `deviation` is
  // that of fresh matrices; those that add to the residual stream have it divided by sqrt(2
  // layers).
  static void append_parameters(std::vector<ParameterSpec>& specs, const TransformerConfig& config,
                                const std::string& prefix = "", float deviation = kDeviation);

  // `parameters` has the weights that append_parameters() gave for this config and prefix, and
  // outlives the transformer.
  Transformer(ParameterList& parameters, const TransformerConfig& config,
              const std::string& prefix = "");

  const TransformerConfig& config() const { return config_; }
  Backend& backend() const { return *backend_; }

  struct Block {
    Parameter *attention_norm_weight, *attention_norm_bias, *query_key_value_weight,
        *query_key_value_bias, *attention_out_weight, *attention_out_bias, *mlp_norm_weight,
        *mlp_norm_bias, *mlp_in_weight, *mlp_in_bias, *mlp_out_weight, *mlp_out_bias;
  };
  const Block& block(int64_t index) const { return blocks_[static_cast<size_t>(index)]; }  // from 0
  const StreamTables& tables() const { return tables_; }
  Parameter& final_norm_weight() const { return *final_norm_weight_; }
  Parameter& final_norm_bias() const { return *final_norm_bias_; }

  // Hidden states before the final norm, (B, N, H).
  Value hidden(Tape& tape, const StreamTokens& tokens, Direction direction) const;
  // hidden() of the positions start .. start + count - 1 of every stream after the final norm, (B,
  // count, H): only what is read goes through it.
  Value normed(Tape& tape, const StreamTokens& tokens, Direction direction, int64_t start,
               int64_t count) const;

  // Refuses what cannot be: wrong sizes, ids out of range, a text without CLS.
  void check(const TokenBatch& batch) const;
  StreamTokens upload(const TokenBatch& batch) const;

 private:
  Value layer(Tape& tape, Value x, int64_t index, const Tensor& text_valid,
              Direction direction) const;

  TransformerConfig config_;
  Backend* backend_;
  StreamTables tables_;
  std::vector<Block> blocks_;
  Parameter *final_norm_weight_, *final_norm_bias_;
};

}  // namespace vilg
