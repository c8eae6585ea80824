#pragma once

#include <memory>

#include "model/generator.h"
#include "train/optimizer.h"
#include "train/training_state.h"

namespace vilg {

// What one micro-batch adds to the gradient.
struct GeneratorLossOptions {
  float text_to_image_weight = 1.0f;  // 0: the direction is left out
  float image_to_text_weight = 1.0f;
  float label_smoothing = 0.0f;
  float z_loss = 0.0f;
};

// Trains a generator: both directions of the same pairs in one step (ERNIE-ViLG eq. 3).
class GeneratorTrainer {
 public:
  GeneratorTrainer(std::shared_ptr<Generator> generator, const OptimizerOptions& options,
                   const GradientMode& mode)
      : generator_(std::move(generator)),
        mode_(mode),
        optimizer_(generator_->parameters(), options) {}

  struct Losses {
    double text_to_image = 0, image_to_text = 0;
  };
  // Adds `scale` (1 / number of micro-batches) times this batch's gradient. After Stopped the
  // gradients are zero.
  Losses accumulate(const TokenBatch& batch, const GeneratorLossOptions& options, float scale,
                    const StopFlag* stop);

  Optimizer::Result step(float learning_rate, const StopFlag* stop) {
    return optimizer_.step(learning_rate, stop);
  }
  // Throws away what was gathered.
  void discard() { generator_->parameters().zero_grad(); }

  Optimizer& optimizer() { return optimizer_; }
  Generator& generator() const { return *generator_; }

  // Everything from which training goes on bit for bit.
  std::vector<TrainedPart> parts() { return {{"", &optimizer_}}; }
  TrainingExtras extras() const { return {.kind = "generator", .arrays = {}, .averages = {}}; }
  void restore(const TrainingExtras&) {}

 private:
  std::shared_ptr<Generator> generator_;
  GradientMode mode_;
  Optimizer optimizer_;
};

}  // namespace vilg
