#include "napi/models.h"

#include <limits>

#include "plugin/backends.h"

namespace vilg::binding {

DType precision_argument(const Argument& argument) {
  constexpr const char* kChoices[] = {"float32", "bfloat16"};
  return argument.one_of(kChoices) == 0 ? DType::kFloat32 : DType::kBFloat16;
}

Direction direction_argument(const Argument& argument) {
  constexpr const char* kChoices[] = {"text-to-image", "image-to-text"};
  return argument.one_of(kChoices) == 0 ? Direction::kTextToImage : Direction::kImageToText;
}

uint64_t seed_argument(const Argument& argument) {
  return static_cast<uint64_t>(argument.integer(0, (int64_t{1} << 53) - 1));
}

float float_argument(const Argument& argument, double min, double max) {
  return static_cast<float>(argument.number(min, max));
}

ModelOptions model_options(const Argument& argument) {
  return {.backend = &backend_named(argument["backend"].string()),
          .precision = precision_argument(argument["precision"])};
}

DrawOptions draw_options(const Argument& argument) {
  return {
      .seed = seed_argument(argument["seed"]),
      .temperature = float_argument(argument["temperature"], 0, std::numeric_limits<float>::max()),
      .top_k = argument["topK"].integer(0, std::numeric_limits<int32_t>::max()),
      .top_p = float_argument(argument["topP"], 0, 1)};
}

OptimizerOptions optimizer_options(const Argument& argument, GradientMode* mode) {
  constexpr double kMax = std::numeric_limits<float>::max();
  mode->compute = precision_argument(argument["compute"]);
  mode->recompute = argument["recompute"].boolean();
  std::vector<ParameterGroup> groups;
  for (const Argument& group : argument["groups"].elements()) {
    groups.push_back({.weights = group["weights"].strings(),
                      .learning_rate_scale = float_argument(group["learningRateScale"], 0, kMax)});
    if (const Argument decay = group["weightDecay"]; !decay.missing()) {
      groups.back().weight_decay = float_argument(decay, 0, kMax);
    }
  }
  return {.beta1 = float_argument(argument["beta1"], 0, 1),
          .beta2 = float_argument(argument["beta2"], 0, 1),
          .epsilon = float_argument(argument["epsilon"], 0, kMax),
          .weight_decay = float_argument(argument["weightDecay"], 0, kMax),
          .clip_norm = float_argument(argument["clipNorm"], 0, kMax),
          .groups = groups};
}

OwnedBatch batch_arguments(const Napi::CallbackInfo& info, size_t first) {
  return {.text = copied<int32_t>(Argument(info, first, "text")),
          .text_valid = copied<uint8_t>(Argument(info, first + 1, "textValid")),
          .image = copied<int32_t>(Argument(info, first + 2, "image")),
          .text_target = {},
          .batch = Argument(info, first + 3, "batch").integer(1, 1 << 24)};
}

OwnedBatch targeted_batch_arguments(const Napi::CallbackInfo& info, size_t first) {
  OwnedBatch batch = batch_arguments(info, first);
  const Argument target(info, first + 4, "textTarget");
  if (!target.missing()) batch.text_target = copied<uint8_t>(target);
  return batch;
}

NamedGradients read_gradients(const ParameterList& parameters) {
  NamedGradients gradients;
  for (size_t i = 0; i < parameters.specs().size(); ++i) {
    gradients.names.push_back(parameters.specs()[i].name);
    gradients.values.push_back(parameters.read(i, /*gradient=*/true));
  }
  return gradients;
}

void set_gradients(Napi::Object result, const NamedGradients& gradients) {
  const Napi::Env env = result.Env();
  Napi::Array values = Napi::Array::New(env, gradients.values.size());
  for (size_t i = 0; i < gradients.values.size(); ++i) {
    values.Set(static_cast<uint32_t>(i), to_typed_array(env, gradients.values[i]));
  }
  result.Set("names", to_array(env, gradients.names));
  result.Set("gradients", values);
}

}  // namespace vilg::binding
