#include "model/matcher.h"

#include <algorithm>
#include <cmath>
#include <map>

namespace vilg {
namespace {

constexpr const char* kImagePrefix = "image.";
constexpr const char* kTextPrefix = "text.";
// The paper's temperature of 0.07 to begin with, and its bound "to prevent training instability".
constexpr float kFirstScale = 1 / 0.07f, kLargestScale = 100;
// Tokens that go through a tower together without a tape: bounds the memory of a pass.
constexpr int64_t kPassTokens = 4096;

TransformerConfig image_sizes(TransformerConfig config) {
  config.text_vocab = config.text_length = 1;
  return config;
}

TransformerConfig text_sizes(TransformerConfig config) {
  config.image_vocab = config.grid = 1;
  return config;
}

std::vector<ParameterSpec> matcher_parameters(const MatcherConfig& config) {
  config.validate();
  std::vector<ParameterSpec> specs;
  // As Radford et al.'s towers: from the generator's smaller matrices, all vectors begin alike, and
  // training may end where they stay so.
  const float deviation = 1 / std::sqrt(static_cast<float>(config.sizes.hidden));
  const auto tower = [&](const TransformerConfig& sizes, const std::string& prefix) {
    Transformer::append_parameters(specs, sizes, prefix, deviation);
    const Shape shape{config.dim, sizes.hidden};
    const Init normal{Init::Kind::kNormal, deviation};
    specs.push_back({prefix + "projection.weight", shape, normal, false, true});
    specs.push_back({prefix + "projection.bias", {config.dim}, {Init::Kind::kZero}});
  };
  tower(image_sizes(config.sizes), kImagePrefix);
  tower(text_sizes(config.sizes), kTextPrefix);
  specs.push_back({"logit_scale", {1}, {Init::Kind::kConstant, std::log(kFirstScale)}});
  return specs;
}

// The two streams of a batch. What stands for the other half are a CLS and a picture of one token.
struct Halves {
  std::vector<int32_t> zeros;
  std::vector<uint8_t> ones;
  int64_t batch;

