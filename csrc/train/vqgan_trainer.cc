#include "train/vqgan_trainer.h"

#include <cmath>

namespace vilg {

void VqganTrainingOptions::check(const VqganConfig& config) const {
  adversary.check(config.resolution);
  if (codebook_averages) codebook_averages->validate();
  if (codebook_rate) codebook_rate->validate(config);
}

namespace {
// Groups are about the tokenizer; the discriminator learns as a whole.
OptimizerOptions without_groups(OptimizerOptions options) {
  options.groups.clear();
  return options;
}
}  // namespace

VqganTrainer::VqganTrainer(std::shared_ptr<Vqgan> tokenizer, const OptimizerOptions& options,
                           const GradientMode& mode, const VqganTrainingOptions& training,
                           const StopFlag* stop)
    : tokenizer_(std::move(tokenizer)),
      mode_(mode),
      optimizer_(tokenizer_->parameters(), options),
      revival_(tokenizer_->config().codebook_size),
      adversary_(tokenizer_->backend(), training.adversary, without_groups(options), stop) {
  training.check(tokenizer_->config());
  VILG_CHECK(!(training.codebook_averages || training.codebook_rate) || !codebook_is_frozen(),
             kInvalidArgument,
             "Expected a codebook that learns with averages or a rate, received a frozen one");
  if (training.codebook_averages) {
    averages_.emplace(tokenizer_->backend(), tokenizer_->codebook(), *training.codebook_averages);
  }
  if (training.codebook_rate) rate_.emplace(*tokenizer_, *training.codebook_rate);
}

VqganTrainer::Accumulated VqganTrainer::accumulate(std::span<const float> images, int64_t batch,
                                                   const Weights& weights, float scale,
                                                   const StopFlag* stop) {
  const int64_t side = tokenizer_->config().resolution;
  VqganLossWeights of_tokenizer = weights.tokenizer;
  if (averages_) of_tokenizer.codebook = 0;
  Accumulated result;
  prequant_ = Tensor();  // its memory serves this batch
  try {
    result.losses = tokenizer_->accumulate_gradients(
        images, batch, side, side, of_tokenizer, scale, mode_, stop,
        [&](const Reconstruction& reconstruction) {
          return adversary_.accumulate(reconstruction, weights.adversary, scale, result.adversary);
        });
  } catch (...) {
    discard();  // half a gradient is nobody's
    throw;
  }
  discriminating_ |= adversary_.discriminator() && weights.adversary.discriminator != 0;
  prequant_ = std::move(result.losses.prequant);
  revival_.mark(result.losses.indices);
  indices_ = result.losses.indices;
  if (averages_) averages_->gather(prequant_, indices_);
  if (rate_) rate_->gather(indices_);
  CodebookUsage usage(tokenizer_->config().codebook_size);
  usage.add(result.losses.indices);
  result.perplexity = usage.perplexity();
  result.codes_used = usage.used();
  return result;
}

AdversaryLosses VqganTrainer::measure(std::span<const float> images,
                                      std::span<const float> reconstructions, int64_t batch,
                                      const StopFlag* stop) {
  Backend& backend = tokenizer_->backend();
  Tape tape(backend, DType::kFloat32, stop);
  const auto pictures = [&](std::span<const float> values) {
    return tokenizer_->upload_pictures(tape, values, batch)->data;
  };
  return adversary_.measure(backend, pictures(images), pictures(reconstructions), stop);
}

void VqganTrainer::discard() {
  tokenizer_->parameters().zero_grad();
  adversary_.discard();
  if (averages_) averages_->discard();
  if (rate_) rate_->discard();
  discriminating_ = false;
}

Optimizer::Result VqganTrainer::step(float learning_rate, const StopFlag* stop) {
  Optimizer::Result result;
  // before either changes anything
  const double of_discriminator = discriminating_ ? adversary_.optimizer()->gradient_norm() : 0;
  if (!std::isfinite(of_discriminator)) {
    result.gradient_norm = of_discriminator;
  } else {
    result = optimizer_.step(learning_rate, stop);
  }
  revival_.advance();
  if (!result.applied) {
    discard();
    return result;
  }
  if (discriminating_) adversary_.optimizer()->step(learning_rate, nullptr);
  discriminating_ = false;
  if (averages_) averages_->update(tokenizer_->codebook());
  if (rate_) rate_->update();
  return result;
}

bool VqganTrainer::codebook_is_frozen() const {
  return optimizer_.frozen()[tokenizer_->parameters().index_of(tokenizer_->codebook().name)];
}

int64_t VqganTrainer::revive(int64_t updates, uint64_t seed) {
  if (codebook_is_frozen()) return 0;
  VILG_CHECK(prequant_, kInvalidArgument,
             "Expected codes to be revived after a training step, whose images they are taken "
             "from; none was made yet");
  const std::vector<int32_t> revived =
      revival_.revive(tokenizer_->backend(), tokenizer_->codebook(), prequant_, indices_, updates,
                      seed, static_cast<uint64_t>(optimizer_.steps()));
  const size_t index = tokenizer_->parameters().index_of(tokenizer_->codebook().name);
  for (const Tensor& moment : {optimizer_.first_moment(index), optimizer_.second_moment(index)}) {
    if (moment) zero_rows(tokenizer_->backend(), moment, revived);
  }
  if (averages_) averages_->reset(tokenizer_->codebook(), revived);
  if (rate_) rate_->reset(revived);
  return static_cast<int64_t>(revived.size());
}

void VqganTrainer::initialize_codebook(std::span<const float> images, int64_t batch, uint64_t seed,
                                       const StopFlag* stop) {
  if (codebook_is_frozen()) return;
  const VqganConfig& config = tokenizer_->config();
  const Vqgan::Encoding encoding =
      tokenizer_->encode(images, batch, config.resolution, config.resolution, stop);
  // (B, D, h * w) -> (B * h * w, D)
  const int64_t dim = config.codebook_dim;
  const auto codes = static_cast<int64_t>(encoding.indices.size()) / batch;
  std::vector<float> vectors(encoding.prequant.size());
  for (int64_t b = 0; b < batch; ++b) {
    for (int64_t d = 0; d < dim; ++d) {
      for (int64_t p = 0; p < codes; ++p) {
        vectors[static_cast<size_t>((b * codes + p) * dim + d)] =
            encoding.prequant[static_cast<size_t>((b * dim + d) * codes + p)];
      }
    }
  }
  Backend& backend = tokenizer_->backend();
  vilg::initialize_codebook(backend, tokenizer_->codebook(),
                            backend.upload(vectors.data(), DType::kFloat32, {batch * codes, dim}),
                            seed);
  if (averages_) averages_->reset(tokenizer_->codebook());
  if (rate_) rate_->reset();
}

std::vector<TrainedPart> VqganTrainer::parts() {
  std::vector<TrainedPart> parts{{"", &optimizer_}};
  if (adversary_.optimizer()) parts.push_back({"discriminator.", adversary_.optimizer()});
  return parts;
}

TrainingExtras VqganTrainer::extras() const {
  TrainingExtras extras{
      .kind = "image-tokenizer", .arrays = {{"code_ages", revival_.ages()}}, .averages = {}};
  if (averages_) {
    extras.averages["code_counts"] = averages_->counts();
    extras.averages["code_sums"] = averages_->sums();
  }
  if (rate_) extras.averages["code_frequencies"] = rate_->frequencies();
  return extras;
}

void VqganTrainer::restore(TrainingExtras extras) {
  revival_.restore(std::move(extras.arrays.at("code_ages")));
  if (averages_) {
    averages_->restore(std::move(extras.averages.at("code_counts")),
                       std::move(extras.averages.at("code_sums")));
  }
  if (rate_) rate_->restore(std::move(extras.averages.at("code_frequencies")));
  discriminating_ = false;
}

}  // namespace vilg
