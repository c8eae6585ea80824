#include "train/codebook_rate.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace vilg {
namespace {

// No code costs more than that of one choice in a million.
constexpr float kLeast = 1e-6f;

}  // namespace

void CodebookRateOptions::validate(const VqganConfig& config) const {
  VILG_CHECK(weight > 0 && std::isfinite(weight), kInvalidArgument,
             "Expected a positive weight of the codebook's rate, received %g",
             static_cast<double>(weight));
  VILG_CHECK(decay >= 0 && decay < 1, kInvalidArgument,
             "Expected a decay of the codebook's rate from 0 to below 1, received %g",
             static_cast<double>(decay));
  VILG_CHECK(config.quantizer == Quantizer::kNearest && config.codebook_dim >= 2, kInvalidArgument,
             "Expected a quantizer 'nearest' with codes of at least 2 dimensions for a codebook's "
             "rate, which is one of them");
}

CodebookRate::CodebookRate(Vqgan& tokenizer, const CodebookRateOptions& options)
    : tokenizer_(&tokenizer),
      options_(options),
      frequencies_(static_cast<size_t>(tokenizer.config().codebook_size)),
      counts_(frequencies_.size()) {
  options.validate(tokenizer.config());
  reset();
}

void CodebookRate::gather(std::span<const int32_t> indices) {
  for (const int32_t index : indices) ++counts_[static_cast<size_t>(index)];
}

void CodebookRate::update() {
  const auto total =
      static_cast<double>(std::accumulate(counts_.begin(), counts_.end(), int64_t{0}));
  if (total > 0) {
    const double kept = options_.decay;
    for (size_t code = 0; code < counts_.size(); ++code) {
      frequencies_[code] = static_cast<float>(
          kept * frequencies_[code] + (1 - kept) * static_cast<double>(counts_[code]) / total);
    }
  }
  discard();
  write();
}

void CodebookRate::discard() { std::fill(counts_.begin(), counts_.end(), 0); }

void CodebookRate::reset(std::span<const int32_t> codes) {
  if (codes.empty()) return;
  for (const int32_t code : codes) {
    frequencies_[static_cast<size_t>(code)] = 1.0f / static_cast<float>(frequencies_.size());
  }
  write();
}

void CodebookRate::reset() {
  std::fill(frequencies_.begin(), frequencies_.end(),
            1.0f / static_cast<float>(frequencies_.size()));
  discard();
  write();
}

void CodebookRate::restore(std::vector<float> frequencies) {
  VILG_CHECK(frequencies.size() == frequencies_.size(), kCheckpointIncompatible,
             "Expected the frequencies of %zu codes, found those of %zu", frequencies_.size(),
             frequencies.size());
  frequencies_ = std::move(frequencies);
  discard();
}

// The matrices are small, so they go over the host whole.
void CodebookRate::write() {
  Backend& backend = tokenizer_->backend();
  ParameterList& parameters = tokenizer_->parameters();
  const auto change = [&](Parameter& parameter, auto&& edit) {
    std::vector<float> values(static_cast<size_t>(parameter.num_elements()));
    backend.copy_out(values.data(), parameter.value.f32(), parameter.value.size_bytes());
    edit(values);
    backend.copy_in(parameter.value.f32(), values.data(), parameter.value.size_bytes());
  };
  const auto dim = static_cast<size_t>(tokenizer_->config().codebook_dim);
  // (D, 1, 1, C) in memory
  change(parameters["quant_conv.weight"], [&](std::vector<float>& values) {
    std::fill(values.end() - static_cast<ptrdiff_t>(values.size() / dim), values.end(), 0.0f);
  });
  change(parameters["quant_conv.bias"], [&](std::vector<float>& values) { values.back() = 0; });
  // (C, 1, 1, D)
  change(parameters["post_quant_conv.weight"], [&](std::vector<float>& values) {
    for (size_t i = dim - 1; i < values.size(); i += dim) values[i] = 0;
  });
  change(tokenizer_->codebook(), [&](std::vector<float>& values) {
    for (size_t code = 0; code < frequencies_.size(); ++code) {
      const float rate = -std::log(std::max(kLeast, std::min(1.0f, frequencies_[code])));
      values[code * dim + dim - 1] = std::sqrt(options_.weight * rate);
    }
  });
}

}  // namespace vilg
