// What the files that wrap models share: the objects behind the handles, and reading of their
// arguments.
//
// Who may run at once: calls that read a model's weights share its lock, calls that change weights
// or gradients have it alone; the others wait for their turn on their own task threads. What
// belongs to one handle (a session's caches, a trainer's moments) is leased instead: a second call
// on it is refused with kBusy.
#pragma once

#include <napi.h>

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "core/fair_lock.h"
#include "model/checkpoint.h"
#include "model/generator.h"
#include "model/image_tokenizer.h"
#include "napi/arguments.h"
#include "napi/async_task.h"
#include "napi/wrap.h"
#include "sample/image_session.h"
#include "train/optimizer.h"

namespace vilg::binding {

// A model and the lock of its weights.
template <typename Model>
struct Locked {
  explicit Locked(std::unique_ptr<Model> made) : owned(std::move(made)), model(*owned) {}
  const std::unique_ptr<Model> owned;
  Model& model;
  FairLock lock;
};
// A share in the model, which is a `Kind`, that keeps the lock alive with it.
template <typename Kind, typename Model>
std::shared_ptr<Kind> model_of(const std::shared_ptr<Locked<Model>>& locked) {
  auto* model = dynamic_cast<Kind*>(&locked->model);
  VILG_CHECK(model, kInternal, "the model is of another kind");
  return {locked, model};
}
template <typename Model>
std::shared_ptr<Model> model_of(const std::shared_ptr<Locked<Model>>& locked) {
  return {locked, &locked->model};
}

template <typename Model>
struct ModelTraits {
  using Impl = Locked<Model>;
  static int64_t size_bytes(const Impl& impl) {
    // const only for the list's sake
    auto& model = const_cast<Model&>(impl.model);
    return static_cast<int64_t>(
        ParameterList::size_bytes(model.parameters().specs(), model.precision()));
  }
};
struct GeneratorTraits : ModelTraits<Generator> {
  static constexpr const char* kName = "Generator";
};
struct ImageTokenizerTraits : ModelTraits<ImageTokenizer> {
  static constexpr const char* kName = "ImageTokenizer";
};
using GeneratorClass = Wrap<GeneratorTraits>;
using ImageTokenizerClass = Wrap<ImageTokenizerTraits>;

// --- arguments ---
DType precision_argument(const Argument& argument);
Direction direction_argument(const Argument& argument);
uint64_t seed_argument(const Argument& argument);
float float_argument(const Argument& argument, double min, double max);

struct ModelOptions {
  Backend* backend;
  DType precision;
};
ModelOptions model_options(const Argument& argument);
DrawOptions draw_options(const Argument& argument);
OptimizerOptions optimizer_options(const Argument& argument, GradientMode* mode);

template <typename T>
std::vector<T> copied(const Argument& argument) {
  const std::span<const T> values = argument.array<T>();
  return {values.begin(), values.end()};
}

// A batch of pairs of its own.
struct OwnedBatch {
  std::vector<int32_t> text;
  std::vector<uint8_t> text_valid;
  std::vector<int32_t> image;
  std::vector<uint8_t> text_target;  // empty where none was given
  int64_t batch = 0;
  operator TokenBatch() const {
    return {.text = text,
            .text_valid = text_valid,
            .image = image,
            .text_target = text_target,
            .batch = batch};
  }
};
// Arguments `first` .. first + 3 of a call.
OwnedBatch batch_arguments(const Napi::CallbackInfo& info, size_t first);
// The same, and which text tokens are to be predicted: `first` .. first + 4.
OwnedBatch targeted_batch_arguments(const Napi::CallbackInfo& info, size_t first);

// --- what generators and image tokenizers do alike ---

// A fresh model, or one with the weights of a file where `path` is not empty. make() gives a
// std::unique_ptr<Model> whose weights are uninitialised.
template <typename Class, typename Model, typename Make>
Napi::Value start_model(const Napi::CallbackInfo& info, Make make, uint64_t seed, std::string path,
                        TaskOptions task_options) {
  return start_task(
      info.Env(), std::move(task_options),
      [make = std::move(make), seed, path = std::move(path)](TaskContext& task) {
        // a file that is not there or not of the format is noticed before memory is taken
        const auto file = path.empty() ? nullptr : io::SafetensorsFile::open(path);
        auto locked = std::make_shared<Locked<Model>>(make());
        if (file) {
          load_parameters(locked->model.parameters(), *file,
                          {.on_progress = [&](double fraction) { task.progress(fraction, 1); },
                           .stop = &task.stop});
        } else {
          locked->model.parameters().initialize(seed, &task.stop);
        }
        return locked;
      },
      [](Napi::Env env, std::shared_ptr<Locked<Model>>& locked) -> Napi::Value {
        return Class::create(env, std::move(locked));
      });
}

template <typename Model>
Napi::Value parameter_count(const Napi::CallbackInfo& info,
                            const std::shared_ptr<Locked<Model>>& locked) {
  return Napi::Number::New(info.Env(),
                           static_cast<double>(locked->model.parameters().num_elements()));
}
template <typename Model>
Napi::Value device(const Napi::CallbackInfo& info, const std::shared_ptr<Locked<Model>>& locked) {
  return Napi::String::New(info.Env(), locked->model.backend().device());
}
template <typename Model>
Napi::Value precision(const Napi::CallbackInfo& info,
                      const std::shared_ptr<Locked<Model>>& locked) {
  return Napi::String::New(info.Env(), dtype_name(locked->model.precision()));
}

// save(path, precision, control)
template <typename Model>
Napi::Value save_model(const Napi::CallbackInfo& info,
                       const std::shared_ptr<Locked<Model>>& locked) {
  const std::string path = Argument(info, 0, "path").string();
  const DType dtype = precision_argument(Argument(info, 1, "precision"));
  return start_task(
      info.Env(), Argument(info, 2, "control").task_options(),
      [locked, path, dtype](TaskContext& task) {
        const auto hold = locked->lock.shared(&task.stop);
        save_parameters(locked->model.parameters(), path, dtype, &task.stop);
      },
      to_undefined);
}

// The gradients of every weight in the files' layout, as { names, gradients } of a result object.
struct NamedGradients {
  std::vector<std::string> names;
  std::vector<std::vector<float>> values;
};
NamedGradients read_gradients(const ParameterList& parameters);
void set_gradients(Napi::Object result, const NamedGradients& gradients);

}  // namespace vilg::binding
