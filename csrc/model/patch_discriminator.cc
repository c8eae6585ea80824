#include "model/patch_discriminator.h"

#include <algorithm>
#include <cmath>

namespace vilg {
namespace {

constexpr int64_t kSide = 4, kPadding = 1;  // of every kernel
constexpr float kSlope = 0.2f;
constexpr int64_t kMostGrowth = 8;  // of the channels

// What each convolution is, in order. `at` is its number in the names; its norm has the next one.
struct LayerShape {
  int64_t at, ins, outs, stride;
  bool norm;
};
std::vector<LayerShape> layer_shapes(const PatchDiscriminatorConfig& c) {
  std::vector<LayerShape> shapes{{0, c.image_channels, c.channels, 2, false}};
  for (int64_t n = 1; n <= c.layers; ++n) {
    const auto growth = [](int64_t level) { return std::min(int64_t{1} << level, kMostGrowth); };
    shapes.push_back({3 * n - 1, c.channels * growth(n - 1), c.channels * growth(n),
                      n < c.layers ? 2 : 1, true});
  }
  shapes.push_back({3 * c.layers + 2, shapes.back().outs, 1, 1, false});
  return shapes;
}

std::string layer_name(int64_t at) { return "main." + std::to_string(at); }

const PatchDiscriminatorConfig& validated(const PatchDiscriminatorConfig& config) {
  config.validate();
  return config;
}

}  // namespace

void PatchDiscriminatorConfig::validate() const {
  VILG_CHECK(channels >= 1 && channels <= 4096, kInvalidArgument,
             "Expected discriminator channels from 1 to 4096, received %lld",
             static_cast<long long>(channels));
  VILG_CHECK(layers >= 1 && layers <= 8, kInvalidArgument,
             "Expected discriminator layers from 1 to 8, received %lld",
             static_cast<long long>(layers));
}

std::vector<ParameterSpec> patch_discriminator_parameters(const PatchDiscriminatorConfig& config) {
  // fresh values as taming-transformers sets them
  constexpr float kDeviation = 0.02f;
  std::vector<ParameterSpec> specs;
  for (const LayerShape& layer : layer_shapes(config)) {
    specs.push_back({layer_name(layer.at) + ".weight",
                     {layer.outs, layer.ins, kSide, kSide},
                     {Init::Kind::kNormal, kDeviation},
                     /*convolution=*/true,
                     /*decay=*/true});
    if (!layer.norm) {
      const float bound = 1.0f / std::sqrt(static_cast<float>(layer.ins * kSide * kSide));
      specs.push_back(
          {layer_name(layer.at) + ".bias", {layer.outs}, {Init::Kind::kUniform, bound}});
      continue;
    }
    const std::string name = layer_name(layer.at + 1);
    specs.push_back({name + ".weight", {layer.outs}, {Init::Kind::kNormalOne, kDeviation}});
    specs.push_back({name + ".bias", {layer.outs}, {Init::Kind::kZero}});
    specs.push_back({name + ".running_mean", {layer.outs}, {Init::Kind::kZero}});
    specs.push_back({name + ".running_var", {layer.outs}, {Init::Kind::kOne}});
  }
  return specs;
}

PatchDiscriminator::PatchDiscriminator(Backend& backend, const PatchDiscriminatorConfig& config)
    : parameters_(backend, patch_discriminator_parameters(validated(config)), DType::kFloat32) {
  for (const LayerShape& shape : layer_shapes(config)) {
    Layer& layer = layers_.emplace_back();
    const std::string name = layer_name(shape.at);
    layer.weight = &parameters_[name + ".weight"];
    layer.stride = shape.stride;
    if (!shape.norm) {
      layer.bias = &parameters_[name + ".bias"];
      continue;
    }
    const std::string norm = layer_name(shape.at + 1);
    layer.norm = {.gamma = &parameters_[norm + ".weight"],
                  .beta = &parameters_[norm + ".bias"],
                  .running_mean = &parameters_[norm + ".running_mean"],
                  .running_variance = &parameters_[norm + ".running_var"]};
    layer.norm.running_mean->frozen = layer.norm.running_variance->frozen = true;
  }
}

int64_t PatchDiscriminator::min_side(const PatchDiscriminatorConfig& config) {
  // the last layer's side has to be 2: from there back, as (side + 2 * 1 - 4) / stride + 1 makes it
  int64_t side = 2;
  const std::vector<LayerShape> shapes = layer_shapes(config);
  for (auto shape = shapes.rbegin(); shape != shapes.rend(); ++shape) {
    side = (side - 1) * shape->stride + kSide - 2 * kPadding;
  }
  return side;
}

Value PatchDiscriminator::logits(Tape& tape, const Value& images) {
  return run(tape, images, /*by_averages=*/false);
}

Value PatchDiscriminator::evaluated_logits(Tape& tape, const Value& images) {
  return run(tape, images, /*by_averages=*/true);
}

Value PatchDiscriminator::run(Tape& tape, Value x, bool by_averages) {
  for (size_t i = 0; i < layers_.size(); ++i) {
    Layer& layer = layers_[i];
    tape.context().check_stop();
    x = conv2d(tape, x, *layer.weight, layer.bias, {.stride = layer.stride});
    if (layer.norm.gamma) {
      x = by_averages ? batch_norm_by_averages(tape, x, layer.norm)
                      : batch_norm(tape, x, layer.norm);
    }
    if (i + 1 < layers_.size()) x = leaky_relu(tape, x, kSlope);
  }
  return x;
}

}  // namespace vilg
