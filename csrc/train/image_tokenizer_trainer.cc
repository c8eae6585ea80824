#include "train/image_tokenizer_trainer.h"

#include <numeric>

namespace vilg {

ImageTokenizerTrainer::ImageTokenizerTrainer(std::shared_ptr<Vqgan> tokenizer,
                                             const OptimizerOptions& options, DType compute)
    : tokenizer_(std::move(tokenizer)),
      compute_(compute),
      optimizer_(tokenizer_->parameters(), options),
      revival_(tokenizer_->config().codebook_size) {}

ImageTokenizerTrainer::Result ImageTokenizerTrainer::accumulate(std::span<const float> images,
                                                                int64_t batch,
                                                                const VqganLossWeights& weights,
                                                                float scale, const StopFlag* stop) {
  const int64_t side = tokenizer_->config().resolution;
  const VqganLossWeights scaled{.reconstruction = weights.reconstruction * scale,
                                .absolute = weights.absolute * scale,
                                .encoder = weights.encoder * scale,
                                .codebook = weights.codebook * scale};
  Result result;
  try {
    result.losses =
        tokenizer_->accumulate_gradients(images, batch, side, side, scaled, compute_, stop);
  } catch (...) {
    // half a gradient is nobody's
    tokenizer_->parameters().zero_grad();
    used_.clear();
    throw;
  }
  result.losses.total = weights.reconstruction * result.losses.reconstruction +
                        weights.absolute * result.losses.absolute +
                        (weights.encoder + weights.codebook) * result.losses.quantization;
  CodebookUsage usage(tokenizer_->config().codebook_size);
  usage.add(result.losses.indices);
  result.perplexity = usage.perplexity();
  result.codes_used = usage.used();
  used_.insert(used_.end(), result.losses.indices.begin(), result.losses.indices.end());
  prequant_ = result.losses.prequant;
  return result;
}

Optimizer::Result ImageTokenizerTrainer::step(float learning_rate, const StopFlag* stop) {
  const Optimizer::Result result = optimizer_.step(learning_rate, stop);
  if (result.applied) revival_.observe(used_);
  used_.clear();
  return result;
}

int64_t ImageTokenizerTrainer::revive(int64_t patience, uint64_t seed) {
  if (!prequant_) return 0;
  const std::vector<int32_t> revived =
      revival_.revive(tokenizer_->backend(), tokenizer_->codebook(), prequant_, patience, seed,
                      static_cast<uint64_t>(optimizer_.steps()));
  forget_moments(revived);
  return static_cast<int64_t>(revived.size());
}

void ImageTokenizerTrainer::initialize_codebook(std::span<const float> images, int64_t batch,
                                                uint64_t seed, const StopFlag* stop) {
  const VqganConfig& config = tokenizer_->config();
  const int64_t dim = config.codebook_dim;
  const Vqgan::Encoding encoding =
      tokenizer_->encode(images, batch, config.resolution, config.resolution, stop);
  // (B, D, h*w) to (B*h*w, D)
  const auto pixels = static_cast<int64_t>(encoding.prequant.size()) / (batch * dim);
  std::vector<float> vectors(encoding.prequant.size());
  for (int64_t b = 0; b < batch; ++b) {
    for (int64_t d = 0; d < dim; ++d) {
      for (int64_t p = 0; p < pixels; ++p) {
        vectors[static_cast<size_t>((b * pixels + p) * dim + d)] =
            encoding.prequant[static_cast<size_t>((b * dim + d) * pixels + p)];
      }
    }
  }
  Backend& backend = tokenizer_->backend();
  const Tensor prequant = backend.upload(vectors.data(), DType::kFloat32, {batch * pixels, dim});
  vilg::initialize_codebook(backend, tokenizer_->codebook(), prequant, seed);
  std::vector<int32_t> all(static_cast<size_t>(config.codebook_size));
  std::iota(all.begin(), all.end(), 0);
  forget_moments(all);
  revival_.restore(std::vector<int32_t>(all.size(), 0));
}

void ImageTokenizerTrainer::restore_code_ages(std::vector<int32_t> ages) {
  revival_.restore(std::move(ages));
  used_.clear();
  prequant_ = {};
}

void ImageTokenizerTrainer::forget_moments(std::span<const int32_t> codes) {
  const size_t index = tokenizer_->parameters().index_of(tokenizer_->codebook().name);
  zero_rows(tokenizer_->backend(), optimizer_.first_moment(index), codes);
  zero_rows(tokenizer_->backend(), optimizer_.second_moment(index), codes);
}

}  // namespace vilg
