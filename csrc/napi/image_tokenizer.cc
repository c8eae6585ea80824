// The image tokenizer (vqgan or dvae): created, loaded, encoding, decoding, differentiated, saved.
#include <functional>

#include "model/dvae.h"
#include "napi/definitions.h"
#include "napi/tokenizer_losses.h"
#include "train/gradient_scope.h"

namespace vilg::binding {
namespace {

using Model = Locked<ImageTokenizer>;
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
  config.wavelet = argument["wavelet"].boolean();
  config.validate();
  return config;
}

DvaeConfig dvae_config(const Argument& argument) {
  const auto size = [&](const char* name) { return argument[name].integer(1, kMaxSize); };
  DvaeConfig config;
  config.resolution = size("resolution");
  config.hidden = size("hidden"), config.initial = size("initial");
  config.blocks_per_group = size("blocksPerGroup"), config.groups = size("groups");
  config.codebook_size = size("codebookSize");
  config.epsilon = float_argument(argument["epsilon"], 0, 1);
  config.validate();
  return config;
}

using Make = std::function<std::unique_ptr<ImageTokenizer>()>;
template <typename Kind, typename Config>
Make maker(const Config& config, const ModelOptions& options) {
  return [config, options] {
    return std::make_unique<Kind>(*options.backend, config, options.precision);
  };
}

Napi::Value start(const Napi::CallbackInfo& info, uint64_t seed, std::string path) {
  constexpr const char* kKinds[] = {"vqgan", "dvae"};
  const Argument config(info, 0, "config");
  const ModelOptions options = model_options(Argument(info, 1, "options"));
  return start_model<ImageTokenizerClass, ImageTokenizer>(
      info,
      config["model"].one_of(kKinds) == 0 ? maker<Vqgan>(vqgan_config(config), options)
                                          : maker<Dvae>(dvae_config(config), options),
      seed, std::move(path), Argument(info, 3, "control").task_options());
}

// createImageTokenizer(config, options, seed, control)
Napi::Value create(const Napi::CallbackInfo& info) {
  return start(info, seed_argument(Argument(info, 2, "seed")), "");
}

// loadImageTokenizer(config, options, path, control)
Napi::Value load(const Napi::CallbackInfo& info) {
  return start(info, 0, Argument(info, 2, "path").string());
}

// encode(images, count, control)
Napi::Value encode(const Napi::CallbackInfo& info, const std::shared_ptr<Model>& tokenizer) {
  return start_task(
      info.Env(), Argument(info, 2, "control").task_options(),
      [tokenizer, images = copied<float>(Argument(info, 0, "images")),
       count = count_argument(Argument(info, 1, "count"))](TaskContext& task) {
        const auto hold = tokenizer->lock.shared(&task.stop);
        const int64_t side = tokenizer->model.resolution();
        return tokenizer->model.encode(images, count, side, side, &task.stop);
      },
      [](Napi::Env env, ImageTokenizer::Encoding& encoding) -> Napi::Value {
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
        const int64_t side = tokenizer->model.resolution() / tokenizer->model.reduction();
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
  const auto* vqgan = dynamic_cast<Vqgan*>(&tokenizer->model);
  VILG_CHECK(vqgan, kUnsupported,
             "Gradients of single calls are there for a vqgan; this image tokenizer is a dvae, "
             "which a trainer trains");
  return start_task(
      info.Env(), Argument(info, 3, "control").task_options(),
      [tokenizer, images = copied<float>(Argument(info, 0, "images")),
       count = count_argument(Argument(info, 1, "count")),
       weights = loss_weights(Argument(info, 2, "weights"))](TaskContext& task) {
        const auto hold = tokenizer->lock.exclusive(&task.stop);
        Vqgan& model = *model_of<Vqgan>(tokenizer);
        std::vector<Tensor> own;
        const GradientScope scope(model.parameters(), own);
        const int64_t side = model.resolution();
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
      {Class::getter<&parameter_count<ImageTokenizer>>("parameterCount"),
       Class::getter<&device<ImageTokenizer>>("device"),
       Class::getter<&precision<ImageTokenizer>>("precision"), Class::method<&encode>("encode"),
       Class::method<&decode>("decode"), Class::method<&gradients>("gradients"),
       Class::method<&save_model<ImageTokenizer>>("save")});
  export_function<&create>(exports, "createImageTokenizer");
  export_function<&load>(exports, "loadImageTokenizer");
}

}  // namespace vilg::binding
