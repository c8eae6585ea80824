#pragma once

#include <memory>

#include "model/matcher.h"
#include "train/optimizer.h"
#include "train/training_state.h"

namespace vilg {

// Trains both towers of a matcher and its temperature.
class MatcherTrainer {
 public:
  MatcherTrainer(std::shared_ptr<Matcher> matcher, const OptimizerOptions& options,
                 const GradientMode& mode)
      : matcher_(std::move(matcher)), mode_(mode), optimizer_(matcher_->parameters(), options) {}

  // Adds `scale` (1 / number of micro-batches) times this batch's gradient. Pairs of a batch are
  // compared with each other alone. After an error or Stopped the gradients are zero.
  InfoNce accumulate(const TokenBatch& batch, float scale, const StopFlag* stop);
  Optimizer::Result step(float learning_rate, const StopFlag* stop);
  // Throws away what was gathered.
  void discard() { matcher_->parameters().zero_grad(); }

  Optimizer& optimizer() { return optimizer_; }
  Matcher& matcher() const { return *matcher_; }

  // Everything from which training goes on bit for bit.
  std::vector<TrainedPart> parts() { return {{"", &optimizer_}}; }
  TrainingExtras extras() const { return {.kind = "matcher", .arrays = {}, .averages = {}}; }
  void restore(const TrainingExtras&) {}

 private:
  std::shared_ptr<Matcher> matcher_;
  GradientMode mode_;
  Optimizer optimizer_;
};

}  // namespace vilg
