#pragma once

#include <vector>

#include "autograd/image_losses.h"
#include "model/image_tokenizer.h"

namespace vilg {

// config.json of a "dvae"; field by field in docs/model.md.
struct DvaeConfig {
  int64_t resolution = 256;
  int64_t hidden = 256;   // channels at full size; doubled at each halving
  int64_t initial = 128;  // of what the decoder makes of a code
  int64_t blocks_per_group = 2;
  int64_t groups = 4;
  int64_t codebook_size = 8192;
  float epsilon = 0.1f;  // pixels are mapped to [epsilon, 1 - epsilon]
  int64_t image_channels = 3;

  int64_t reduction() const { return int64_t{1} << (groups - 1); }
  void validate() const;
};

std::vector<ParameterSpec> dvae_parameters(const DvaeConfig& config);

struct DvaeLossOptions {
  float divergence_weight = 0;  // of the KL term in the evidence lower bound
  GumbelOptions gumbel;
};

struct DvaeLosses {
  double likelihood = 0;         // minus the log-likelihood of a pixel's value under logit-Laplace
  double divergence = 0;         // KL of a code's distribution from the uniform one, in nats
  double reconstruction = 0;     // mean squared error of the picture, of [-1, 1]; not trained on
  double total = 0;              // likelihood + divergence_weight * divergence / values of a code
  std::vector<int32_t> indices;  // (B, h*w): the codes that were drawn
};

// The discrete VAE of DALL-E (Ramesh et al. 2021; weights by the names of its public code).
class Dvae final : public ImageTokenizer {
 public:
  Dvae(Backend& backend, const DvaeConfig& config, DType precision);

  const DvaeConfig& config() const { return config_; }
  int64_t resolution() const override { return config_.resolution; }
  int64_t reduction() const override { return config_.reduction(); }
  int64_t codebook_size() const override { return config_.codebook_size; }

  // --- the parts, on a tape ---
  // Pictures in [-1, 1] (any layout) to the networks' [epsilon, 1 - epsilon].
  Tensor map_pixels(Tape& tape, const Tensor& images) const;
  // (B, height, width, 3), mapped, to logits (B, h, w, codebookSize).
  Value encode(Tape& tape, const Value& mapped);
  // Probabilities of codes (B, h, w, codebookSize) to the decoder's input (B, h, w, initial).
  Value embed(Tape& tape, const Value& probabilities);
  // indices (B*h*w) to the same; not differentiated.
  Value lookup(Tape& tape, const Tensor& indices, int64_t batch, int64_t rows, int64_t columns);
  // (B, h, w, initial) to the parameters of logit-Laplace (B, height, width, 2 * 3).
  Value decode(Tape& tape, const Value& embedded);

  // --- whole batches in host memory ---
  // prequant: the logits (B, codebookSize, h, w)
  Encoding encode(std::span<const float> images, int64_t batch, int64_t height, int64_t width,
                  const StopFlag* stop = nullptr) override;
  // in [-1, 1]
  std::vector<float> decode(std::span<const int32_t> indices, int64_t batch, int64_t rows,
                            int64_t columns, const StopFlag* stop = nullptr) override;

  // Adds `scale` times the gradients of the evidence lower bound, codes drawn by Gumbel softmax, to
  // the weights' gradients. mode.compute may be bfloat16 while the weights are float32.
  DvaeLosses accumulate_gradients(std::span<const float> images, int64_t batch, int64_t height,
                                  int64_t width, const DvaeLossOptions& options, float scale,
                                  const GradientMode& mode, const StopFlag* stop = nullptr);

 private:
  struct Convolution {
    Parameter *weight = nullptr, *bias = nullptr;
  };
  struct Block {
    Convolution shortcut;  // only where the channels change
    std::vector<Convolution> path;
  };
  struct Half {
    Convolution input, output;
    std::vector<std::vector<Block>> groups;
  };

  Half half(const std::string& name);
  Value convolve(Tape& tape, const Value& x, const Convolution& convolution);
  Value run(Tape& tape, Value x, const Block& block);
  Value run(Tape& tape, Value x, const std::vector<Block>& group);
  // The mean squared error of the pictures that stats give, on the host.
  double picture_error(const Tensor& stats, const Tensor& pictures) const;

  DvaeConfig config_;
  Half encoder_, decoder_;
};

}  // namespace vilg
