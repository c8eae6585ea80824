#include "model/generator.h"

namespace vilg {
namespace {

std::vector<ParameterSpec> generator_parameters(const GeneratorConfig& config) {
  config.validate();
  std::vector<ParameterSpec> specs;
  Transformer::append_parameters(specs, config);
  const auto head = [&](const std::string& name, int64_t vocab) {
    const Init normal{Init::Kind::kNormal, Transformer::kDeviation};
    specs.push_back({name + ".weight", {vocab, config.hidden}, normal, false, true});
    specs.push_back({name + ".bias", {vocab}, {Init::Kind::kZero}});
  };
  head("text_head", config.text_vocab);
  head("image_head", config.image_vocab);
  return specs;
}

}  // namespace

Generator::Generator(Backend& backend, const GeneratorConfig& config, DType precision)
    : precision_(precision),
      parameters_(backend, generator_parameters(config), precision),
      transformer_(parameters_, config) {}

Value Generator::logits(Tape& tape, const StreamTokens& tokens, Direction direction) {
  const StreamSizes sizes = config().sizes();
  // only the rows that predict something go through the head
  if (direction == Direction::kTextToImage) {
    const Value rows = transformer_.normed(tape, tokens, direction,
                                           sizes.image_start(direction) + config().first_place(),
                                           sizes.image_length());
    return linear(tape, rows, weight("image_head.weight"), weight("image_head.bias"));
  }
  const Value rows = transformer_.normed(tape, tokens, direction, sizes.text_start(direction),
                                         sizes.text_length - 1);
  return linear(tape, rows, weight("text_head.weight"), weight("text_head.bias"));
}

std::vector<int32_t> Generator::targets(const TokenBatch& batch, Direction direction) const {
  if (direction == Direction::kTextToImage) return {batch.image.begin(), batch.image.end()};
  const int64_t t = config().text_length;
  std::vector<int32_t> result;
  result.reserve(static_cast<size_t>(batch.batch * (t - 1)));
  for (int64_t b = 0; b < batch.batch; ++b) {
    for (int64_t j = 1; j < t; ++j) {
      const auto at = static_cast<size_t>(b * t + j);
      const bool asked = batch.text_target.empty() || batch.text_target[at];
      result.push_back(batch.text_valid[at] && asked ? batch.text[at] : -1);
    }
  }
  return result;
}

Generator::Output Generator::forward(const TokenBatch& batch, Direction direction,
                                     const StopFlag* stop) {
  transformer_.check(batch);
  Tape tape(backend(), precision_, stop);
  const Value result = logits(tape, transformer_.upload(batch), direction);
  Output output;
  output.shape = result->data.shape();
  output.logits.resize(static_cast<size_t>(output.shape.num_elements()));
  backend().copy_out(output.logits.data(), result->data.data(), result->data.size_bytes());
  output.loss = cross_entropy(tape, result, targets(batch, direction), {}, &output.row_losses);
  return output;
}

double Generator::accumulate_gradients(const TokenBatch& batch, Direction direction,
                                       const CrossEntropyOptions& options, const GradientMode& mode,
                                       const StopFlag* stop) {
  VILG_CHECK(
      precision_ == DType::kFloat32, kUnsupported,
      "Gradients need a model in float32 (load it with precision: 'float32'), received one in %s",
      dtype_name(precision_));
  transformer_.check(batch);
  Tape tape(backend(), mode, stop);
  const Value result = logits(tape, transformer_.upload(batch), direction);
  const double loss = cross_entropy(tape, result, targets(batch, direction), options);
  tape.backward();
  return loss;
}

}  // namespace vilg
