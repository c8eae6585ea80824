#include "model/generator.h"

#include <cmath>

namespace vilg {

void GeneratorConfig::validate() const {
  const auto positive = [](const char* name, int64_t value, int64_t max) {
    VILG_CHECK(value >= 1 && value <= max, kInvalidArgument,
               "Expected %s from 1 to %lld, received %lld", name, static_cast<long long>(max),
               static_cast<long long>(value));
  };
  positive("layers", layers, 1000);
  positive("hidden", hidden, 1 << 16);
  positive("heads", heads, hidden);
  positive("textVocab", text_vocab, 1 << 24);
  positive("imageVocab", image_vocab, 1 << 24);
  positive("grid", grid, 256);
  positive("kernel", kernel, 511);
  VILG_CHECK(text_length >= 2 && text_length <= (1 << 16), kInvalidArgument,
             "Expected textLength from 2 (CLS and SEP) to 65536, received %lld",
             static_cast<long long>(text_length));
  VILG_CHECK(hidden % heads == 0, kInvalidArgument,
             "Expected hidden to be a multiple of heads, received %lld and %lld",
             static_cast<long long>(hidden), static_cast<long long>(heads));
  VILG_CHECK(kernel % 2 == 1, kInvalidArgument, "Expected an odd kernel, received %lld",
             static_cast<long long>(kernel));
}

std::vector<ParameterSpec> generator_parameters(const GeneratorConfig& c) {
  const Init normal{Init::Kind::kNormal, 0.02f};
  // the two projections that add to the residual stream, so that its variance does not grow with
  // depth
  const Init residual{Init::Kind::kNormal, 0.02f / std::sqrt(2.0f * static_cast<float>(c.layers))};
  const Init one{Init::Kind::kOne}, zero{Init::Kind::kZero};
  std::vector<ParameterSpec> specs = {
      {"text_embedding.weight", {c.text_vocab, c.hidden}, normal},
      {"image_embedding.weight", {c.image_vocab, c.hidden}, normal},
      {"image_start", {c.hidden}, normal},
      {"text_position.weight", {c.text_length, c.hidden}, normal},
      {"row_position.weight", {c.grid, c.hidden}, normal},
      {"column_position.weight", {c.grid, c.hidden}, normal},
      {"modality.weight", {2, c.hidden}, normal},
  };
  for (int64_t i = 0; i < c.layers; ++i) {
    const std::string prefix = "blocks." + std::to_string(i) + ".";
    specs.push_back({prefix + "attention_norm.weight", {c.hidden}, one});
    specs.push_back({prefix + "attention_norm.bias", {c.hidden}, zero});
    specs.push_back(
        {prefix + "query_key_value.weight", {3 * c.hidden, c.hidden}, normal, false, true});
    specs.push_back({prefix + "query_key_value.bias", {3 * c.hidden}, zero});
    specs.push_back({prefix + "attention_out.weight", {c.hidden, c.hidden}, residual, false, true});
    specs.push_back({prefix + "attention_out.bias", {c.hidden}, zero});
    specs.push_back({prefix + "mlp_norm.weight", {c.hidden}, one});
    specs.push_back({prefix + "mlp_norm.bias", {c.hidden}, zero});
    specs.push_back({prefix + "mlp_in.weight", {4 * c.hidden, c.hidden}, normal, false, true});
    specs.push_back({prefix + "mlp_in.bias", {4 * c.hidden}, zero});
    specs.push_back({prefix + "mlp_out.weight", {c.hidden, 4 * c.hidden}, residual, false, true});
    specs.push_back({prefix + "mlp_out.bias", {c.hidden}, zero});
  }
  specs.push_back({"final_norm.weight", {c.hidden}, one});
  specs.push_back({"final_norm.bias", {c.hidden}, zero});
  specs.push_back({"text_head.weight", {c.text_vocab, c.hidden}, normal, false, true});
  specs.push_back({"text_head.bias", {c.text_vocab}, zero});
  specs.push_back({"image_head.weight", {c.image_vocab, c.hidden}, normal, false, true});
  specs.push_back({"image_head.bias", {c.image_vocab}, zero});
  return specs;
}

namespace {
const GeneratorConfig& validated(const GeneratorConfig& config) {
  config.validate();
  return config;
}
}  // namespace

Generator::Generator(Backend& backend, const GeneratorConfig& config, DType precision)
    : config_(validated(config)),
      precision_(precision),
      parameters_(backend, generator_parameters(config), precision) {
  for (int64_t i = 0; i < config_.layers; ++i) {
    const std::string prefix = "blocks." + std::to_string(i) + ".";
    const auto at = [&](const char* name) { return &parameters_[prefix + name]; };
    blocks_.push_back({.attention_norm_weight = at("attention_norm.weight"),
                       .attention_norm_bias = at("attention_norm.bias"),
                       .query_key_value_weight = at("query_key_value.weight"),
                       .query_key_value_bias = at("query_key_value.bias"),
                       .attention_out_weight = at("attention_out.weight"),
                       .attention_out_bias = at("attention_out.bias"),
                       .mlp_norm_weight = at("mlp_norm.weight"),
                       .mlp_norm_bias = at("mlp_norm.bias"),
                       .mlp_in_weight = at("mlp_in.weight"),
                       .mlp_in_bias = at("mlp_in.bias"),
                       .mlp_out_weight = at("mlp_out.weight"),
                       .mlp_out_bias = at("mlp_out.bias")});
  }
}

StreamTables Generator::tables() {
  return {.text_embedding = &weight("text_embedding.weight"),
          .image_embedding = &weight("image_embedding.weight"),
          .image_start = &weight("image_start"),
          .text_position = &weight("text_position.weight"),
          .row_position = &weight("row_position.weight"),
          .column_position = &weight("column_position.weight"),
          .modality = &weight("modality.weight")};
}

Value Generator::hidden(Tape& tape, const StreamTokens& tokens, Direction direction) {
  Value x = stream_embedding(tape, tokens, tables(), direction, config_.sizes());
  for (int64_t i = 0; i < config_.layers; ++i) {
    tape.context().check_stop();
    x = run_section(
        tape, std::move(x),
        [this, i, direction, valid = tokens.text_valid](Tape& part, const Value& input) {
          return layer(part, input, i, valid, direction);
        });
  }
  return x;
}

Value Generator::layer(Tape& tape, Value x, int64_t index, const Tensor& text_valid,
                       Direction direction) {
  const float epsilon = config_.layer_norm_epsilon;
  Block& b = block(index);
  Value attended = stream_attention(
      tape,
      linear(tape, layer_norm(tape, x, *b.attention_norm_weight, *b.attention_norm_bias, epsilon),
             *b.query_key_value_weight, *b.query_key_value_bias),
      text_valid, config_.heads, config_.pattern(index + 1), direction, config_.sizes());
  x = linear(tape, attended, *b.attention_out_weight, *b.attention_out_bias, {.residual = x});
  Value wide = linear(tape, layer_norm(tape, x, *b.mlp_norm_weight, *b.mlp_norm_bias, epsilon),
                      *b.mlp_in_weight, *b.mlp_in_bias, {.gelu = true});
  return linear(tape, wide, *b.mlp_out_weight, *b.mlp_out_bias, {.residual = x});
}

Value Generator::logits(Tape& tape, const StreamTokens& tokens, Direction direction) {
  const bool draws = direction == Direction::kTextToImage;
  const StreamSizes sizes = config_.sizes();
  // only the rows that predict something go through the head
  Value rows = draws ? slice_rows(tape, hidden(tape, tokens, direction),
                                  sizes.image_start(direction), sizes.image_length())
                     : slice_rows(tape, hidden(tape, tokens, direction),
                                  sizes.text_start(direction), sizes.text_length - 1);
  rows = layer_norm(tape, rows, weight("final_norm.weight"), weight("final_norm.bias"),
                    config_.layer_norm_epsilon);
  return draws ? linear(tape, rows, weight("image_head.weight"), weight("image_head.bias"))
               : linear(tape, rows, weight("text_head.weight"), weight("text_head.bias"));
}

void Generator::check(const TokenBatch& batch) const {
  const int64_t t = config_.text_length, n = config_.image_length();
  const auto length = [&](const char* name, size_t received, int64_t per_pair) {
    VILG_CHECK(batch.batch >= 1 && static_cast<int64_t>(received) == batch.batch * per_pair,
               kShapeMismatch, "Expected %s of %lld x %lld elements, received %zu", name,
               static_cast<long long>(batch.batch), static_cast<long long>(per_pair), received);
  };
  length("text", batch.text.size(), t);
  length("textValid", batch.text_valid.size(), t);
  length("image", batch.image.size(), n);
  if (!batch.text_target.empty()) length("textTarget", batch.text_target.size(), t);
  const auto ids = [](const char* name, std::span<const int32_t> tokens, int64_t vocab) {
    for (size_t i = 0; i < tokens.size(); ++i) {
      VILG_CHECK(tokens[i] >= 0 && tokens[i] < vocab, kInvalidArgument,
                 "Expected %s ids from 0 to %lld, received %d at position %zu", name,
                 static_cast<long long>(vocab - 1), tokens[i], i);
    }
  };
  ids("text", batch.text, config_.text_vocab);
  ids("image", batch.image, config_.image_vocab);
  for (int64_t b = 0; b < batch.batch; ++b) {
    VILG_CHECK(batch.text_valid[static_cast<size_t>(b * t)] == 1, kInvalidArgument,
               "Expected every text to begin with a valid CLS, pair %lld does not",
               static_cast<long long>(b));
  }
}

StreamTokens Generator::upload(const TokenBatch& batch) {
  Backend& backend = this->backend();
  return {
      .text = backend.upload(batch.text.data(), DType::kInt32, {batch.batch, config_.text_length}),
      .text_valid = backend.upload(batch.text_valid.data(), DType::kUInt8,
                                   {batch.batch, config_.text_length}),
      .image =
          backend.upload(batch.image.data(), DType::kInt32, {batch.batch, config_.image_length()})};
}

std::vector<int32_t> Generator::targets(const TokenBatch& batch, Direction direction) const {
  if (direction == Direction::kTextToImage) return {batch.image.begin(), batch.image.end()};
  const int64_t t = config_.text_length;
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
  check(batch);
  Tape tape(backend(), precision_, stop);
  const Value result = logits(tape, upload(batch), direction);
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
  check(batch);
  Tape tape(backend(), mode, stop);
  const Value result = logits(tape, upload(batch), direction);
  const double loss = cross_entropy(tape, result, targets(batch, direction), options);
  tape.backward();
  return loss;
}

}  // namespace vilg
