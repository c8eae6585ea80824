// The generator: created, loaded, run forward, differentiated, saved.
#include "napi/definitions.h"
#include "napi/models.h"
#include "napi/transformer_config.h"
#include "train/gradient_scope.h"

namespace vilg::binding {
namespace {

using Model = Locked<Generator>;
constexpr int64_t kMaxSize = int64_t{1} << 31;  // the model's own limits are lower

GeneratorConfig generator_config(const Argument& argument) {
  GeneratorConfig config = transformer_config(argument);
  config.modality = argument["modality"].boolean();
  config.causal_text = argument["causalText"].boolean();
  config.text_starts_image = argument["textStartsImage"].boolean();
  config.repeated_start = argument["repeatedStart"].boolean();
  config.wrapped_window = argument["wrappedWindow"].boolean();
  config.sandwich_norm = argument["sandwichNorm"].boolean();
  config.double_final_norm = argument["doubleFinalNorm"].boolean();
  config.padding_seen = argument["paddingSeen"].boolean();
  config.padding_ids = argument["paddingIds"].integer(0, kMaxSize);
  config.validate();
  return config;
}

Napi::Value start(const Napi::CallbackInfo& info, uint64_t seed, std::string path) {
  return start_model<GeneratorClass, Generator>(
      info,
      [config = generator_config(Argument(info, 0, "config")),
       options = model_options(Argument(info, 1, "options"))] {
        return std::make_unique<Generator>(*options.backend, config, options.precision);
      },
      seed, std::move(path), Argument(info, 3, "control").task_options());
}

// createGenerator(config, options, seed, control)
Napi::Value create(const Napi::CallbackInfo& info) {
  return start(info, seed_argument(Argument(info, 2, "seed")), "");
}

// loadGenerator(config, options, path, control)
Napi::Value load(const Napi::CallbackInfo& info) {
  return start(info, 0, Argument(info, 2, "path").string());
}

// forward(text, valid, image, batch, target, direction, control)
Napi::Value forward(const Napi::CallbackInfo& info, const std::shared_ptr<Model>& generator) {
  return start_task(
      info.Env(), Argument(info, 6, "control").task_options(),
      [generator, batch = targeted_batch_arguments(info, 0),
       direction = direction_argument(Argument(info, 5, "direction"))](TaskContext& task) {
        const auto hold = generator->lock.shared(&task.stop);
        return generator->model.forward(batch, direction, &task.stop);
      },
      [](Napi::Env env, Generator::Output& output) -> Napi::Value {
        Napi::Object result = Napi::Object::New(env);
        result.Set("logits", to_typed_array(env, output.logits));
        result.Set("shape", to_array(env, std::vector<int64_t>{output.shape[0], output.shape[1],
                                                               output.shape[2]}));
        result.Set("loss", output.loss);
        result.Set("rowLosses", to_typed_array(env, output.row_losses));
        return result;
      });
}

// gradients(text, valid, image, batch, target, direction, control)
Napi::Value gradients(const Napi::CallbackInfo& info, const std::shared_ptr<Model>& generator) {
  struct Result {
    double loss;
    NamedGradients gradients;
  };
  return start_task(
      info.Env(), Argument(info, 6, "control").task_options(),
      [generator, batch = targeted_batch_arguments(info, 0),
       direction = direction_argument(Argument(info, 5, "direction"))](TaskContext& task) {
        const auto hold = generator->lock.exclusive(&task.stop);
        std::vector<Tensor> own;
        const GradientScope scope(generator->model.parameters(), own);
        const double loss = generator->model.accumulate_gradients(
            batch, direction, {}, generator->model.precision(), &task.stop);
        return Result{loss, read_gradients(generator->model.parameters())};
      },
      [](Napi::Env env, Result& computed) -> Napi::Value {
        Napi::Object result = Napi::Object::New(env);
        result.Set("loss", computed.loss);
        set_gradients(result, computed.gradients);
        return result;
      });
}

}  // namespace

void define_generator(Napi::Env env, Napi::Object exports) {
  GeneratorClass::define(
      env, Napi::Object::New(env),
      {GeneratorClass::getter<&parameter_count<Generator>>("parameterCount"),
       GeneratorClass::getter<&device<Generator>>("device"),
       GeneratorClass::getter<&precision<Generator>>("precision"),
       GeneratorClass::method<&forward>("forward"), GeneratorClass::method<&gradients>("gradients"),
       GeneratorClass::method<&save_model<Generator>>("save")});
  export_function<&create>(exports, "createGenerator");
  export_function<&load>(exports, "loadGenerator");
}

}  // namespace vilg::binding