  explicit Halves(int64_t count)
      : zeros(static_cast<size_t>(std::max<int64_t>(count, 0))),
        ones(zeros.size(), 1),
        batch(count) {}
  TokenBatch images(std::span<const int32_t> image) const {
    return {.text = zeros, .text_valid = ones, .image = image, .batch = batch};
  }
  TokenBatch texts(std::span<const int32_t> text, std::span<const uint8_t> valid) const {
    return {.text = text, .text_valid = valid, .image = zeros, .batch = batch};
  }
};

// Pairs first .. first + count - 1.
TokenBatch part_of(const TokenBatch& batch, int64_t first, int64_t count) {
  const auto rows = [&](const auto& all) {
    const auto length = static_cast<int64_t>(all.size()) / batch.batch;
    return all.subspan(static_cast<size_t>(first * length), static_cast<size_t>(count * length));
  };
  return {.text = rows(batch.text),
          .text_valid = rows(batch.text_valid),
          .image = rows(batch.image),
          .batch = count};
}

// Pictures of the same tokens, and texts of the same valid ones. The batch was checked.
PairGroups groups_of(const TokenBatch& batch) {
  PairGroups groups;
  std::map<std::vector<int32_t>, int32_t> images, texts;
  const auto number = [](auto& known, std::vector<int32_t> tokens) {
    const auto next = static_cast<int32_t>(known.size());
    return known.try_emplace(std::move(tokens), next).first->second;
  };
  for (int64_t i = 0; i < batch.batch; ++i) {
    const TokenBatch pair = part_of(batch, i, 1);
    groups.image.push_back(number(images, {pair.image.begin(), pair.image.end()}));
    std::vector<int32_t> words;
    for (size_t j = 0; j < pair.text.size(); ++j) {
      if (pair.text_valid[j]) words.push_back(pair.text[j]);
    }
    groups.text.push_back(number(texts, std::move(words)));
  }
  return groups;
}

}  // namespace

void MatcherConfig::validate() const {
  sizes.validate();
  VILG_CHECK(dim >= 1 && dim <= (1 << 16), kInvalidArgument,
             "Expected dim from 1 to 65536, received %lld", static_cast<long long>(dim));
}

Matcher::Tower::Tower(ParameterList& parameters, const TransformerConfig& config,
                      const std::string& prefix, Direction direction)
    : transformer_(parameters, config, prefix),
      direction_(direction),
      projection_weight_(&parameters[prefix + "projection.weight"]),
      projection_bias_(&parameters[prefix + "projection.bias"]) {}

Value Matcher::Tower::vectors(Tape& tape, const TokenBatch& batch) const {
  const int64_t start = transformer_.config().sizes().image_start(direction_);
  const Value pooled =
      transformer_.normed(tape, transformer_.upload(batch), direction_, start, /*count=*/1);
  return linear(tape, pooled, *projection_weight_, *projection_bias_);
}

Tensor Matcher::Tower::vectors(const TokenBatch& batch, DType precision,
                               const StopFlag* stop) const {
  Backend& backend = transformer_.backend();
  const int64_t length = transformer_.config().sizes().stream_length();
  const int64_t together = std::max<int64_t>(1, kPassTokens / length);
  const int64_t dim = projection_bias_->num_elements();
  const Tensor all = backend.empty(DType::kFloat32, {batch.batch, dim});
  for (int64_t first = 0; first < batch.batch; first += together) {
    const int64_t count = std::min(together, batch.batch - first);
    Tape tape(backend, precision, stop);
    const Value some = vectors(tape, part_of(batch, first, count));
    backend.copy(all.f32() + first * dim, some->data.data(), some->data.size_bytes());
  }
  return all;
}

Matcher::Matcher(Backend& backend, const MatcherConfig& config, DType precision)
    : config_(config),
      precision_(precision),
      parameters_(backend, matcher_parameters(config), precision),
      images_(parameters_, image_sizes(config.sizes), kImagePrefix, Direction::kImageToText),
      texts_(parameters_, text_sizes(config.sizes), kTextPrefix, Direction::kTextToImage),
      logit_scale_(parameters_["logit_scale"]) {}

std::vector<float> Matcher::embed_images(std::span<const int32_t> image, int64_t batch,
                                         const StopFlag* stop) const {
  const Halves halves(batch);
  const TokenBatch images = halves.images(image);
  images_.check(images);
  return unit_rows(backend(), images_.vectors(images, precision_, stop));
}

std::vector<float> Matcher::embed_texts(std::span<const int32_t> text,
                                        std::span<const uint8_t> text_valid, int64_t batch,
                                        const StopFlag* stop) const {
  const Halves halves(batch);
  const TokenBatch texts = halves.texts(text, text_valid);
  texts_.check(texts);
  return unit_rows(backend(), texts_.vectors(texts, precision_, stop));
}

InfoNce Matcher::forward(const TokenBatch& batch, const StopFlag* stop) const {
  const Halves halves(batch.batch);
  const TokenBatch images = halves.images(batch.image);
  const TokenBatch texts = halves.texts(batch.text, batch.text_valid);
  images_.check(images), texts_.check(texts);
  Tape tape(backend(), precision_, stop);
  const Value a = tape.value(images_.vectors(images, precision_, stop));
  const Value b = tape.value(texts_.vectors(texts, precision_, stop));
  return info_nce(tape, a, b, logit_scale_, groups_of(batch), /*weight=*/0);
}

InfoNce Matcher::accumulate_gradients(const TokenBatch& batch, float weight,
                                      const GradientMode& mode, const StopFlag* stop) const {
  VILG_CHECK(
      precision_ == DType::kFloat32, kUnsupported,
      "Gradients need a model in float32 (load it with precision: 'float32'), received one in %s",
      dtype_name(precision_));
  const Halves halves(batch.batch);
  const TokenBatch images = halves.images(batch.image);
  const TokenBatch texts = halves.texts(batch.text, batch.text_valid);
  images_.check(images), texts_.check(texts);
  Tape tape(backend(), mode, stop);
  const Value a = images_.vectors(tape, images), b = texts_.vectors(tape, texts);
  const InfoNce result = info_nce(tape, a, b, logit_scale_, groups_of(batch), weight);
  tape.backward();
  return result;
}

double Matcher::scale() const { return std::exp(static_cast<double>(read_logit_scale())); }

void Matcher::clamp_scale() const {
  const float bound = std::log(kLargestScale);
  if (read_logit_scale() > bound)
    backend().copy_in(logit_scale_.value.data(), &bound, sizeof(bound));
}

float Matcher::read_logit_scale() const {
  float logarithm = 0;
  backend().copy_out(&logarithm, logit_scale_.value.data(), sizeof(logarithm));
  return logarithm;
}

}  // namespace vilg
