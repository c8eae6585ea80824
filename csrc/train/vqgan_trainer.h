#pragma once

#include <memory>

#include "model/vqgan.h"
#include "train/codebook_revival.h"
#include "train/optimizer.h"

namespace vilg {

// Trains an image tokenizer, and keeps its codebook in use.
class VqganTrainer {
 public:
  VqganTrainer(std::shared_ptr<Vqgan> tokenizer, const OptimizerOptions& options,
               const GradientMode& mode);

  struct Accumulated {
    VqganLosses losses;
    double perplexity = 0;  // of the codes of this batch
    int64_t codes_used = 0;
  };
  // Adds `scale` (1 / number of micro-batches) times this batch's gradient. images (B, 3, S, S) in
  // [-1, 1], S the resolution. After an error or Stopped the gradients are zero.
  Accumulated accumulate(std::span<const float> images, int64_t batch,
                         const VqganLossWeights& weights, float scale, const StopFlag* stop);
  Optimizer::Result step(float learning_rate, const StopFlag* stop);

  // Codes that no vector of the last `updates` updates chose become encoder outputs of the last
  // micro-batch, without moments; returns how many did. kInvalidArgument before the first batch.
  int64_t revive(int64_t updates, uint64_t seed);
  // Sets the codebook to encoder outputs of this batch (train/codebook_revival.h).
  void initialize_codebook(std::span<const float> images, int64_t batch, uint64_t seed,
                           const StopFlag* stop);

  Optimizer& optimizer() { return optimizer_; }
  CodebookRevival& revival() { return revival_; }
  Vqgan& tokenizer() const { return *tokenizer_; }

 private:
  std::shared_ptr<Vqgan> tokenizer_;
  GradientMode mode_;
  Optimizer optimizer_;
  CodebookRevival revival_;
  Tensor prequant_;  // of the last micro-batch
};

}  // namespace vilg
