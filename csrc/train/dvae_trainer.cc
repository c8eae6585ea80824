#include "train/dvae_trainer.h"

#include "train/codebook_revival.h"

namespace vilg {

DvaeTrainer::Accumulated DvaeTrainer::accumulate(std::span<const float> images, int64_t batch,
                                                 const DvaeLossOptions& options, float scale,
                                                 const StopFlag* stop) {
  const int64_t side = tokenizer_->resolution();
  Accumulated result;
  try {
    result.losses =
        tokenizer_->accumulate_gradients(images, batch, side, side, options, scale, mode_, stop);
  } catch (...) {
    discard();  // half a gradient is nobody's
    throw;
  }
  CodebookUsage usage(tokenizer_->codebook_size());
  usage.add(result.losses.indices);
  result.perplexity = usage.perplexity();
  result.codes_used = usage.used();
  return result;
}

}  // namespace vilg
