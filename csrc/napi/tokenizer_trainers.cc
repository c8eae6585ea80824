// Trainers of image tokenizers: vqgan and dvae.
#include "napi/definitions.h"
#include "napi/tokenizer_losses.h"
#include "napi/trainers.h"
#include "train/dvae_trainer.h"
#include "train/vqgan_trainer.h"

namespace vilg::binding {
namespace {

using TokenizerTraining = Training<ImageTokenizer, VqganTrainer>;
using DvaeTraining = Training<ImageTokenizer, DvaeTrainer>;
struct ImageTokenizerTrainerTraits {
  using Impl = TokenizerTraining;
  static constexpr const char* kName = "ImageTokenizerTrainer";
};
struct DvaeTrainerTraits {
  using Impl = DvaeTraining;
  static constexpr const char* kName = "DvaeTrainer";
};
using ImageTokenizerTrainerClass = Wrap<ImageTokenizerTrainerTraits>;
using DvaeTrainerClass = Wrap<DvaeTrainerTraits>;

VqganTrainer::Weights training_weights(const Argument& argument) {
  const auto weight = [&](const char* name) {
    const Argument given = argument[name];
    return given.missing() ? 0.0f : float_argument(given, 0, 1e30);
  };
  return {
      .tokenizer = loss_weights(argument),
      .adversary = {.perceptual = weight("perceptual"), .discriminator = weight("discriminator")}};
}

Napi::Object adversary_losses(Napi::Env env, const AdversaryLosses& losses) {
  Napi::Object result = Napi::Object::New(env);
  result.Set("perceptual", losses.perceptual);
  result.Set("adversarial", losses.adversarial);
  result.Set("adaptiveWeight", losses.adaptive_weight);
  result.Set("discriminator", losses.discriminator);
  result.Set("realLogit", losses.real_logit);
  result.Set("fakeLogit", losses.fake_logit);
  return result;
}

// accumulate(images, count, weights, scale, control)
Napi::Value accumulate_images(const Napi::CallbackInfo& info,
                              const std::shared_ptr<TokenizerTraining>& training) {
  return start_task(
      info.Env(), Argument(info, 4, "control").task_options(),
      [training, images = copied<float>(Argument(info, 0, "images")),
       count = count_argument(Argument(info, 1, "count")),
       weights = training_weights(Argument(info, 2, "weights")),
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
        result.Set("adversary", adversary_losses(env, accumulated.adversary));
        result.Set("perplexity", accumulated.perplexity);
        result.Set("codesUsed", static_cast<double>(accumulated.codes_used));
        return result;
      });
}

// measure(images, reconstructions, count, control)
Napi::Value measure(const Napi::CallbackInfo& info,
                    const std::shared_ptr<TokenizerTraining>& training) {
  return start_task(
      info.Env(), Argument(info, 3, "control").task_options(),
      [training, images = copied<float>(Argument(info, 0, "images")),
       reconstructions = copied<float>(Argument(info, 1, "reconstructions")),
       count = count_argument(Argument(info, 2, "count")),
       lease = Lease(training, training->in_use, "trainer")](TaskContext& task) {
        const TrainingScope scope(*training, task.stop);
        return training->trainer->measure(images, reconstructions, count, &task.stop);
      },
      [](Napi::Env env, AdversaryLosses& losses) -> Napi::Value {
        return adversary_losses(env, losses);
      });
}

// accumulate(images, count, options, scale, control)
Napi::Value accumulate_dvae(const Napi::CallbackInfo& info,
                            const std::shared_ptr<DvaeTraining>& training) {
  const Argument given(info, 2, "options");
  const DvaeLossOptions options{
      .divergence_weight = float_argument(given["divergenceWeight"], 0, 1e30),
      .gumbel = {.temperature = float_argument(given["temperature"], 0, 1e30),
                 .hard = given["hard"].boolean(),
                 .seed = seed_argument(given["seed"]),
                 .draw = static_cast<uint32_t>(
                     given["draw"].integer(0, std::numeric_limits<uint32_t>::max()))}};
  return start_task(
      info.Env(), Argument(info, 4, "control").task_options(),
      [training, options, images = copied<float>(Argument(info, 0, "images")),
       count = count_argument(Argument(info, 1, "count")),
       scale = float_argument(Argument(info, 3, "scale"), 0, 1e30),
       lease = Lease(training, training->in_use, "trainer"),
       discard = DiscardUnlessDone(training)](TaskContext& task) mutable {
        const TrainingScope scope(*training, task.stop);
        auto result = training->trainer->accumulate(images, count, options, scale, &task.stop);
        discard.done();
        return result;
      },
      [](Napi::Env env, DvaeTrainer::Accumulated& accumulated) -> Napi::Value {
        const DvaeLosses& losses = accumulated.losses;
        Napi::Object result = Napi::Object::New(env), terms = Napi::Object::New(env);
        terms.Set("total", losses.total);
        terms.Set("likelihood", losses.likelihood);
        terms.Set("divergence", losses.divergence);
        terms.Set("reconstruction", losses.reconstruction);
        result.Set("losses", terms);
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

VqganTrainingOptions training_options(const Argument& argument) {
  VqganTrainingOptions options;
  if (argument.missing()) return options;
  if (const Argument path = argument["perceptualWeights"]; !path.missing()) {
    options.adversary.perceptual_weights = path.string();
  }
  if (const Argument discriminator = argument["discriminator"]; !discriminator.missing()) {
    options.adversary.discriminator =
        PatchDiscriminatorConfig{.channels = discriminator["channels"].integer(1, 4096),
                                 .layers = discriminator["layers"].integer(1, 8)};
    options.adversary.seed = seed_argument(discriminator["seed"]);
  }
  if (const Argument averages = argument["codebookAverages"]; !averages.missing()) {
    options.codebook_averages =
        CodebookAveragesOptions{.decay = float_argument(averages["decay"], 0, 1),
                                .epsilon = float_argument(averages["epsilon"], 0, 1e30)};
  }
  if (const Argument rate = argument["codebookRate"]; !rate.missing()) {
    options.codebook_rate = CodebookRateOptions{.weight = float_argument(rate["weight"], 0, 1e30),
                                                .decay = float_argument(rate["decay"], 0, 1)};
  }
  return options;
}

// createImageTokenizerTrainer(tokenizer, options, training)
Napi::Value create_tokenizer_trainer(const Napi::CallbackInfo& info) {
  const auto locked = ImageTokenizerClass::get(Argument(info, 0, "model"));
  const auto* vqgan = dynamic_cast<Vqgan*>(&locked->model);
  if (!vqgan) Argument(info, 0, "model").refuse("a vqgan");
  VILG_CHECK(vqgan->config().quantizer == Quantizer::kNearest, kUnsupported,
             "Training is implemented for the nearest quantizer; this image tokenizer has the "
             "gumbel quantizer, which can encode and decode");
  const VqganTrainingOptions training = training_options(Argument(info, 2, "training"));
  training.check(vqgan->config());
  return create_trainer<ImageTokenizerTrainerClass>(
      info, locked,
      [locked, training](const OptimizerOptions& options, const GradientMode& mode,
                         const StopFlag& stop) {
        return std::make_unique<VqganTrainer>(model_of<Vqgan>(locked), options, mode, training,
                                              &stop);
      });
}

// createDvaeTrainer(tokenizer, options)
Napi::Value create_dvae_trainer(const Napi::CallbackInfo& info) {
  const auto locked = ImageTokenizerClass::get(Argument(info, 0, "model"));
  if (!dynamic_cast<Dvae*>(&locked->model)) Argument(info, 0, "model").refuse("a dvae");
  return create_trainer<DvaeTrainerClass>(
      info, locked,
      [locked](const OptimizerOptions& options, const GradientMode& mode, const StopFlag&) {
        return std::make_unique<DvaeTrainer>(model_of<Dvae>(locked), options, mode);
      });
}

}  // namespace

void define_tokenizer_trainers(Napi::Env env, Napi::Object exports) {
  {
    using Class = ImageTokenizerTrainerClass;
    define_trainer<Class>(
        env, {Class::method<&accumulate_images>("accumulate"), Class::method<&measure>("measure"),
              Class::method<&revive>("revive"),
              Class::method<&initialize_codebook>("initializeCodebook")});
  }
  using Class = DvaeTrainerClass;
  define_trainer<Class>(env, {Class::method<&accumulate_dvae>("accumulate")});
  export_function<&create_tokenizer_trainer>(exports, "createImageTokenizerTrainer");
  export_function<&create_dvae_trainer>(exports, "createDvaeTrainer");
}

}  // namespace vilg::binding
