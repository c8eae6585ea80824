#include "model/dvae.h"

#include <algorithm>
#include <cmath>

#include "autograd/convolutional_ops.h"
#include "autograd/ops.h"

namespace vilg {
namespace {

constexpr int kPathLength = 4;  // convolutions of a residual path
constexpr int64_t kBottleneck = 4;

struct BlockShape {
  std::string name;
  int64_t ins, outs;
};

// The groups of one half, each a list of blocks. The encoder's channels double from group to group,
// the decoder's halve.
std::vector<std::vector<BlockShape>> block_shapes(const DvaeConfig& c, bool encodes) {
  std::vector<std::vector<BlockShape>> groups;
  int64_t ins = encodes ? c.hidden : c.initial;
  for (int64_t g = 0; g < c.groups; ++g) {
    const int64_t outs = c.hidden << (encodes ? g : c.groups - 1 - g);
    std::vector<BlockShape>& blocks = groups.emplace_back();
    for (int64_t b = 0; b < c.blocks_per_group; ++b) {
      blocks.push_back({std::string(encodes ? "encoder" : "decoder") + ".blocks.group_" +
                            std::to_string(g + 1) + ".block_" + std::to_string(b + 1),
                        ins, outs});
      ins = outs;
    }
  }
  return groups;
}

std::string path_name(const BlockShape& block, int i) {
  return block.name + ".res_path.conv_" + std::to_string(i + 1);
}

const DvaeConfig& validated(const DvaeConfig& config) {
  config.validate();
  return config;
}

}  // namespace

void DvaeConfig::validate() const {
  const auto range = [](const char* name, int64_t value, int64_t min, int64_t max) {
    VILG_CHECK(value >= min && value <= max, kInvalidArgument,
               "Expected %s from %lld to %lld, received %lld", name, static_cast<long long>(min),
               static_cast<long long>(max), static_cast<long long>(value));
  };
  range("hidden", hidden, kBottleneck, 1 << 14);
  range("initial", initial, 1, 1 << 14);
  range("blocksPerGroup", blocks_per_group, 1, 64);
  range("groups", groups, 1, 8);
  range("codebookSize", codebook_size, 1, 1 << 24);
  range("imageChannels", image_channels, 1, 16);
  range("resolution", resolution, reduction(), 1 << 14);
  VILG_CHECK(hidden % kBottleneck == 0, kInvalidArgument,
             "Expected hidden to be a multiple of %lld, received %lld",
             static_cast<long long>(kBottleneck), static_cast<long long>(hidden));
  VILG_CHECK(resolution % reduction() == 0, kInvalidArgument,
             "Expected resolution to be a multiple of %lld (2 per group after the first), received "
             "%lld",
             static_cast<long long>(reduction()), static_cast<long long>(resolution));
  VILG_CHECK(epsilon > 0 && epsilon < 0.5f, kInvalidArgument,
             "Expected epsilon above 0 and below 0.5, received %g", static_cast<double>(epsilon));
}

std::vector<ParameterSpec> dvae_parameters(const DvaeConfig& c) {
  std::vector<ParameterSpec> specs;
  // fresh values as DALL-E sets them
  const auto convolution = [&](const std::string& name, int64_t outs, int64_t ins, int64_t side) {
    const float deviation = 1.0f / std::sqrt(static_cast<float>(ins * side * side));
    specs.push_back({name + ".w",
                     {outs, ins, side, side},
                     {Init::Kind::kNormal, deviation},
                     /*convolution=*/true,
                     /*decay=*/true});
    specs.push_back({name + ".b", {outs}, {Init::Kind::kZero}});
  };
  for (const bool encodes : {true, false}) {
    const std::string half = encodes ? "encoder.blocks." : "decoder.blocks.";
    if (encodes) {
      convolution(half + "input", c.hidden, c.image_channels, 7);
    } else {
      convolution(half + "input", c.initial, c.codebook_size, 1);
    }
    int64_t channels = 0;
    for (const auto& group : block_shapes(c, encodes)) {
      for (const BlockShape& block : group) {
        if (block.ins != block.outs) {
          convolution(block.name + ".id_path", block.outs, block.ins, 1);
        }
        const int64_t inner = block.outs / kBottleneck;
        for (int i = 0; i < kPathLength; ++i) {
          // the pointwise one comes last in the encoder and first in the decoder
          const bool pointwise = i == (encodes ? kPathLength - 1 : 0);
          convolution(path_name(block, i), i == kPathLength - 1 ? block.outs : inner,
                      i == 0 ? block.ins : inner, pointwise ? 1 : 3);
        }
        channels = block.outs;
      }
    }
    convolution(half + "output.conv", encodes ? c.codebook_size : 2 * c.image_channels, channels,
                1);
  }
  return specs;
}

Dvae::Dvae(Backend& backend, const DvaeConfig& config, DType precision)
    : ImageTokenizer(backend, dvae_parameters(validated(config)), precision, config.image_channels),
      config_(config),
      encoder_(half("encoder")),
      decoder_(half("decoder")) {}

Dvae::Half Dvae::half(const std::string& name) {
  const auto convolution = [&](const std::string& at) -> Convolution {
    return {&parameters()[at + ".w"], &parameters()[at + ".b"]};
  };
  Half half;
  half.input = convolution(name + ".blocks.input");
  half.output = convolution(name + ".blocks.output.conv");
  for (const auto& shapes : block_shapes(config_, name == "encoder")) {
    std::vector<Block>& group = half.groups.emplace_back();
    for (const BlockShape& shape : shapes) {
      Block& block = group.emplace_back();
      if (shape.ins != shape.outs) block.shortcut = convolution(shape.name + ".id_path");
      for (int i = 0; i < kPathLength; ++i) {
        block.path.push_back(convolution(path_name(shape, i)));
      }
    }
  }
  return half;
}

// --- the network -----------------------------------------------------------------------------

Value Dvae::convolve(Tape& tape, const Value& x, const Convolution& convolution) {
  const int64_t side = convolution.weight->value.dim(1), padding = (side - 1) / 2;
  if (side == 1) return linear(tape, x, *convolution.weight, *convolution.bias);
  return conv2d(
      tape, x, *convolution.weight, convolution.bias,
      {.pad_top = padding, .pad_left = padding, .pad_bottom = padding, .pad_right = padding});
}

Value Dvae::run(Tape& tape, Value x, const Block& block) {
  tape.context().check_stop();
  // keeps the sum of all residual paths small at first
  const auto layers = static_cast<float>(config_.groups * config_.blocks_per_group);
  const float gain = 1.0f / (layers * layers);
  return run_section(tape, std::move(x), [this, &block, gain](Tape& part, Value x) {
    Value h = x;
    for (const Convolution& convolution : block.path) {
      h = convolve(part, leaky_relu(part, h, 0), convolution);
    }
    if (block.shortcut.weight) x = convolve(part, x, block.shortcut);
    return add(part, x, h, gain);
  });
}

Value Dvae::run(Tape& tape, Value x, const std::vector<Block>& group) {
  for (const Block& block : group) x = run(tape, std::move(x), block);
  return x;
}

Value Dvae::encode(Tape& tape, const Value& mapped) {
  Value x = convolve(tape, mapped, encoder_.input);
  for (size_t g = 0; g < encoder_.groups.size(); ++g) {
    if (g > 0) x = max_pool(tape, x);
    x = run(tape, std::move(x), encoder_.groups[g]);
  }
  return convolve(tape, leaky_relu(tape, x, 0), encoder_.output);
}

Value Dvae::embed(Tape& tape, const Value& probabilities) {
  return convolve(tape, probabilities, decoder_.input);
}

Value Dvae::lookup(Tape& tape, const Tensor& indices, int64_t batch, int64_t rows,
                   int64_t columns) {
  // the product with a one-hot vector is a column of the weight
  const Tensor& weight = decoder_.input.weight->value;
  const Tensor table = backend().empty(DType::kFloat32, {config_.codebook_size, config_.initial});
  TransposeParams transposed;
  transposed.out = table.data();
  transposed.x = weight.data();
  transposed.x_dtype = weight.dtype();
  transposed.batch = 1, transposed.rows = config_.initial;
  transposed.columns = config_.codebook_size;
  tape.ops().transpose(transposed, tape.context());
  Tensor out = backend().empty(DType::kFloat32, {batch, rows, columns, config_.initial});
  GatherParams gather;
  gather.out = out.f32();
  gather.table = table.data();
  gather.indices = indices.as<int32_t>();
  gather.offset = decoder_.input.bias->value.f32();
  gather.rows = batch * rows * columns;
  gather.size = config_.codebook_size, gather.dim = config_.initial;
  tape.ops().gather(gather, tape.context());
  return tape.value(std::move(out));
}

Value Dvae::decode(Tape& tape, const Value& embedded) {
  Value x = embedded;
  for (size_t g = 0; g < decoder_.groups.size(); ++g) {
    if (g > 0) x = upsample(tape, x);
    x = run(tape, std::move(x), decoder_.groups[g]);
  }
  return convolve(tape, leaky_relu(tape, x, 0), decoder_.output);
}

Tensor Dvae::map_pixels(Tape& tape, const Tensor& images) const {
  // (1 - 2 epsilon) (image + 1) / 2 + epsilon; the constants come to 1/2
  const std::vector<float> halves(static_cast<size_t>(images.num_elements()), 0.5f);
  Tensor out = backend().upload(halves.data(), DType::kFloat32, images.shape());
  AddParams params;
  params.out = out.data();
  params.x = out.data();
  params.y = images.data();
  params.num_elements = images.num_elements();
  params.beta = 0.5f - config_.epsilon;
  tape.ops().add(params, tape.context());
  return out;
}

namespace {

// The pixel in [-1, 1] that mu stands for: the median of its distribution, unmapped.
float pixel_of(float mu, float epsilon) {
  const float x = 1.0f / (1.0f + std::exp(-mu));
  return std::clamp((2 * x - 1) / (1 - 2 * epsilon), -1.0f, 1.0f);
}

}  // namespace

double Dvae::picture_error(const Tensor& stats, const Tensor& pictures) const {
  const auto channels = static_cast<size_t>(config_.image_channels);
  std::vector<float> given(static_cast<size_t>(stats.num_elements()));
  std::vector<float> expected(static_cast<size_t>(pictures.num_elements()));
  backend().copy_out(given.data(), stats.data(), stats.size_bytes());
  backend().copy_out(expected.data(), pictures.data(), pictures.size_bytes());
  double sum = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    const float mu = given[i / channels * 2 * channels + i % channels];
    const double d = static_cast<double>(pixel_of(mu, config_.epsilon)) - expected[i];
    sum += d * d;
  }
  return sum / static_cast<double>(expected.size());
}

