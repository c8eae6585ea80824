#include "train/generator_trainer.h"

namespace vilg {

GeneratorTrainer::Losses GeneratorTrainer::accumulate(const TokenBatch& batch,
                                                      const GeneratorLossOptions& options,
                                                      float scale, const StopFlag* stop) {
  VILG_CHECK(options.text_to_image_weight >= 0 && options.image_to_text_weight >= 0 &&
                 options.text_to_image_weight + options.image_to_text_weight > 0,
             kInvalidArgument, "Expected weights of at least 0 and not both 0, received %g and %g",
             static_cast<double>(options.text_to_image_weight),
             static_cast<double>(options.image_to_text_weight));
  Losses losses;
  const auto run = [&](Direction direction, float weight) {
    if (weight == 0) return 0.0;
    return generator_->accumulate_gradients(batch, direction,
                                            {.weight = weight * scale,
                                             .label_smoothing = options.label_smoothing,
                                             .z_loss = options.z_loss},
                                            mode_, stop);
  };
  try {
    losses.text_to_image = run(Direction::kTextToImage, options.text_to_image_weight);
    losses.image_to_text = run(Direction::kImageToText, options.image_to_text_weight);
  } catch (...) {
    // half a gradient is nobody's
    generator_->parameters().zero_grad();
    throw;
  }
  return losses;
}

}  // namespace vilg
