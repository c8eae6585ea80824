// Trainers of generators and of image tokenizers.
#include <functional>
#include <limits>

#include "napi/definitions.h"
#include "napi/tokenizer_losses.h"
#include "train/generator_trainer.h"
#include "train/gradient_scope.h"
#include "train/training_state.h"
#include "train/vqgan_trainer.h"

namespace vilg::binding {
namespace {

// One model in training. The trainer itself is made by the first task, as its moments are large and
// the JavaScript thread should not wait for them.
template <typename Model, typename Trainer>
struct Training {
  std::shared_ptr<Locked<Model>> locked;
  OptimizerOptions options;
  GradientMode mode;
  InUse in_use;

  // By tasks that hold the lease.
  std::unique_ptr<Trainer> trainer;
  std::vector<Tensor> gradients;  // here between tasks, see GradientScope

  // Readable at any time.
  std::atomic<int64_t> steps{0};
  // What was gathered is not to be used: its task was stopped or failed, perhaps before it ran.
  std::atomic<bool> discard{false};
};

// The model for itself, its weights with this trainer's gradients: for one task.
template <typename Model, typename Trainer>
class TrainingScope {
 public:
  TrainingScope(Training<Model, Trainer>& training, const StopFlag& stop)
      : hold_(training.locked->lock.exclusive(&stop)),
        gradients_(training.locked->model.parameters(), training.gradients) {
    if (!training.trainer) {
      training.trainer =
          std::make_unique<Trainer>(model_of(training.locked), training.options, training.mode);
    }
    if (training.discard.exchange(false)) training.locked->model.parameters().zero_grad();
  }

 private:
  FairLock::Hold hold_;
  GradientScope gradients_;
};

// Captured by a task that gathers gradients: unless it comes to its end, what was gathered is
// thrown away by the next one.
class DiscardUnlessDone {
 public:
  template <typename T>
  explicit DiscardUnlessDone(const std::shared_ptr<T>& training)
      : discard_(training, &training->discard) {}
  DiscardUnlessDone(DiscardUnlessDone&&) = default;
  ~DiscardUnlessDone() {
    if (discard_ && !done_) discard_->store(true);
  }
  void done() { done_ = true; }