// --- whole batches ---------------------------------------------------------------------------

Dvae::Encoding Dvae::encode(std::span<const float> images, int64_t batch, int64_t height,
                            int64_t width, const StopFlag* stop) {
  check_images(images, batch, height, width);
  const int64_t codes = height * width / (reduction() * reduction());
  Encoding encoding;
  encoding.indices.resize(static_cast<size_t>(batch * codes));
  encoding.prequant.resize(static_cast<size_t>(batch * codes * config_.codebook_size));
  const int64_t together = std::max<int64_t>(1, kPassPixels / (height * width));
  for (int64_t first = 0; first < batch; first += together) {
    const int64_t count = std::min(together, batch - first);
    Tape tape(backend(), precision(), stop);
    const Value pictures = upload(tape, images, first, count, height, width);
    const Value logits = encode(tape, tape.value(map_pixels(tape, pictures->data)));
    const Tensor indices = largest(tape, logits->data);
    backend().copy_out(encoding.indices.data() + first * codes, indices.data(),
                       indices.size_bytes());
    const Value channels_first = to_channels_first(tape, logits);
    backend().copy_out(encoding.prequant.data() + first * codes * config_.codebook_size,
                       channels_first->data.data(), channels_first->data.size_bytes());
  }
  return encoding;
}

