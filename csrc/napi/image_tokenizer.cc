// The image tokenizer (vqgan): created, loaded, encoding, decoding, differentiated, saved.
#include "napi/definitions.h"
#include "napi/tokenizer_losses.h"
#include "train/gradient_scope.h"

namespace vilg::binding {
namespace {

using Model = Locked<Vqgan>;
constexpr int64_t kMaxSize = int64_t{1} << 31;  // the model's own limits are lower

VqganConfig vqgan_config(const Argument& argument) {
  constexpr const char* kQuantizers[] = {"nearest", "gumbel"};
  const auto size = [&](const char* name) { return argument[name].integer(1, kMaxSize); };
  VqganConfig config;
  config.quantizer =
      argument["quantizer"].one_of(kQuantizers) == 0 ? Quantizer::kNearest : Quantizer::kGumbel;
  config.resolution = size("resolution"), config.channels = size("channels");
  config.multipliers = argument["multipliers"].integers(1, kMaxSize);
  config.residual_blocks = size("residualBlocks");
  config.attention_resolutions = argument["attentionResolutions"].integers(1, kMaxSize);
  config.latent_channels = size("latentChannels");
  config.codebook_size = size("codebookSize"), config.codebook_dim = size("codebookDim");
  config.validate();
  return config;
}

// createImageTokenizer(config, options, seed, control)
Napi::Value create(const Napi::CallbackInfo& info) {
  return start_model<ImageTokenizerClass, Vqgan>(
      info, vqgan_config(Argument(info, 0, "config")), model_options(Argument(info, 1, "options")),
      seed_argument(Argument(info, 2, "seed")), "", Argument(info, 3, "control").task_options());
}

// loadImageTokenizer(config, options, path, control)
Napi::Value load(const Napi::CallbackInfo& info) {
  return start_model<ImageTokenizerClass, Vqgan>(
      info, vqgan_config(Argument(info, 0, "config")), model_options(Argument(info, 1, "options")),
      0, Argument(info, 2, "path").string(), Argument(info, 3, "control").task_options());
}

// encode(images, count, control)
Napi::Value encode(const Napi::CallbackInfo& info, const std::shared_ptr<Model>& tokenizer) {
  return start_task(
      info.Env(), Argument(info, 2, "control").task_options(),
      [tokenizer, images = copied<float>(Argument(info, 0, "images")),
       count = count_argument(Argument(info, 1, "count"))](TaskContext& task) {
        const auto hold = tokenizer->lock.shared(&task.stop);
        const int64_t side = tokenizer->model.config().resolution;
        return tokenizer->model.encode(images, count, side, side, &task.stop);
      },
      [](Napi::Env env, Vqgan::Encoding& encoding) -> Napi::Value {
        Napi::Object result = Napi::Object::New(env);
        result.Set("indices", to_typed_array(env, encoding.indices));
        result.Set("prequant", to_typed_array(env, encoding.prequant));
        return result;
      });
}

// decode(indices, count, control)
Napi::Value decode(const Napi::CallbackInfo& info, const std::shared_ptr<Model>& tokenizer) {
  return start_task(
      info.Env(), Argument(info, 2, "control").task_options(),
      [tokenizer, indices = copied<int32_t>(Argument(info, 0, "indices")),
       count = count_argument(Argument(info, 1, "count"))](TaskContext& task) {
        const auto hold = tokenizer->lock.shared(&task.stop);
        const VqganConfig& config = tokenizer->model.config();
        const int64_t side = config.resolution / config.reduction();
        return tokenizer->model.decode(indices, count, side, side, &task.stop);
      },
      [](Napi::Env env, std::vector<float>& images) -> Napi::Value {
        return to_typed_array(env, images);
      });
}

// gradients(images, count, weights, control)
Napi::Value gradients(const Napi::CallbackInfo& info, const std::shared_ptr<Model>& tokenizer) {
  struct Result {
    VqganLosses losses;
    NamedGradients gradients;
  };
  return start_task(
      info.Env(), Argument(info, 3, "control").task_options(),
      [tokenizer, images = copied<float>(Argument(info, 0, "images")),
       count = count_argument(Argument(info, 1, "count")),
       weights = loss_weights(Argument(info, 2, "weights"))](TaskContext& task) {
        const auto hold = tokenizer->lock.exclusive(&task.stop);
        Vqgan& model = tokenizer->model;
        std::vector<Tensor> own;
        const GradientScope scope(model.parameters(), own);
        const int64_t side = model.config().resolution;
        Result result;
        result.losses = model.accumulate_gradients(images, count, side, side, weights, 1.0f,
                                                   model.precision(), &task.stop);
        result.gradients = read_gradients(model.parameters());
        return result;
      },
      [](Napi::Env env, Result& computed) -> Napi::Value {
        Napi::Object result = Napi::Object::New(env);
        result.Set("losses", to_losses(env, computed.losses));
        set_gradients(result, computed.gradients);
        return result;
      });
}

}  // namespace

int64_t count_argument(const Argument& argument) { return argument.integer(1, 1 << 24); }

VqganLossWeights loss_weights(const Argument& argument) {
  const auto weight = [&](const char* name) { return float_argument(argument[name], 0, 1e30); };
  return {.reconstruction = weight("reconstruction"),
          .absolute = weight("absolute"),
          .commitment = weight("commitment"),
          .codebook = weight("codebook")};
}

Napi::Value to_losses(Napi::Env env, const VqganLosses& losses) {
  Napi::Object result = Napi::Object::New(env);
  result.Set("total", losses.total);
  result.Set("reconstruction", losses.reconstruction);
  result.Set("absolute", losses.absolute);
  // one value, two gradients
  result.Set("commitment", losses.quantization);
  result.Set("codebook", losses.quantization);
  return result;
}

void define_image_tokenizer(Napi::Env env, Napi::Object exports) {
  using Class = ImageTokenizerClass;
  Class::define(
      env, Napi::Object::New(env),
      {Class::getter<&parameter_count<Vqgan>>("parameterCount"),
       Class::getter<&device<Vqgan>>("device"), Class::getter<&precision<Vqgan>>("precision"),
       Class::method<&encode>("encode"), Class::method<&decode>("decode"),
       Class::method<&gradients>("gradients"), Class::method<&save_model<Vqgan>>("save")});
  export_function<&create>(exports, "createImageTokenizer");
  export_function<&load>(exports, "loadImageTokenizer");
}

}  // namespace vilg::binding
