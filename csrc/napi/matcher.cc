// The matcher: created, loaded, embedding pictures and texts, compared, saved.
#include "napi/matcher.h"

#include "napi/definitions.h"
#include "napi/transformer_config.h"

namespace vilg::binding {
namespace {

using Model = Locked<Matcher>;

MatcherConfig matcher_config(const Argument& argument) {
  const MatcherConfig config{.sizes = transformer_config(argument),
                             .dim = argument["dim"].integer(1, int64_t{1} << 31)};
  config.validate();
  return config;
}

Napi::Value start(const Napi::CallbackInfo& info, uint64_t seed, std::string path) {
  return start_model<MatcherClass, Matcher>(
      info,
      [config = matcher_config(Argument(info, 0, "config")),
       options = model_options(Argument(info, 1, "options"))] {
        return std::make_unique<Matcher>(*options.backend, config, options.precision);
      },
      seed, std::move(path), Argument(info, 3, "control").task_options());
}

// createMatcher(config, options, seed, control)
Napi::Value create(const Napi::CallbackInfo& info) {
  return start(info, seed_argument(Argument(info, 2, "seed")), "");
}

// loadMatcher(config, options, path, control)
Napi::Value load(const Napi::CallbackInfo& info) {
  return start(info, 0, Argument(info, 2, "path").string());
}

Napi::Value to_embeddings(Napi::Env env, std::vector<float>& embeddings) {
  return to_typed_array(env, embeddings);
}

int64_t batch_argument(const Napi::CallbackInfo& info, size_t index) {
  return Argument(info, index, "batch").integer(1, 1 << 24);
}

// embedImages(image, batch, control)
Napi::Value embed_images(const Napi::CallbackInfo& info, const std::shared_ptr<Model>& matcher) {
  return start_task(
      info.Env(), Argument(info, 2, "control").task_options(),
      [matcher, image = copied<int32_t>(Argument(info, 0, "image")),
       batch = batch_argument(info, 1)](TaskContext& task) {
        const auto hold = matcher->lock.shared(&task.stop);
        return matcher->model.embed_images(image, batch, &task.stop);
      },
      to_embeddings);
}

// embedTexts(text, valid, batch, control)
Napi::Value embed_texts(const Napi::CallbackInfo& info, const std::shared_ptr<Model>& matcher) {
  return start_task(
      info.Env(), Argument(info, 3, "control").task_options(),
      [matcher, text = copied<int32_t>(Argument(info, 0, "text")),
       valid = copied<uint8_t>(Argument(info, 1, "textValid")),
       batch = batch_argument(info, 2)](TaskContext& task) {
        const auto hold = matcher->lock.shared(&task.stop);
        return matcher->model.embed_texts(text, valid, batch, &task.stop);
      },
      to_embeddings);
}

// compare(text, valid, image, batch, control)
Napi::Value compare(const Napi::CallbackInfo& info, const std::shared_ptr<Model>& matcher) {
  return start_task(
      info.Env(), Argument(info, 4, "control").task_options(),
      [matcher, batch = batch_arguments(info, 0)](TaskContext& task) {
        const auto hold = matcher->lock.shared(&task.stop);
        return Comparison{matcher->model.forward(batch, &task.stop), 1 / matcher->model.scale()};
      },
      to_comparison);
}

}  // namespace

void define_matcher(Napi::Env env, Napi::Object exports) {
  MatcherClass::define(
      env, Napi::Object::New(env),
      {MatcherClass::getter<&parameter_count<Matcher>>("parameterCount"),
       MatcherClass::getter<&device<Matcher>>("device"),
       MatcherClass::getter<&precision<Matcher>>("precision"),
       MatcherClass::method<&embed_images>("embedImages"),
       MatcherClass::method<&embed_texts>("embedTexts"), MatcherClass::method<&compare>("compare"),
       MatcherClass::method<&save_model<Matcher>>("save")});
  export_function<&create>(exports, "createMatcher");
  export_function<&load>(exports, "loadMatcher");
}

}  // namespace vilg::binding
