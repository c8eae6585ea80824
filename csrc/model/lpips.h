#pragma once

#include <array>
#include <string>
#include <vector>

#include "core/stop_flag.h"
#include "model/parameters.h"

namespace vilg {

// LPIPS (Zhang et al. 2018) with VGG16, the perceptual loss of VQGAN: pictures through thirteen
// convolutions, and the weighted distance of their features after each of the five blocks. The
// weights are the public ones, which are not part of this library: VGG16 under torchvision's names
// (features.0.weight ..), the five linear heads under lpips' (lin0.model.1.weight ..), in one
// safetensors file.
class Lpips {
 public:
  // Throws kIo, kCheckpointFormat, or kCheckpointIncompatible with what is missing.
  Lpips(Backend& backend, const std::string& path, const StopFlag* stop);
  // What the constructor would throw, from the file's header alone, and kInvalidArgument where
  // pictures of this side are too small.
  static void check(const std::string& path, int64_t side);

  // The distance between images x and `target`, both (B, height, width, 3) in [-1, 1], sides of at
  // least 16 (check): mean over the batch. `weight` times its gradient goes straight into x.
  double distance(Backend& backend, const GradientMode& mode, const Value& x, const Tensor& target,
                  float weight, const StopFlag* stop);

  ParameterList& parameters() { return parameters_; }

 private:
  static constexpr int kBlocks = 5;
  struct Convolution {
    Parameter *weight = nullptr, *bias = nullptr;
  };
  // What each block gives, before the next one halves it.
  std::array<Value, kBlocks> features(Tape& tape, const Value& images);

  ParameterList parameters_;
  Parameter scale_, shift_;  // of the pictures, as a linear layer
  std::array<std::vector<Convolution>, kBlocks> blocks_;
  std::array<Parameter*, kBlocks> heads_{};
};

}  // namespace vilg
