#include "model/transformer.h"

#include <cmath>

#include "autograd/image_ops.h"

namespace vilg {
namespace {

std::string block_prefix(const std::string& prefix, int64_t index) {
  return prefix + "blocks." + std::to_string(index) + ".";
}

}  // namespace

void TransformerConfig::validate() const {
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
  VILG_CHECK(patterns.empty() || static_cast<int64_t>(patterns.size()) == layers, kInvalidArgument,
             "Expected a pattern for each of %lld layers, received %zu",
             static_cast<long long>(layers), patterns.size());
  VILG_CHECK(!text_starts_image || (causal_text && padding_seen), kInvalidArgument,
             "Expected causalText, and PAD that is seen, where the text starts the image");
  VILG_CHECK(text_starts_image || !repeated_start, kInvalidArgument,
             "Expected repeatedStart only where the text starts the image");
  VILG_CHECK(padding_ids == 0 ||
                 (padding_seen && padding_ids > 0 && padding_ids + text_length <= text_vocab),
             kInvalidArgument,
             "Expected paddingIds only where PAD is seen, and up to textVocab - textLength = %lld, "
             "received %lld",
             static_cast<long long>(text_vocab - text_length), static_cast<long long>(padding_ids));
}

void Transformer::append_parameters(std::vector<ParameterSpec>& specs, const TransformerConfig& c,
                                    const std::string& prefix, float deviation) {
  const Init normal{Init::Kind::kNormal, kDeviation}, matrix{Init::Kind::kNormal, deviation};
  // the two projections that add to the residual stream, so that its variance does not grow with
  // depth
  const Init residual{Init::Kind::kNormal,
                      deviation / std::sqrt(2.0f * static_cast<float>(c.layers))};
  const auto embedding = [&](const char* name, const Shape& shape) {
    specs.push_back({prefix + name, shape, normal});
  };
  embedding("text_embedding.weight", {c.text_vocab, c.hidden});
  embedding("image_embedding.weight", {c.image_vocab, c.hidden});
  if (!c.text_starts_image) embedding("image_start", {c.hidden});
  embedding("text_position.weight", {c.embedded_text(), c.hidden});
  embedding("row_position.weight", {c.grid, c.hidden});
  embedding("column_position.weight", {c.grid, c.hidden});
  if (c.modality) embedding("modality.weight", {2, c.hidden});
  const auto norm = [&](const std::string& name) {
    specs.push_back({name + ".weight", {c.hidden}, {Init::Kind::kOne}});
    specs.push_back({name + ".bias", {c.hidden}, {Init::Kind::kZero}});
  };
  const auto linear = [&](const std::string& name, int64_t out, int64_t in, const Init& init) {
    specs.push_back({name + ".weight", {out, in}, init, false, true});
    specs.push_back({name + ".bias", {out}, {Init::Kind::kZero}});
  };
  for (int64_t i = 0; i < c.layers; ++i) {
    const std::string block = block_prefix(prefix, i);
    norm(block + "attention_norm");
    linear(block + "query_key_value", 3 * c.hidden, c.hidden, matrix);
    linear(block + "attention_out", c.hidden, c.hidden, residual);
    if (c.sandwich_norm) norm(block + "attention_out_norm");
    norm(block + "mlp_norm");
    linear(block + "mlp_in", 4 * c.hidden, c.hidden, matrix);
    linear(block + "mlp_out", c.hidden, 4 * c.hidden, residual);
    if (c.sandwich_norm) norm(block + "mlp_out_norm");
  }
  norm(prefix + "final_norm");
  if (c.double_final_norm) norm(prefix + "head_norm");
}

Transformer::Transformer(ParameterList& parameters, const TransformerConfig& config,
                         const std::string& prefix)
    : config_(config), backend_(&parameters.backend()) {
  const auto weight = [&](const char* name) { return &parameters[prefix + name]; };
  tables_ = {.text_embedding = weight("text_embedding.weight"),
             .image_embedding = weight("image_embedding.weight"),
             .image_start = config_.text_starts_image ? nullptr : weight("image_start"),
             .text_position = weight("text_position.weight"),
             .row_position = weight("row_position.weight"),
             .column_position = weight("column_position.weight"),
             .modality = config_.modality ? weight("modality.weight") : nullptr};
  for (int64_t i = 0; i < config_.layers; ++i) {
    const std::string block = block_prefix(prefix, i);
    const auto at = [&](const char* name) { return &parameters[block + name]; };
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
    if (!config_.sandwich_norm) continue;
    Block& last = blocks_.back();
    last.attention_out_norm_weight = at("attention_out_norm.weight");
    last.attention_out_norm_bias = at("attention_out_norm.bias");
    last.mlp_out_norm_weight = at("mlp_out_norm.weight");
    last.mlp_out_norm_bias = at("mlp_out_norm.bias");
  }
  final_norm_weight_ = weight("final_norm.weight");
  final_norm_bias_ = weight("final_norm.bias");
  if (!config_.double_final_norm) return;
  head_norm_weight_ = weight("head_norm.weight");
  head_norm_bias_ = weight("head_norm.bias");
}

Value Transformer::embed(Tape& tape, const StreamTokens& tokens, Direction direction) const {
  StreamSizes sizes = config_.sizes();
  if (!config_.text_starts_image) {
    return stream_embedding(tape, tokens, tables_, direction, sizes);
  }
  // all text tokens, IMG, the image: without IMG, and as much of the image as the stream has
  const int64_t length = sizes.stream_length(), text = config_.embedded_text();
  sizes.text_length = text;
  const Value all = stream_embedding(tape, tokens, tables_, direction, sizes);
  return concat_rows(tape, slice_rows(tape, all, 0, text),
                     slice_rows(tape, all, text + 1, length - text));
}

Value Transformer::hidden(Tape& tape, const StreamTokens& tokens, Direction direction) const {
  check(direction);
  Value x = embed(tape, tokens, direction);
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

Value Transformer::layer(Tape& tape, Value x, int64_t index, const Tensor& text_valid,
                         Direction direction) const {
  const float epsilon = config_.layer_norm_epsilon;
  const Block& b = block(index);
  Value attended = stream_attention(
      tape,
      linear(tape, layer_norm(tape, x, *b.attention_norm_weight, *b.attention_norm_bias, epsilon),
             *b.query_key_value_weight, *b.query_key_value_bias),
      text_valid, config_.heads, config_.pattern(index + 1), direction, config_.sizes());
  x = add_branch(tape, x, attended, *b.attention_out_weight, *b.attention_out_bias,
                 b.attention_out_norm_weight, b.attention_out_norm_bias);
  Value wide = linear(tape, layer_norm(tape, x, *b.mlp_norm_weight, *b.mlp_norm_bias, epsilon),
                      *b.mlp_in_weight, *b.mlp_in_bias, {.gelu = true});
  return add_branch(tape, x, wide, *b.mlp_out_weight, *b.mlp_out_bias, b.mlp_out_norm_weight,
                    b.mlp_out_norm_bias);
}

Value Transformer::add_branch(Tape& tape, const Value& x, const Value& branch, Parameter& weight,
                              Parameter& bias, Parameter* norm_weight, Parameter* norm_bias) const {
  if (!norm_weight) return linear(tape, branch, weight, bias, {.residual = x});
  return add(tape, x,
             layer_norm(tape, linear(tape, branch, weight, bias), *norm_weight, *norm_bias,
                        config_.layer_norm_epsilon),
             1.0f);
}

Value Transformer::normed(Tape& tape, const StreamTokens& tokens, Direction direction,
                          int64_t start, int64_t count) const {
  const float epsilon = config_.layer_norm_epsilon;
  Value rows = slice_rows(tape, hidden(tape, tokens, direction), start, count);
  rows = layer_norm(tape, rows, *final_norm_weight_, *final_norm_bias_, epsilon);
  if (!head_norm_weight_) return rows;
  return layer_norm(tape, rows, *head_norm_weight_, *head_norm_bias_, epsilon);
}

void Transformer::check(Direction direction) const {
  VILG_CHECK(direction == Direction::kTextToImage || !config_.text_starts_image, kUnsupported,
             "Expected a model with IMG, from which a text is read off a picture, received one "
             "that only draws (imageStart: 'text')");
}

void Transformer::check(const TokenBatch& batch) const {
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

std::vector<int32_t> Transformer::text_tokens(std::span<const int32_t> text) const {
  std::vector<int32_t> tokens;
  if (config_.repeated_start) tokens.push_back(text.front());
  for (size_t j = 0; j < text.size(); ++j) {
    const bool own = config_.padding_ids > 0 && text[j] == 0;
    tokens.push_back(own ? static_cast<int32_t>(config_.padding_ids + static_cast<int64_t>(j))
                         : text[j]);
  }
  return tokens;
}

StreamTokens Transformer::upload(const TokenBatch& batch) const {
  std::vector<int32_t> text;
  const auto length = static_cast<size_t>(config_.text_length);
  for (int64_t b = 0; b < batch.batch; ++b) {
    const std::vector<int32_t> one =
        text_tokens(batch.text.subspan(static_cast<size_t>(b) * length, length));
    text.insert(text.end(), one.begin(), one.end());
  }
  StreamTokens tokens;
  tokens.text =
      backend_->upload(text.data(), DType::kInt32, {batch.batch, config_.embedded_text()});
  if (!config_.padding_seen) {
    tokens.text_valid = backend_->upload(batch.text_valid.data(), DType::kUInt8,
                                         {batch.batch, config_.text_length});
  }
  tokens.image =
      backend_->upload(batch.image.data(), DType::kInt32, {batch.batch, config_.image_length()});
  return tokens;
}

}  // namespace vilg
