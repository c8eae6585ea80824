#include "model/vqgan.h"

#include <algorithm>
#include <cmath>

#include "autograd/device_double.h"
#include "model/wavelet.h"

namespace vilg {
namespace {

constexpr int64_t kGroups = 32;  // of every GroupNorm, epsilon 1e-6 (GroupNorm's defaults)

long long ll(int64_t value) { return static_cast<long long>(value); }

}  // namespace

bool VqganConfig::attends(int64_t level) const {
  return std::find(attention_resolutions.begin(), attention_resolutions.end(),
                   resolution >> level) != attention_resolutions.end();
}

void VqganConfig::validate() const {
  const auto range = [](const char* name, int64_t value, int64_t min, int64_t max) {
    VILG_CHECK(value >= min && value <= max, kInvalidArgument,
               "Expected %s from %lld to %lld, received %lld", name, ll(min), ll(max), ll(value));
  };
  range("channels", channels, kGroups, 1 << 14);
  range("the number of multipliers", levels(), 1, 8);
  for (int64_t multiplier : multipliers) range("multipliers", multiplier, 1, 64);
  range("residualBlocks", residual_blocks, 1, 64);
  range("latentChannels", latent_channels, 1, 1 << 14);
  range("codebookSize", codebook_size, 1, 1 << 24);
  range("codebookDim", codebook_dim, 1, 1 << 14);
  range("imageChannels", image_channels, 1, 16);
  range("resolution", resolution, reduction(), 1 << 14);
  VILG_CHECK(channels % kGroups == 0, kInvalidArgument,
             "Expected channels to be a multiple of %lld (the groups of its norms), received %lld",
             ll(kGroups), ll(channels));
  VILG_CHECK(resolution % reduction() == 0, kInvalidArgument,
             "Expected resolution to be a multiple of %lld (2 per level after the first), received "
             "%lld",
             ll(reduction()), ll(resolution));
  for (int64_t side : attention_resolutions) {
    bool found = false;
    for (int64_t level = 0; level < levels(); ++level) found |= resolution >> level == side;
    VILG_CHECK(found, kInvalidArgument,
               "Expected attentionResolutions among the resolutions of the levels (%lld halved up "
               "to %lld times), received %lld",
               ll(resolution), ll(levels() - 1), ll(side));
  }
  // the projection reads quant_conv's output but has latentChannels inputs
  VILG_CHECK(quantizer != Quantizer::kGumbel || latent_channels == codebook_dim, kInvalidArgument,
             "Expected latentChannels equal to codebookDim with the gumbel quantizer, received "
             "%lld and %lld",
             ll(latent_channels), ll(codebook_dim));
}

// --- weights ---------------------------------------------------------------------------------

namespace {

// Fresh values are PyTorch's: convolutions uniform within 1 / sqrt(fan in), codebooks as
// taming-transformers sets them.
class SpecWriter {
 public:
  std::vector<ParameterSpec> specs;

