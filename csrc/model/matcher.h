#pragma once

#include <string>
#include <vector>

#include "autograd/info_nce.h"
#include "model/transformer.h"

namespace vilg {

// config.json of a matcher; field by field in docs/matcher.md.
struct MatcherConfig {
  TransformerConfig sizes;  // of both towers; text_length is that of texts, grid that of pictures
  int64_t dim = 0;          // of the embeddings

  void validate() const;
};

// A dual encoder of pictures and texts (Radford et al. 2021, arXiv 2103.00020): two transformers of
// the generator's blocks. Each ends at IMG, which sees all that its tower is about; a linear layer
// takes its normed hidden state to `dim`. The cosine of two such vectors says how well picture and
// text go together.
class Matcher {
 public:
  Matcher(Backend& backend, const MatcherConfig& config, DType precision);

  const MatcherConfig& config() const { return config_; }
  ParameterList& parameters() { return parameters_; }
  Backend& backend() const { return parameters_.backend(); }
  // The type of the matrices, and of the products.
  DType precision() const { return precision_; }

  // Vectors of unit length, (B, dim). image (B, G*G); text and text_valid (B, T).
  std::vector<float> embed_images(std::span<const int32_t> image, int64_t batch,
                                  const StopFlag* stop = nullptr) const;
  std::vector<float> embed_texts(std::span<const int32_t> text, std::span<const uint8_t> text_valid,
                                 int64_t batch, const StopFlag* stop = nullptr) const;

  // All pairs of the batch, at most kMaxPairs, against each other.
  InfoNce forward(const TokenBatch& batch, const StopFlag* stop = nullptr) const;
  // Adds the gradient of weight * loss to the weights' gradients. mode.compute may be bfloat16
  // while the weights are float32.
  InfoNce accumulate_gradients(const TokenBatch& batch, float weight, const GradientMode& mode,
                               const StopFlag* stop = nullptr) const;

  // What cosines are multiplied by to be logits: 1 / temperature.
  double scale() const;
  // Brings the scale back to 100 where an update took it beyond, as the paper does (2.5).
  void clamp_scale() const;

 private:
  // One half: a stream in which the other half is a single token that IMG does not see.
  class Tower {
   public:
    Tower(ParameterList& parameters, const TransformerConfig& config, const std::string& prefix,
          Direction direction);
    void check(const TokenBatch& batch) const { transformer_.check(batch); }
    // (B, 1, dim), of any length
    Value vectors(Tape& tape, const TokenBatch& batch) const;
    // The same of any number without a tape, some at a time.
    Tensor vectors(const TokenBatch& batch, DType precision, const StopFlag* stop) const;

   private:
    Transformer transformer_;
    Direction direction_;
    Parameter *projection_weight_, *projection_bias_;
  };

  float read_logit_scale() const;

  MatcherConfig config_;
  DType precision_;
  ParameterList parameters_;
  Tower images_, texts_;
  Parameter& logit_scale_;
};

}  // namespace vilg
