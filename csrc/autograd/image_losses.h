#pragma once

#include "autograd/tape.h"

// Losses of pictures beside the errors of image_ops.h. Each returns the unweighted mean; `weight`
// times its gradient goes straight into its first operand.
namespace vilg {

// The distance of LPIPS between features (.., C) and those of a target, channel by channel weighted
// (C): mean over all but the channels (kernels/image_losses.h).
double feature_distance(Tape& tape, const Value& features, const Tensor& target,
                        const Parameter& channel_weights, float weight);

// Hinge loss of a discriminator's logits: mean max(0, 1 - logit) of real pictures, mean max(0, 1 +
// logit) of others.
double hinge_loss(Tape& tape, const Value& logits, bool real, float weight);
// Minus the mean logit: what a generator lowers.
double adversarial_loss(Tape& tape, const Value& logits, float weight);

// Minus the log-likelihood of targets (.., C) in (0, 1) under stats (.., 2 C): mean over values.
double logit_laplace(Tape& tape, const Value& stats, const Tensor& targets, float weight);

// KL divergence of softmax(logits), (.., V), from the uniform distribution: mean over rows.
double uniform_divergence(Tape& tape, const Value& logits, float weight);

// softmax((logits + Gumbel noise) / temperature) over the last dimension.
struct GumbelOptions {
  float temperature = 1;
  bool hard = false;  // straight through: 1 for the largest, 0 for others; the gradient stays that
                      // of the softmax
  uint64_t seed = 0;
  uint32_t draw = 0;  // keeps the draws of one seed apart
};
struct GumbelSoftmax {
  Value probabilities;           // like the logits
  std::vector<int32_t> indices;  // the largest of each row
};
GumbelSoftmax gumbel_softmax(Tape& tape, const Value& logits, const GumbelOptions& options);

}  // namespace vilg
