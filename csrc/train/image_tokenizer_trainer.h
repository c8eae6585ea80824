#pragma once

#include <memory>
#include <span>
#include <vector>

#include "model/vqgan.h"
#include "train/codebook_revival.h"
#include "train/optimizer.h"

namespace vilg {

// Trains an image tokenizer on its own (ERNIE-ViLG eq. 1), and keeps its codebook alive. Pictures
// are (B, 3, S, S) in [-1, 1], S the tokenizer's resolution.
class ImageTokenizerTrainer {
 public:
  ImageTokenizerTrainer(std::shared_ptr<Vqgan> tokenizer, const OptimizerOptions& options,
                        DType compute);

  struct Result {
    VqganLosses losses;
    double perplexity = 0;  // of the codes of this batch
    int64_t codes_used = 0;
  };
  // Adds `scale` (1 / number of micro-batches) times this batch's gradient. After an exception the
  // gradients are zero.
  Result accumulate(std::span<const float> images, int64_t batch, const VqganLossWeights& weights,
                    float scale, const StopFlag* stop);
  Optimizer::Result step(float learning_rate, const StopFlag* stop);

  // Replaces codes that none of the last `patience` updates chose by vectors of the last batch;
  // returns how many. None before the first batch of this trainer.
  int64_t revive(int64_t patience, uint64_t seed);
  // The codebook becomes encoder outputs of these pictures; its moments begin anew.
  void initialize_codebook(std::span<const float> images, int64_t batch, uint64_t seed,
                           const StopFlag* stop);

  Optimizer& optimizer() { return optimizer_; }
  const std::vector<int32_t>& code_ages() const { return revival_.ages(); }
  // For a restored run: the gradients and batches from before are gone.
  void restore_code_ages(std::vector<int32_t> ages);

 private:
  void forget_moments(std::span<const int32_t> codes);

  std::shared_ptr<Vqgan> tokenizer_;
  DType compute_;
  Optimizer optimizer_;
  CodebookRevival revival_;
  std::vector<int32_t> used_;  // codes since the last update
  Tensor prequant_;            // (rows, D) of the last batch
};

}  // namespace vilg
