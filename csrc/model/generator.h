#pragma once

#include <vector>

#include "model/transformer.h"

namespace vilg {

// config.json of a generator: the heads have the sizes of the vocabularies.
using GeneratorConfig = TransformerConfig;

// The bidirectional transformer (ERNIE-ViLG 3.1.2): one set of weights for both directions, and a
// head for each.
class Generator {
 public:
  Generator(Backend& backend, const GeneratorConfig& config, DType precision);

  const GeneratorConfig& config() const { return transformer_.config(); }
  ParameterList& parameters() { return parameters_; }
  Backend& backend() const { return parameters_.backend(); }
  // The type of the matrices, and of the products.
  DType precision() const { return precision_; }

  Parameter& weight(std::string_view name) { return parameters_[name]; }
  // Everything up to the heads.
  const Transformer& transformer() const { return transformer_; }

  // Text to image: logits at IMG, z1 .. z(n-1), (B, n, Vz). Image to text: at CLS, t1 .., (B, M -
  // 1, Vt).
  Value logits(Tape& tape, const StreamTokens& tokens, Direction direction);
  // What those logits must predict; -1 where nothing (PAD, and what text_target leaves out).
  std::vector<int32_t> targets(const TokenBatch& batch, Direction direction) const;

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
  DType precision_;
  ParameterList parameters_;
  Transformer transformer_;
};

}  // namespace vilg
