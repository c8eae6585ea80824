// The handle of a matcher.
#pragma once

#include "model/matcher.h"
#include "napi/models.h"

namespace vilg::binding {

struct MatcherTraits : ModelTraits<Matcher> {
  static constexpr const char* kName = "Matcher";
};
using MatcherClass = Wrap<MatcherTraits>;

// What a batch came to, by the temperature that it was compared with.
struct Comparison {
  InfoNce result;
  double temperature;
};

inline Napi::Value to_comparison(Napi::Env env, Comparison& comparison) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("loss", comparison.result.loss);
  object.Set("imageToTextAccuracy", comparison.result.image_to_text);
  object.Set("textToImageAccuracy", comparison.result.text_to_image);
  object.Set("temperature", comparison.temperature);
  return object;
}

}  // namespace vilg::binding
