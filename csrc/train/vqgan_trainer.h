#pragma once

#include <memory>
#include <optional>

#include "model/vqgan.h"
#include "train/adversary.h"
#include "train/codebook_averages.h"
#include "train/codebook_rate.h"
#include "train/codebook_revival.h"
#include "train/optimizer.h"
#include "train/training_state.h"

namespace vilg {

struct VqganTrainingOptions {
  AdversaryOptions adversary;
  // The codebook as moving averages; its weight in the loss does not count then.
  std::optional<CodebookAveragesOptions> codebook_averages = std::nullopt;
  // Codes that are seldom chosen cost more.
  std::optional<CodebookRateOptions> codebook_rate = std::nullopt;
  // Throws what is wrong with them for a tokenizer of that configuration.
  void check(const VqganConfig& config) const;
};

// Trains an image tokenizer, and keeps its codebook in use.
class VqganTrainer {
 public:
  VqganTrainer(std::shared_ptr<Vqgan> tokenizer, const OptimizerOptions& options,
               const GradientMode& mode, const VqganTrainingOptions& training = {},
               const StopFlag* stop = nullptr);

  struct Weights {
    VqganLossWeights tokenizer;
    AdversaryWeights adversary = {};
  };
  struct Accumulated {
    VqganLosses losses;
    AdversaryLosses adversary;
    double perplexity = 0;  // of the codes of this batch
    int64_t codes_used = 0;
  };
  // Adds `scale` (1 / number of micro-batches) times this batch's gradient. images (B, 3, S, S) in
  // [-1, 1], S the resolution. After an error or Stopped the gradients are zero.
  Accumulated accumulate(std::span<const float> images, int64_t batch, const Weights& weights,
                         float scale, const StopFlag* stop);
  // One update of the tokenizer, and of the discriminator where it was trained; neither where a
  // gradient of one is not finite.
  Optimizer::Result step(float learning_rate, const StopFlag* stop);
  // Throws away what was gathered.
  void discard();
  // What the perceptual loss and the discriminator say of pictures that are not trained on and
  // their reconstructions, both like the images of accumulate().
  AdversaryLosses measure(std::span<const float> images, std::span<const float> reconstructions,
                          int64_t batch, const StopFlag* stop);

  // Codes that no vector of the last `updates` updates chose become encoder outputs of the last
  // micro-batch, without moments; returns how many did. kInvalidArgument before the first batch.
  int64_t revive(int64_t updates, uint64_t seed);
  // Sets the codebook to encoder outputs of this batch (train/codebook_revival.h).
  void initialize_codebook(std::span<const float> images, int64_t batch, uint64_t seed,
                           const StopFlag* stop);

  Optimizer& optimizer() { return optimizer_; }
  CodebookRevival& revival() { return revival_; }
  Adversary& adversary() { return adversary_; }
  Vqgan& tokenizer() const { return *tokenizer_; }

  // Everything from which training goes on bit for bit.
  std::vector<TrainedPart> parts();
  TrainingExtras extras() const;
  void restore(TrainingExtras extras);

 private:
  // Then nothing changes it: no first codes, no revived ones.
  bool codebook_is_frozen() const;

  std::shared_ptr<Vqgan> tokenizer_;
  GradientMode mode_;
  Optimizer optimizer_;
  CodebookRevival revival_;
  Adversary adversary_;
  std::optional<CodebookAverages> averages_;
  std::optional<CodebookRate> rate_;
  bool discriminating_ = false;   // a batch since the last update had a discriminator's loss
  Tensor prequant_;               // of the last micro-batch
  std::vector<int32_t> indices_;  // the codes that it chose
};

}  // namespace vilg
