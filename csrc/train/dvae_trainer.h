#pragma once

#include <memory>

#include "model/dvae.h"
#include "train/optimizer.h"
#include "train/training_state.h"

namespace vilg {

// Trains a discrete VAE on the evidence lower bound.
class DvaeTrainer {
 public:
  DvaeTrainer(std::shared_ptr<Dvae> tokenizer, const OptimizerOptions& options,
              const GradientMode& mode)
      : tokenizer_(std::move(tokenizer)),
        mode_(mode),
        optimizer_(tokenizer_->parameters(), options) {}

  struct Accumulated {
    DvaeLosses losses;
    double perplexity = 0;  // of the codes of this batch
    int64_t codes_used = 0;
  };
  // Adds `scale` (1 / number of micro-batches) times this batch's gradient. images (B, 3, S, S) in
  // [-1, 1], S the resolution. After an error or Stopped the gradients are zero.
  Accumulated accumulate(std::span<const float> images, int64_t batch,
                         const DvaeLossOptions& options, float scale, const StopFlag* stop);
  Optimizer::Result step(float learning_rate, const StopFlag* stop) {
    return optimizer_.step(learning_rate, stop);
  }
  void discard() { tokenizer_->parameters().zero_grad(); }

  Optimizer& optimizer() { return optimizer_; }
  Dvae& tokenizer() const { return *tokenizer_; }

  // Everything from which training goes on bit for bit.
  std::vector<TrainedPart> parts() { return {{"", &optimizer_}}; }
  TrainingExtras extras() const { return {.kind = "dvae", .arrays = {}, .averages = {}}; }
  void restore(const TrainingExtras&) {}

 private:
  std::shared_ptr<Dvae> tokenizer_;
  GradientMode mode_;
  Optimizer optimizer_;
};

}  // namespace vilg
