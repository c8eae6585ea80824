#pragma once

#include <vector>

#include "autograd/convolutional_ops.h"
#include "autograd/image_ops.h"
#include "model/parameters.h"

namespace vilg {

struct PatchDiscriminatorConfig {
  int64_t image_channels = 3;
  int64_t channels = 64;  // of the first layer; doubled by each of the next three
  int64_t layers = 3;     // between the first and the last: all but the last of them halve the side
  // Throws kInvalidArgument by the names of the options that these come from.
  void validate() const;
};

// The weights by taming-transformers' names, main.0.weight and so on; running averages among them.
std::vector<ParameterSpec> patch_discriminator_parameters(const PatchDiscriminatorConfig& config);

// PatchGAN (Isola et al. 2017) as taming-transformers' NLayerDiscriminator has it: a logit for each
// patch of a picture, above 0 for real ones.
class PatchDiscriminator {
 public:
  PatchDiscriminator(Backend& backend, const PatchDiscriminatorConfig& config);

  ParameterList& parameters() { return parameters_; }
  // images (B, height, width, C), sides of at least min_side(), to logits (B, h, w, 1). Norms are
  // in training mode: by the batch's statistics, which also go into the running averages.
  Value logits(Tape& tape, const Value& images);
  // The same in evaluation mode: by the running averages. Not differentiated.
  Value evaluated_logits(Tape& tape, const Value& images);
  // The smallest side that leaves more than one patch.
  static int64_t min_side(const PatchDiscriminatorConfig& config);

 private:
  struct Layer {
    Parameter *weight = nullptr, *bias = nullptr;  // bias only without norm
    BatchNorm norm;                                // gamma is null in the first and the last layer
    int64_t stride = 1;
  };

  Value run(Tape& tape, Value x, bool by_averages);

  ParameterList parameters_;
  std::vector<Layer> layers_;
};

}  // namespace vilg
