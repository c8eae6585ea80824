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

  // What public generators have in other ways ("Generators of other families"); off in ERNIE-ViLG.
  std::vector<Pattern> patterns = {};  // of every layer, in place of the rule of pattern()
  bool modality = true;                // tokens are told of which half they are
  bool causal_text = false;            // drawing, text sees the text before it only
  bool text_starts_image = false;      // there is no IMG: the last text token has its place
  bool repeated_start = false;         // the text begins with its first token twice
  bool wrapped_window = false;         // the convolutional window goes on at the opposite edges
  bool sandwich_norm = false;          // two more norms in each block
  bool double_final_norm = false;      // and one more before the heads
  bool padding_seen = false;           // PAD is a token like any other
  int64_t padding_ids = 0;             // above 0: PAD, id 0, becomes padding_ids + its position

  int64_t head_size() const { return hidden / heads; }
  int64_t image_length() const { return grid * grid; }
  // Text tokens that are embedded.
  int64_t embedded_text() const { return text_length + (repeated_start ? 1 : 0); }
  // The place in the grid, as attention sees it, of the first image token: with a repeated start
  // the last text token has the first one, and no place is left for the last image token.
  int64_t first_place() const { return repeated_start ? 1 : 0; }
  // The stream of the blocks: its text is what comes before IMG, or what has its place.
  StreamSizes sizes() const {
    return {.text_length = text_length - (text_starts_image ? 1 : 0),
            .grid = grid,
            .kernel = kernel,
            .causal_text = causal_text,
            .wrapped_window = wrapped_window};
  }
  // Layer i counts from 1: the last is convolutional, else every fourth from the second on columns,
  // else rows (ERNIE-ViLG 3.1.2).
  Pattern pattern(int64_t layer) const {
    if (!patterns.empty()) return patterns[static_cast<size_t>(layer - 1)];
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
    // with sandwich_norm only
    Parameter *attention_out_norm_weight = nullptr, *attention_out_norm_bias = nullptr,
              *mlp_out_norm_weight = nullptr, *mlp_out_norm_bias = nullptr;
  };
  const Block& block(int64_t index) const { return blocks_[static_cast<size_t>(index)]; }  // from 0
  const StreamTables& tables() const { return tables_; }
  Parameter& final_norm_weight() const { return *final_norm_weight_; }
  Parameter& final_norm_bias() const { return *final_norm_bias_; }
  // Null without double_final_norm.
  Parameter* head_norm_weight() const { return head_norm_weight_; }
  Parameter* head_norm_bias() const { return head_norm_bias_; }

  // Hidden states before the final norm, (B, N, H).
  Value hidden(Tape& tape, const StreamTokens& tokens, Direction direction) const;
  // hidden() of the positions start .. start + count - 1 of every stream after the final norms, (B,
  // count, H): only what is read goes through it.
  Value normed(Tape& tape, const StreamTokens& tokens, Direction direction, int64_t start,
               int64_t count) const;

  // Refuses what cannot be: wrong sizes, ids out of range, a text without CLS.
  void check(const TokenBatch& batch) const;
  // Refuses to describe pictures with a model that can only draw them.
  void check(Direction direction) const;
  // The tokens of one text as they are embedded: with the ids of PAD, and a repeated start.
  std::vector<int32_t> text_tokens(std::span<const int32_t> text) const;
  StreamTokens upload(const TokenBatch& batch) const;

 private:
  // The hidden states that the first block gets.
  Value embed(Tape& tape, const StreamTokens& tokens, Direction direction) const;
  // x + linear(branch), which goes through a norm first where the block has one there.
  Value add_branch(Tape& tape, const Value& x, const Value& branch, Parameter& weight,
                   Parameter& bias, Parameter* norm_weight, Parameter* norm_bias) const;
  Value layer(Tape& tape, Value x, int64_t index, const Tensor& text_valid,
              Direction direction) const;

  TransformerConfig config_;
  Backend* backend_;
  StreamTables tables_;
  std::vector<Block> blocks_;
  Parameter *final_norm_weight_, *final_norm_bias_;
  Parameter *head_norm_weight_ = nullptr, *head_norm_bias_ = nullptr;
};

}  // namespace vilg