std::vector<float> Dvae::decode(std::span<const int32_t> indices, int64_t batch, int64_t rows,
                                int64_t columns, const StopFlag* stop) {
  check_indices(indices, batch, rows, columns);
  const int64_t codes = rows * columns, pixels = codes * reduction() * reduction();
  const int64_t channels = config_.image_channels;
  std::vector<float> images(static_cast<size_t>(batch * channels * pixels));
  const int64_t together = std::max<int64_t>(1, kPassPixels / pixels);
  for (int64_t first = 0; first < batch; first += together) {
    const int64_t count = std::min(together, batch - first);
    Tape tape(backend(), precision(), stop);
    const Tensor ids =
        backend().upload(indices.data() + first * codes, DType::kInt32, {count * codes});
    const Value stats =
        to_channels_first(tape, decode(tape, lookup(tape, ids, count, rows, columns)));
    std::vector<float> host(static_cast<size_t>(stats->data.num_elements()));
    backend().copy_out(host.data(), stats->data.data(), stats->data.size_bytes());
    for (int64_t b = 0; b < count; ++b) {  // the first half of the channels is mu
      const float* mu = host.data() + b * 2 * channels * pixels;
      std::transform(mu, mu + channels * pixels, images.begin() + (first + b) * channels * pixels,
                     [this](float x) { return pixel_of(x, config_.epsilon); });
    }
  }
  return images;
}

DvaeLosses Dvae::accumulate_gradients(std::span<const float> images, int64_t batch, int64_t height,
                                      int64_t width, const DvaeLossOptions& options, float scale,
                                      const GradientMode& mode, const StopFlag* stop) {
  check_trainable();
  VILG_CHECK(options.divergence_weight >= 0 && std::isfinite(options.divergence_weight),
             kInvalidArgument, "Expected a weight of the KL term of at least 0, received %g",
             static_cast<double>(options.divergence_weight));
  check_images(images, batch, height, width);
  Tape tape(backend(), mode, stop);
  const Value pictures = upload(tape, images, 0, batch, height, width);
  const Tensor mapped = map_pixels(tape, pictures->data);
  const Value logits = encode(tape, tape.value(mapped));
  // the bound of a whole picture divided by its values, so that sizes of pictures do not matter
  const auto values_of_code =
      static_cast<double>(reduction() * reduction() * config_.image_channels);
  const double divergence_weight = options.divergence_weight / values_of_code;
  DvaeLosses losses;
  losses.divergence =
      uniform_divergence(tape, logits, static_cast<float>(scale * divergence_weight));
  GumbelSoftmax drawn = gumbel_softmax(tape, logits, options.gumbel);
  const Value stats = decode(tape, embed(tape, drawn.probabilities));
  losses.likelihood = logit_laplace(tape, stats, mapped, scale);
  losses.reconstruction = picture_error(stats->data, pictures->data);
  losses.total = losses.likelihood + divergence_weight * losses.divergence;
  losses.indices = std::move(drawn.indices);
  drawn.probabilities = nullptr;
  tape.backward();
  return losses;
}

}  // namespace vilg
