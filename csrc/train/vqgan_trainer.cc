#include "train/vqgan_trainer.h"

namespace vilg {

VqganTrainer::VqganTrainer(std::shared_ptr<Vqgan> tokenizer, const OptimizerOptions& options,
                           const GradientMode& mode)
    : tokenizer_(std::move(tokenizer)),
      mode_(mode),
      optimizer_(tokenizer_->parameters(), options),
      revival_(tokenizer_->config().codebook_size) {}

VqganTrainer::Accumulated VqganTrainer::accumulate(std::span<const float> images, int64_t batch,
                                                   const VqganLossWeights& weights, float scale,
                                                   const StopFlag* stop) {
  const int64_t side = tokenizer_->config().resolution;
  Accumulated result;
  prequant_ = Tensor();  // its memory serves this batch
  try {
    result.losses =
        tokenizer_->accumulate_gradients(images, batch, side, side, weights, scale, mode_, stop);
  } catch (...) {
    // half a gradient is nobody's
    tokenizer_->parameters().zero_grad();
    throw;
  }
  prequant_ = std::move(result.losses.prequant);
  revival_.mark(result.losses.indices);
  CodebookUsage usage(tokenizer_->config().codebook_size);
  usage.add(result.losses.indices);
  result.perplexity = usage.perplexity();
  result.codes_used = usage.used();
  return result;
}

Optimizer::Result VqganTrainer::step(float learning_rate, const StopFlag* stop) {
  const Optimizer::Result result = optimizer_.step(learning_rate, stop);
  revival_.advance();
  return result;
}

int64_t VqganTrainer::revive(int64_t updates, uint64_t seed) {
  VILG_CHECK(prequant_, kInvalidArgument,
             "Expected codes to be revived after a training step, whose images they are taken "
             "from; none was made yet");
  const std::vector<int32_t> revived =
      revival_.revive(tokenizer_->backend(), tokenizer_->codebook(), prequant_, updates, seed,
                      static_cast<uint64_t>(optimizer_.steps()));
  const size_t index = tokenizer_->parameters().index_of(tokenizer_->codebook().name);
  for (const Tensor& moment : {optimizer_.first_moment(index), optimizer_.second_moment(index)}) {
    if (moment) zero_rows(tokenizer_->backend(), moment, revived);
  }
  return static_cast<int64_t>(revived.size());
}

void VqganTrainer::initialize_codebook(std::span<const float> images, int64_t batch, uint64_t seed,
                                       const StopFlag* stop) {
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
}

}  // namespace vilg
