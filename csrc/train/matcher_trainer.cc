#include "train/matcher_trainer.h"

namespace vilg {

InfoNce MatcherTrainer::accumulate(const TokenBatch& batch, float scale, const StopFlag* stop) {
  try {
    return matcher_->accumulate_gradients(batch, scale, mode_, stop);
  } catch (...) {
    discard();  // half a gradient is nobody's
    throw;
  }
}

Optimizer::Result MatcherTrainer::step(float learning_rate, const StopFlag* stop) {
  const Optimizer::Result result = optimizer_.step(learning_rate, stop);
  if (result.applied) matcher_->clamp_scale();
  return result;
}

}  // namespace vilg
