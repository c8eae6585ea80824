// Trainers of generators.
#include "train/generator_trainer.h"

#include "napi/definitions.h"
#include "napi/trainers.h"

namespace vilg::binding {
namespace {

using GeneratorTraining = Training<Generator, GeneratorTrainer>;
struct GeneratorTrainerTraits {
  using Impl = GeneratorTraining;
  static constexpr const char* kName = "GeneratorTrainer";
};
using GeneratorTrainerClass = Wrap<GeneratorTrainerTraits>;

// accumulate(text, valid, image, batch, target, options, scale, control)
Napi::Value accumulate_pairs(const Napi::CallbackInfo& info,
                             const std::shared_ptr<GeneratorTraining>& training) {
  const Argument options(info, 5, "options");
  const auto weight = [&](const char* name) { return float_argument(options[name], 0, 1e30); };
  const GeneratorLossOptions loss{
      .text_to_image_weight = weight("textToImageWeight"),
      .image_to_text_weight = weight("imageToTextWeight"),
      .label_smoothing = float_argument(options["labelSmoothing"], 0, 1),
      .z_loss = weight("zLoss")};
  return start_task(
      info.Env(), Argument(info, 7, "control").task_options(),
      [training, batch = targeted_batch_arguments(info, 0), loss,
       scale = float_argument(Argument(info, 6, "scale"), 0, 1e30),
       lease = Lease(training, training->in_use, "trainer"),
       discard = DiscardUnlessDone(training)](TaskContext& task) mutable {
        const TrainingScope scope(*training, task.stop);
        const auto losses = training->trainer->accumulate(batch, loss, scale, &task.stop);
        discard.done();
        return losses;
      },
      [](Napi::Env env, GeneratorTrainer::Losses& losses) -> Napi::Value {
        Napi::Object result = Napi::Object::New(env);
        result.Set("textToImage", losses.text_to_image);
        result.Set("imageToText", losses.image_to_text);
        return result;
      });
}

// createGeneratorTrainer(generator, options)
Napi::Value create_generator_trainer(const Napi::CallbackInfo& info) {
  const auto locked = GeneratorClass::get(Argument(info, 0, "model"));
  return create_trainer<GeneratorTrainerClass>(
      info, locked,
      [locked](const OptimizerOptions& options, const GradientMode& mode, const StopFlag&) {
        return std::make_unique<GeneratorTrainer>(model_of(locked), options, mode);
      });
}

}  // namespace

void define_generator_trainer(Napi::Env env, Napi::Object exports) {
  using Class = GeneratorTrainerClass;
  define_trainer<Class>(env, {Class::method<&accumulate_pairs>("accumulate")});
  export_function<&create_generator_trainer>(exports, "createGeneratorTrainer");
}

}  // namespace vilg::binding