  void convolution(const std::string& name, int64_t outs, int64_t ins, int64_t side) {
    const Init init{Init::Kind::kUniform, 1.0f / std::sqrt(static_cast<float>(ins * side * side))};
    specs.push_back(
        {name + ".weight", {outs, ins, side, side}, init, /*convolution=*/true, /*decay=*/true});
    specs.push_back({name + ".bias", {outs}, init});
  }
  void norm(const std::string& name, int64_t channels) {
    specs.push_back({name + ".weight", {channels}, {Init::Kind::kOne}});
    specs.push_back({name + ".bias", {channels}, {Init::Kind::kZero}});
  }
  void residual_block(const std::string& name, int64_t ins, int64_t outs) {
    norm(name + ".norm1", ins);
    convolution(name + ".conv1", outs, ins, 3);
    norm(name + ".norm2", outs);
    convolution(name + ".conv2", outs, outs, 3);
    if (ins != outs) convolution(name + ".nin_shortcut", outs, ins, 1);
  }
  void attention_block(const std::string& name, int64_t channels) {
    norm(name + ".norm", channels);
    for (const char* part : {".q", ".k", ".v", ".proj_out"}) {
      convolution(name + part, channels, channels, 1);
    }
  }
  void middle(const std::string& name, int64_t channels) {
    residual_block(name + ".block_1", channels, channels);
    attention_block(name + ".attn_1", channels);
    residual_block(name + ".block_2", channels, channels);
  }
  // Blocks of one level; returns the channels after them.
  int64_t level(const std::string& name, int64_t ins, int64_t outs, int64_t blocks, bool attends) {
    for (int64_t b = 0; b < blocks; ++b) {
      residual_block(name + ".block." + std::to_string(b), b == 0 ? ins : outs, outs);
    }
    for (int64_t b = 0; attends && b < blocks; ++b) {
      attention_block(name + ".attn." + std::to_string(b), outs);
    }
    return outs;
  }
};

}  // namespace

std::vector<ParameterSpec> vqgan_parameters(const VqganConfig& c) {
  SpecWriter writer;
  const int64_t last = c.levels() - 1, widest = c.level_channels(last);
  const auto name = [](const char* half, int64_t level) {
    return std::string(half) + "." + std::to_string(level);
  };

  writer.convolution("encoder.conv_in", c.channels, c.image_channels, 3);
  int64_t channels = c.channels;
  for (int64_t level = 0; level <= last; ++level) {
    const std::string at = name("encoder.down", level);
    channels =
        writer.level(at, channels, c.level_channels(level), c.residual_blocks, c.attends(level));
    if (level != last) writer.convolution(at + ".downsample.conv", channels, channels, 3);
  }
  writer.middle("encoder.mid", widest);
  writer.norm("encoder.norm_out", widest);
  writer.convolution("encoder.conv_out", c.latent_channels, widest, 3);

  writer.convolution("decoder.conv_in", widest, c.latent_channels, 3);
  writer.middle("decoder.mid", widest);
  channels = widest;
  for (int64_t level = last; level >= 0; --level) {
    const std::string at = name("decoder.up", level);
    channels = writer.level(at, channels, c.level_channels(level), c.residual_blocks + 1,
                            c.attends(level));
    if (level != 0) writer.convolution(at + ".upsample.conv", channels, channels, 3);
  }
  writer.norm("decoder.norm_out", channels);
  writer.convolution("decoder.conv_out", c.output_channels(), channels, 3);

  const bool gumbel = c.quantizer == Quantizer::kGumbel;
  if (gumbel) writer.convolution("quantize.proj", c.codebook_size, c.latent_channels, 1);
  const Init codes = gumbel
                         ? Init{Init::Kind::kNormal, 1.0f}
                         : Init{Init::Kind::kUniform, 1.0f / static_cast<float>(c.codebook_size)};
  writer.specs.push_back({gumbel ? "quantize.embed.weight" : "quantize.embedding.weight",
                          {c.codebook_size, c.codebook_dim},
                          codes,
                          /*convolution=*/false,
                          /*decay=*/false,
                          /*precise=*/true});
  writer.convolution("quant_conv", c.codebook_dim, c.latent_channels, 1);
  writer.convolution("post_quant_conv", c.latent_channels, c.codebook_dim, 1);
  return std::move(writer.specs);
}

namespace {
const VqganConfig& validated(const VqganConfig& config) {
  config.validate();
  return config;
}
}  // namespace

Vqgan::Vqgan(Backend& backend, const VqganConfig& config, DType precision)
    : ImageTokenizer(backend, vqgan_parameters(validated(config)), precision,
                     config.image_channels),
      config_(config),
      encoder_(half("encoder", ".down.", ".downsample.conv")),
      decoder_(half("decoder", ".up.", ".upsample.conv")),
      quant_conv_(convolution("quant_conv")),
      post_quant_conv_(convolution("post_quant_conv")) {
  const bool gumbel = config_.quantizer == Quantizer::kGumbel;
  if (gumbel) gumbel_ = convolution("quantize.proj");
  codebook_ = &parameters()[gumbel ? "quantize.embed.weight" : "quantize.embedding.weight"];
}

Vqgan::Convolution Vqgan::convolution(const std::string& name) {
  return {&parameters()[name + ".weight"], &parameters()[name + ".bias"]};
}

GroupNorm Vqgan::norm(const std::string& name) {
  return {.gamma = &parameters()[name + ".weight"],
          .beta = &parameters()[name + ".bias"],
          .groups = kGroups};
}

Vqgan::ResidualBlock Vqgan::residual_block(const std::string& name, bool shortcut) {
  ResidualBlock block{.norm1 = norm(name + ".norm1"),
                      .norm2 = norm(name + ".norm2"),
                      .conv1 = convolution(name + ".conv1"),
                      .conv2 = convolution(name + ".conv2"),
                      .shortcut = {}};
  if (shortcut) block.shortcut = convolution(name + ".nin_shortcut");
  return block;
}

Vqgan::AttentionBlock Vqgan::attention_block(const std::string& name) {
  return {.norm = norm(name + ".norm"),
          .q = convolution(name + ".q"),
          .k = convolution(name + ".k"),
          .v = convolution(name + ".v"),
          .out = convolution(name + ".proj_out")};
}

Vqgan::Half Vqgan::half(const std::string& name, const char* levels, const char* resample) {
  const bool encodes = name == "encoder";
  const int64_t last = config_.levels() - 1;
  const int64_t blocks = config_.residual_blocks + (encodes ? 0 : 1);
  Half half;
  half.conv_in = convolution(name + ".conv_in");
  for (int64_t level = 0; level <= last; ++level) {
    const std::string at = name + levels + std::to_string(level);
    // the level that pictures come from: the one before in the encoder, the one after in the
    // decoder
    const int64_t before = encodes ? level - 1 : level + 1;
    const int64_t outs = config_.level_channels(level);
    const int64_t ins = before < 0      ? config_.channels
                        : before > last ? config_.level_channels(last)
                                        : config_.level_channels(before);
    Level& added = half.levels.emplace_back();
    for (int64_t b = 0; b < blocks; ++b) {
      added.blocks.push_back(
          residual_block(at + ".block." + std::to_string(b), b == 0 && ins != outs));
      if (config_.attends(level)) {
        added.attentions.push_back(attention_block(at + ".attn." + std::to_string(b)));
      }
    }
    if (level != (encodes ? last : 0)) added.resample = convolution(at + resample);
  }
  half.middle = {.block1 = residual_block(name + ".mid.block_1", false),
                 .block2 = residual_block(name + ".mid.block_2", false),
                 .attention = attention_block(name + ".mid.attn_1")};
  half.norm_out = norm(name + ".norm_out");
  half.conv_out = convolution(name + ".conv_out");
  return half;
}

// --- the network -----------------------------------------------------------------------------

Value Vqgan::run(Tape& tape, Value x, const ResidualBlock& block) {
  tape.context().check_stop();
  return run_section(tape, std::move(x), [&block](Tape& part, Value x) {
    Value h = conv2d(part, x, *block.conv1.weight, block.conv1.bias, {.norm = &block.norm1});
    if (block.shortcut.weight) x = linear(part, x, *block.shortcut.weight, *block.shortcut.bias);
    return conv2d(part, h, *block.conv2.weight, block.conv2.bias,
                  {.norm = &block.norm2, .residual = x});
  });
}

Value Vqgan::run(Tape& tape, Value x, const AttentionBlock& block) {
  tape.context().check_stop();
  return run_section(tape, std::move(x), [&block](Tape& part, const Value& x) {
    Value attended;
    {
      Value h = group_norm(part, x, block.norm, /*swish=*/false);
      const Value q = linear(part, h, *block.q.weight, *block.q.bias);
      const Value k = linear(part, h, *block.k.weight, *block.k.bias);
      const Value v = linear(part, h, *block.v.weight, *block.v.bias);
      h = nullptr;
      attended = pixel_attention(part, q, k, v);
    }
    return linear(part, attended, *block.out.weight, *block.out.bias, {.residual = x});
  });
}

Value Vqgan::run(Tape& tape, Value x, const Level& level) {
  for (size_t b = 0; b < level.blocks.size(); ++b) {
    x = run(tape, std::move(x), level.blocks[b]);
    if (!level.attentions.empty()) x = run(tape, std::move(x), level.attentions[b]);
  }
  return x;
}

Value Vqgan::run(Tape& tape, Value x, const Middle& middle) {
  x = run(tape, std::move(x), middle.block1);
  x = run(tape, std::move(x), middle.attention);
  return run(tape, std::move(x), middle.block2);
}

Value Vqgan::encode(Tape& tape, const Value& images) {
  const Half& e = encoder_;
  Value x = conv2d(tape, images, *e.conv_in.weight, e.conv_in.bias);
  for (const Level& level : e.levels) {
    x = run(tape, std::move(x), level);
    if (level.resample.weight) {
      // padded at the right and the bottom only, as taming-transformers does
      x = conv2d(tape, x, *level.resample.weight, level.resample.bias,
                 {.stride = 2, .pad_top = 0, .pad_left = 0});
    }
  }
  x = run(tape, std::move(x), e.middle);
  x = conv2d(tape, x, *e.conv_out.weight, e.conv_out.bias, {.norm = &e.norm_out});
  return linear(tape, x, *quant_conv_.weight, *quant_conv_.bias);
}

Value Vqgan::decode(Tape& tape, const Value& latents) {
  return paint(tape, decode_features(tape, latents));
}

Value Vqgan::decode_features(Tape& tape, const Value& latents) {
  const Half& d = decoder_;
  Value x = linear(tape, latents, *post_quant_conv_.weight, *post_quant_conv_.bias);
  x = conv2d(tape, x, *d.conv_in.weight, d.conv_in.bias);
  x = run(tape, std::move(x), d.middle);
  for (auto level = d.levels.rbegin(); level != d.levels.rend(); ++level) {
    x = run(tape, std::move(x), *level);
    if (level->resample.weight) {
      x = conv2d(tape, x, *level->resample.weight, level->resample.bias, {.upsample = 2});
    }
  }
  return x;
}

Value Vqgan::paint(Tape& tape, const Value& features) {
  const Half& d = decoder_;
  return conv2d(tape, features, *d.conv_out.weight, d.conv_out.bias, {.norm = &d.norm_out});
}

double Vqgan::last_layer_norm(Tape& tape, const Tensor& features, const Tensor& gradient) {
  // the last layer once more, of which only the weight wants a gradient, one of its own
  const auto fixed = [](const Parameter& parameter) {
    return Parameter{.name = parameter.name, .value = parameter.value, .grad = {}, .frozen = true};
  };
  Parameter weight = fixed(*decoder_.conv_out.weight), bias = fixed(*decoder_.conv_out.bias);
  Parameter gamma = fixed(*decoder_.norm_out.gamma), beta = fixed(*decoder_.norm_out.beta);
  weight.frozen = false;
  GroupNorm norm = decoder_.norm_out;
  norm.gamma = &gamma, norm.beta = &beta;
  Tape layer(backend(), GradientMode(tape.compute()), tape.context().stop);
  const Value pictures = conv2d(layer, layer.value(features), weight, &bias, {.norm = &norm});
  layer.add_grad(pictures, gradient);
  layer.backward();
  const DeviceDouble sum(tape);
  tape.ops().squared_norm({sum.data(), weight.grad.f32(), weight.num_elements()}, tape.context());
  return std::sqrt(sum.read());
}

Value Vqgan::lookup(Tape& tape, const Tensor& indices, int64_t batch, int64_t rows,
                    int64_t columns) {
  return embedding(tape, indices, *codebook_, {batch, rows, columns, config_.codebook_dim});
}

Value Vqgan::gumbel_logits(Tape& tape, const Value& prequant) {
  VILG_CHECK(config_.quantizer == Quantizer::kGumbel, kInternal, "gumbel_logits of nearest codes");
  return linear(tape, prequant, *gumbel_.weight, *gumbel_.bias);
}

// --- whole batches ---------------------------------------------------------------------------

Vqgan::Encoding Vqgan::encode(std::span<const float> images, int64_t batch, int64_t height,
                              int64_t width, const StopFlag* stop) {
  check_images(images, batch, height, width);
  const int64_t codes = height * width / (config_.reduction() * config_.reduction());
  Encoding encoding;
  encoding.indices.resize(static_cast<size_t>(batch * codes));
  encoding.prequant.resize(static_cast<size_t>(batch * codes * config_.codebook_dim));
  const int64_t together = std::max<int64_t>(1, kPassPixels / (height * width));
  for (int64_t first = 0; first < batch; first += together) {
    const int64_t count = std::min(together, batch - first);
    Tape tape(backend(), precision(), stop);
    const Value prequant = encode(tape, upload(tape, images, first, count, height, width));
    Tensor indices;
    if (config_.quantizer == Quantizer::kNearest) {
      indices = quantize(tape, prequant, *codebook_, 0, 0).indices;
    } else {
      const Value logits = gumbel_logits(tape, prequant);
      indices = largest(tape, logits->data);
    }
    backend().copy_out(encoding.indices.data() + first * codes, indices.data(),
                       indices.size_bytes());
    const Value channels_first = to_channels_first(tape, prequant);
    backend().copy_out(encoding.prequant.data() + first * codes * config_.codebook_dim,
                       channels_first->data.data(), channels_first->data.size_bytes());
  }
  return encoding;
}

std::vector<float> Vqgan::decode(std::span<const int32_t> indices, int64_t batch, int64_t rows,
                                 int64_t columns, const StopFlag* stop) {
  check_indices(indices, batch, rows, columns);
  const int64_t codes = rows * columns;
  const int64_t side = config_.reduction();
  const int64_t pixels = codes * side * side, size = pixels * config_.output_channels();
  std::vector<float> images(static_cast<size_t>(batch * size));
  const int64_t together = std::max<int64_t>(1, kPassPixels / pixels);
  for (int64_t first = 0; first < batch; first += together) {
    const int64_t count = std::min(together, batch - first);
    Tape tape(backend(), precision(), stop);
    const Tensor ids =
        backend().upload(indices.data() + first * codes, DType::kInt32, {count * codes});
    const Value pictures =
        to_channels_first(tape, decode(tape, lookup(tape, ids, count, rows, columns)));
    backend().copy_out(images.data() + first * size, pictures->data.data(),
                       pictures->data.size_bytes());
  }
  if (!config_.wavelet) return images;
  std::vector<float> larger(images.size());
  for (int64_t b = 0; b < batch; ++b) {
    const auto part = [&](std::vector<float>& all) {
      return std::span(all).subspan(static_cast<size_t>(b * size), static_cast<size_t>(size));
    };
    inverse_haar(part(larger), part(images), config_.image_channels, rows * side, columns * side);
  }
  return larger;
}

VqganLosses Vqgan::accumulate_gradients(std::span<const float> images, int64_t batch,
                                        int64_t height, int64_t width,
                                        const VqganLossWeights& weights, float scale,
                                        const GradientMode& mode, const StopFlag* stop,
                                        const PictureLoss& picture_loss) {
  VILG_CHECK(config_.quantizer == Quantizer::kNearest, kUnsupported,
             "Training is implemented for the nearest quantizer; this image tokenizer has the "
             "gumbel quantizer, which can encode and decode");
  VILG_CHECK(!config_.wavelet, kUnsupported,
             "Training is implemented for decoders of pictures; this image tokenizer's gives "
             "wavelets, and can encode and decode");
  check_trainable();
  for (const float weight :
       {weights.reconstruction, weights.absolute, weights.commitment, weights.codebook}) {
    VILG_CHECK(weight >= 0 && std::isfinite(weight), kInvalidArgument,
               "Expected loss weights of at least 0, received %g", static_cast<double>(weight));
  }
  check_images(images, batch, height, width);
  Tape tape(backend(), mode, stop);
  const Value pictures = upload(tape, images, 0, batch, height, width);
  const Value prequant = encode(tape, pictures);
  Quantized quantized =
      quantize(tape, prequant, *codebook_, scale * weights.commitment, scale * weights.codebook);
  VqganLosses losses;
  losses.quantization = quantized.squared_error;
  losses.prequant = prequant->data.view(
      {prequant->data.num_elements() / config_.codebook_dim, config_.codebook_dim});
  losses.indices.resize(static_cast<size_t>(quantized.indices.num_elements()));
  backend().copy_out(losses.indices.data(), quantized.indices.data(),
                     quantized.indices.size_bytes());

  const Value features = decode_features(tape, quantized.codes);
  const Value reconstruction = paint(tape, features);
  losses.reconstruction =
      mean_squared_error(tape, reconstruction, pictures->data, scale * weights.reconstruction);
  losses.absolute =
      mean_absolute_error(tape, reconstruction, pictures->data, scale * weights.absolute);
  losses.total = weights.reconstruction * losses.reconstruction +
                 weights.absolute * losses.absolute +
                 (weights.commitment + weights.codebook) * losses.quantization;
  if (picture_loss) {
    losses.total += picture_loss({.tape = tape,
                                  .pictures = pictures,
                                  .reconstruction = reconstruction,
                                  .last_layer_norm = [&](const Tensor& gradient) {
                                    return last_layer_norm(tape, features->data, gradient);
                                  }});
  }
  tape.backward();
  return losses;
}

}  // namespace vilg