 private:
  std::shared_ptr<std::atomic<bool>> discard_;
  bool done_ = false;
};

using GeneratorTraining = Training<Generator, GeneratorTrainer>;
using TokenizerTraining = Training<Vqgan, VqganTrainer>;

struct GeneratorTrainerTraits {
  using Impl = GeneratorTraining;
  static constexpr const char* kName = "GeneratorTrainer";
};
struct ImageTokenizerTrainerTraits {
  using Impl = TokenizerTraining;
  static constexpr const char* kName = "ImageTokenizerTrainer";
};
using GeneratorTrainerClass = Wrap<GeneratorTrainerTraits>;
using ImageTokenizerTrainerClass = Wrap<ImageTokenizerTrainerTraits>;

// create*Trainer(model, options)
template <typename TrainerClass, typename ModelClass>
Napi::Value create(const Napi::CallbackInfo& info) {
  auto training = std::make_shared<typename TrainerClass::Impl>();
  training->locked = ModelClass::get(Argument(info, 0, "model"));
  training->options = optimizer_options(Argument(info, 1, "options"), &training->mode);
  Optimizer::check(training->locked->model.parameters(), training->options);
  return TrainerClass::create(info.Env(), std::move(training));
}

Optimizer::Result update(GeneratorTrainer& trainer, float learning_rate, const StopFlag& stop) {
  return trainer.optimizer().step(learning_rate, &stop);
}
Optimizer::Result update(VqganTrainer& trainer, float learning_rate, const StopFlag& stop) {
  return trainer.step(learning_rate, &stop);
}

// Extras of the training state: what belongs in it, and back.
TrainingExtras extras_of(const GeneratorTrainer&) {
  return {.kind = "generator", .numbers = {}, .arrays = {}};
}
TrainingExtras extras_of(VqganTrainer& trainer) {
  return {.kind = "image-tokenizer",
          .numbers = {},
          .arrays = {{"code_ages", trainer.revival().ages()}}};
}
void restore(GeneratorTrainer&, TrainingExtras) {}
void restore(VqganTrainer& trainer, TrainingExtras extras) {
  trainer.revival().restore(std::move(extras.arrays.at("code_ages")));
}

template <typename T>
Napi::Value steps(const Napi::CallbackInfo& info, const std::shared_ptr<T>& training) {
  return Napi::Number::New(info.Env(), static_cast<double>(training->steps.load()));
}

// apply(learningRate, control)
template <typename T>
Napi::Value apply(const Napi::CallbackInfo& info, const std::shared_ptr<T>& training) {
  return start_task(
      info.Env(), Argument(info, 1, "control").task_options(),
      [training,
       learning_rate =
           float_argument(Argument(info, 0, "learningRate"), 0, std::numeric_limits<float>::max()),
       lease = Lease(training, training->in_use, "trainer")](TaskContext& task) {
        const TrainingScope scope(*training, task.stop);
        const Optimizer::Result result = update(*training->trainer, learning_rate, task.stop);
        training->steps = training->trainer->optimizer().steps();
        return result;
      },
      [](Napi::Env env, Optimizer::Result& updated) -> Napi::Value {
        Napi::Object result = Napi::Object::New(env);
        result.Set("gradientNorm", updated.gradient_norm);
        result.Set("applied", updated.applied);
        return result;
      });
}

// saveState(path, control)
template <typename T>
Napi::Value save_state(const Napi::CallbackInfo& info, const std::shared_ptr<T>& training) {
  return start_task(
      info.Env(), Argument(info, 1, "control").task_options(),
      [training, path = Argument(info, 0, "path").string(),
       lease = Lease(training, training->in_use, "trainer")](TaskContext& task) {
        const TrainingScope scope(*training, task.stop);
        save_training_state(path, training->trainer->optimizer(), extras_of(*training->trainer),
                            &task.stop);
      },
      to_undefined);
}

// loadState(path, control)
template <typename T>
Napi::Value load_state(const Napi::CallbackInfo& info, const std::shared_ptr<T>& training) {
  return start_task(
      info.Env(), Argument(info, 1, "control").task_options(),
      [training, path = Argument(info, 0, "path").string(),
       lease = Lease(training, training->in_use, "trainer")](TaskContext& task) {
        const TrainingScope scope(*training, task.stop);
        TrainingExtras extras = extras_of(*training->trainer);
        load_training_state(path, training->trainer->optimizer(), extras, &task.stop);
        restore(*training->trainer, std::move(extras));
        training->locked->model.parameters().zero_grad();
        training->steps = training->trainer->optimizer().steps();
      },
      to_undefined);
}

// accumulate(text, valid, image, batch, options, scale, control)
Napi::Value accumulate_pairs(const Napi::CallbackInfo& info,
                             const std::shared_ptr<GeneratorTraining>& training) {
  const Argument options(info, 4, "options");
  const auto weight = [&](const char* name) { return float_argument(options[name], 0, 1e30); };
  const GeneratorLossOptions loss{
      .text_to_image_weight = weight("textToImageWeight"),
      .image_to_text_weight = weight("imageToTextWeight"),
      .label_smoothing = float_argument(options["labelSmoothing"], 0, 1),
      .z_loss = weight("zLoss")};
  return start_task(
      info.Env(), Argument(info, 6, "control").task_options(),
      [training, batch = batch_arguments(info, 0), loss,
       scale = float_argument(Argument(info, 5, "scale"), 0, 1e30),
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

// accumulate(images, count, weights, scale, control)
Napi::Value accumulate_images(const Napi::CallbackInfo& info,
                              const std::shared_ptr<TokenizerTraining>& training) {
  return start_task(
      info.Env(), Argument(info, 4, "control").task_options(),
      [training, images = copied<float>(Argument(info, 0, "images")),
       count = count_argument(Argument(info, 1, "count")),
       weights = loss_weights(Argument(info, 2, "weights")),
       scale = float_argument(Argument(info, 3, "scale"), 0, 1e30),
       lease = Lease(training, training->in_use, "trainer"),
       discard = DiscardUnlessDone(training)](TaskContext& task) mutable {
        const TrainingScope scope(*training, task.stop);
        auto result = training->trainer->accumulate(images, count, weights, scale, &task.stop);
        discard.done();
        return result;
      },
      [](Napi::Env env, VqganTrainer::Accumulated& accumulated) -> Napi::Value {
        Napi::Object result = Napi::Object::New(env);
        result.Set("losses", to_losses(env, accumulated.losses));
        result.Set("perplexity", accumulated.perplexity);
        result.Set("codesUsed", static_cast<double>(accumulated.codes_used));
        return result;
      });
}

// revive(steps, seed, control)
Napi::Value revive(const Napi::CallbackInfo& info,
                   const std::shared_ptr<TokenizerTraining>& training) {
  return start_task(
      info.Env(), Argument(info, 2, "control").task_options(),
      [training,
       patience = Argument(info, 0, "steps").integer(1, std::numeric_limits<int32_t>::max() - 1),
       seed = seed_argument(Argument(info, 1, "seed")),
       lease = Lease(training, training->in_use, "trainer")](TaskContext& task) {
        const TrainingScope scope(*training, task.stop);
        return training->trainer->revive(patience, seed);
      },
      [](Napi::Env env, int64_t& count) -> Napi::Value {
        return Napi::Number::New(env, static_cast<double>(count));
      });
}

// initializeCodebook(images, count, seed, control)
Napi::Value initialize_codebook(const Napi::CallbackInfo& info,
                                const std::shared_ptr<TokenizerTraining>& training) {
  return start_task(
      info.Env(), Argument(info, 3, "control").task_options(),
      [training, images = copied<float>(Argument(info, 0, "images")),
       count = count_argument(Argument(info, 1, "count")),
       seed = seed_argument(Argument(info, 2, "seed")),
       lease = Lease(training, training->in_use, "trainer")](TaskContext& task) {
        const TrainingScope scope(*training, task.stop);
        training->trainer->initialize_codebook(images, count, seed, &task.stop);
      },
      to_undefined);
}

// createImageTokenizerTrainer(tokenizer, options)
Napi::Value create_tokenizer_trainer(const Napi::CallbackInfo& info) {
  const auto locked = ImageTokenizerClass::get(Argument(info, 0, "model"));
  VILG_CHECK(locked->model.config().quantizer == Quantizer::kNearest, kUnsupported,
             "Training is implemented for the nearest quantizer; this image tokenizer has the "
             "gumbel quantizer, which can encode and decode");
  return create<ImageTokenizerTrainerClass, ImageTokenizerClass>(info);
}

}  // namespace

void define_trainers(Napi::Env env, Napi::Object exports) {
  {
    using Class = GeneratorTrainerClass;
    using T = GeneratorTraining;
    Class::define(
        env, Napi::Object::New(env),
        {Class::getter<&steps<T>>("steps"), Class::method<&apply<T>>("apply"),
         Class::method<&save_state<T>>("saveState"), Class::method<&load_state<T>>("loadState"),
         Class::method<&accumulate_pairs>("accumulate")});
  }
  {
    using Class = ImageTokenizerTrainerClass;
    using T = TokenizerTraining;
    Class::define(
        env, Napi::Object::New(env),
        {Class::getter<&steps<T>>("steps"), Class::method<&apply<T>>("apply"),
         Class::method<&save_state<T>>("saveState"), Class::method<&load_state<T>>("loadState"),
         Class::method<&accumulate_images>("accumulate"), Class::method<&revive>("revive"),
         Class::method<&initialize_codebook>("initializeCodebook")});
  }
  export_function<&create<GeneratorTrainerClass, GeneratorClass>>(exports,
                                                                  "createGeneratorTrainer");
  export_function<&create_tokenizer_trainer>(exports, "createImageTokenizerTrainer");
}

}  // namespace vilg::binding
