#pragma once

#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "model/image_tokenizer.h"

namespace vilg {

// nearest: the code with the smallest Euclidean distance. gumbel: the largest of a 1x1 projection's
// logits, without noise.
enum class Quantizer { kNearest, kGumbel };

// config.json of a "vqgan"; field by field in docs/model.md.
struct VqganConfig {
  Quantizer quantizer = Quantizer::kNearest;
  int64_t resolution = 256;  // side of the training pictures; says where attention blocks are
  int64_t channels = 128;
  std::vector<int64_t> multipliers{1, 1, 2, 4};  // of channels, from full size to latent size
  int64_t residual_blocks = 2;                   // a level of the encoder; the decoder has one more
  std::vector<int64_t> attention_resolutions{32};
  int64_t latent_channels = 256;
  int64_t codebook_size = 8192, codebook_dim = 256;
  int64_t image_channels = 3;
  bool wavelet = false;  // the decoder gives the Haar transform of pictures of twice the side

  int64_t output_channels() const { return wavelet ? 4 * image_channels : image_channels; }
  int64_t levels() const { return static_cast<int64_t>(multipliers.size()); }
  int64_t level_channels(int64_t level) const {
    return channels * multipliers[static_cast<size_t>(level)];
  }
  bool attends(int64_t level) const;
  // Pixels of a side to one code.
  int64_t reduction() const { return int64_t{1} << (levels() - 1); }
  void validate() const;
};

std::vector<ParameterSpec> vqgan_parameters(const VqganConfig& config);

// One weight per loss term. The paper's equation is 1, 1, 1 (means instead of sums); what
// taming-transformers calls its legacy form with beta 0.25, and its checkpoints were trained with,
// is commitment 1, codebook 0.25.
struct VqganLossWeights {
  float reconstruction = 1;  // mean (x - x^)^2
  float absolute = 0;        // mean |x - x^|
  float commitment = 1;      // mean (E(x) - sg[e])^2: moves the encoder
  float codebook = 1;        // mean (sg[E(x)] - e)^2: moves the codebook
};

struct VqganLosses {
  double reconstruction = 0;  // unweighted, as below
  double absolute = 0;
  double quantization = 0;       // mean (E(x) - e)^2: the value of both codebook terms
  double total = 0;              // with the weights
  std::vector<int32_t> indices;  // (B, h*w): the codes in use
  Tensor prequant;               // (B*h*w, D): the encoder's outputs, from which codes are revived
};

// What losses of the decoder's pictures see. Gradients go into `reconstruction`.
struct Reconstruction {
  Tape& tape;
  const Value& pictures;        // (B, height, width, C)
  const Value& reconstruction;  // like the pictures; its gradient so far is that of the errors
  // Euclidean norm of the gradient by the decoder's last weight, for a gradient by its pictures.
  std::function<double(const Tensor& gradient)> last_layer_norm;
};
// Gives the value that the loss adds to the total.
using PictureLoss = std::function<double(const Reconstruction&)>;

// The image tokenizer of ERNIE-ViLG: taming-transformers' encoder, quantizer and decoder.
class Vqgan final : public ImageTokenizer {
 public:
  Vqgan(Backend& backend, const VqganConfig& config, DType precision);

  const VqganConfig& config() const { return config_; }
  int64_t resolution() const override { return config_.resolution; }
  int64_t reduction() const override { return config_.reduction(); }
  int64_t codebook_size() const override { return config_.codebook_size; }
  Parameter& codebook() { return *codebook_; }  // (codebookSize, codebookDim)

  // --- the parts, on a tape; pictures (B, height, width, 3), latents (B, h, w, .) ---
  // What the quantizer reads: encoder and quant_conv, (B, h, w, D).
  Value encode(Tape& tape, const Value& images);
  // (B, h, w, D), codes or what an end-to-end generator makes of them, to pictures, or to their
  // wavelet transforms.
  Value decode(Tape& tape, const Value& latents);
  // indices (B*h*w) to latents
  Value lookup(Tape& tape, const Tensor& indices, int64_t batch, int64_t rows, int64_t columns);
  // Gumbel: (B, h, w, codebookSize)
  Value gumbel_logits(Tape& tape, const Value& prequant);

  // --- whole batches in host memory ---
  // prequant: the encoder's vectors (B, codebookDim, h, w)
  Encoding encode(std::span<const float> images, int64_t batch, int64_t height, int64_t width,
                  const StopFlag* stop = nullptr) override;
  // not clamped; of twice the side where the decoder gives wavelets
  std::vector<float> decode(std::span<const int32_t> indices, int64_t batch, int64_t rows,
                            int64_t columns, const StopFlag* stop = nullptr) override;

  // Adds `scale` times the gradients of the weighted losses to the weights' gradients. mode.compute
  // may be bfloat16 while the weights are float32. `picture_loss`, where given, is asked for more
  // gradient before it goes back through the decoder. Nearest quantizer only.
  VqganLosses accumulate_gradients(std::span<const float> images, int64_t batch, int64_t height,
                                   int64_t width, const VqganLossWeights& weights, float scale,
                                   const GradientMode& mode, const StopFlag* stop = nullptr,
                                   const PictureLoss& picture_loss = nullptr);

 private:
  struct Convolution {
    Parameter *weight = nullptr, *bias = nullptr;
  };
  struct ResidualBlock {
    GroupNorm norm1, norm2;
    Convolution conv1, conv2, shortcut;  // shortcut only where the channels change
  };
  struct AttentionBlock {
    GroupNorm norm;
    Convolution q, k, v, out;
  };
  // Residual blocks, each followed by attention where the level has it, then a change of size.
  struct Level {
    std::vector<ResidualBlock> blocks;
    std::vector<AttentionBlock> attentions;
    Convolution resample;
  };
  struct Middle {
    ResidualBlock block1, block2;
    AttentionBlock attention;
  };
  struct Half {
    Convolution conv_in, conv_out;
    std::vector<Level> levels;  // in the order of their index in the names
    Middle middle;
    GroupNorm norm_out;
  };

  Convolution convolution(const std::string& name);
  GroupNorm norm(const std::string& name);
  ResidualBlock residual_block(const std::string& name, bool shortcut);
  AttentionBlock attention_block(const std::string& name);
  Half half(const std::string& name, const char* levels, const char* resample);

  // These take their input by value so that it is freed as early as its last reader allows.
  Value run(Tape& tape, Value x, const ResidualBlock& block);
  Value run(Tape& tape, Value x, const AttentionBlock& block);
  Value run(Tape& tape, Value x, const Level& level);
  Value run(Tape& tape, Value x, const Middle& middle);
  // The decoder but for its last layer, and that.
  Value decode_features(Tape& tape, const Value& latents);
  Value paint(Tape& tape, const Value& features);
  double last_layer_norm(Tape& tape, const Tensor& features, const Tensor& gradient);

  VqganConfig config_;
  Half encoder_, decoder_;
  Convolution quant_conv_, post_quant_conv_, gumbel_;
  Parameter* codebook_;
};

}  // namespace vilg
