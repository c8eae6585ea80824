#pragma once

#include <memory>
#include <optional>
#include <string>

#include "model/lpips.h"
#include "model/patch_discriminator.h"
#include "model/vqgan.h"
#include "train/optimizer.h"

namespace vilg {

// What VQGAN training adds to the errors of the picture (Esser et al. 2021, and
// taming-transformers' VQLPIPSWithDiscriminator).
struct AdversaryOptions {
  std::string perceptual_weights;  // a file for Lpips; empty: no perceptual loss
  std::optional<PatchDiscriminatorConfig> discriminator = std::nullopt;
  uint64_t seed = 0;  // of the discriminator's first weights
  // Throws what is wrong with them, without taking memory; `resolution` is the pictures' side.
  void check(int64_t resolution) const;
};

struct AdversaryWeights {
  float perceptual = 0;
  float discriminator = 0;  // 0: not begun, the discriminator is left as it is
};

struct AdversaryLosses {
  double perceptual = 0;                  // LPIPS
  double adversarial = 0;                 // -mean logit of reconstructions
  double adaptive_weight = 0;             // what the adversarial loss was multiplied by
  double discriminator = 0;               // the discriminator's own hinge loss
  double real_logit = 0, fake_logit = 0;  // means
};

// A perceptual loss, a discriminator that is trained along, or both.
class Adversary {
 public:
  Adversary(Backend& backend, const AdversaryOptions& options, const OptimizerOptions& optimizer,
            const StopFlag* stop);

  // Adds `scale` times the gradient of the perceptual loss, and of the adversarial loss with the
  // adaptive weight, to that of the reconstruction; and the gradient of the discriminator's loss to
  // its weights. Returns what the first two add to the total.
  //
  // The adaptive weight is |gradient of errors and perceptual loss| / (|gradient of the adversarial
  // loss| + 1e-4), both by the decoder's last weight, between 0 and 1e4, times
  // weights.discriminator. The discriminator sees the same reconstructions as the decoder's loss,
  // those from before the update.
  double accumulate(const Reconstruction& reconstruction, const AdversaryWeights& weights,
                    float scale, AdversaryLosses& losses);

  // The perceptual loss, and the discriminator's in evaluation mode, of pictures (B, height, width,
  // C) and their reconstructions, which are not trained on.
  AdversaryLosses measure(Backend& backend, const Tensor& pictures, const Tensor& reconstructions,
                          const StopFlag* stop);

  // Null without a discriminator.
  Optimizer* optimizer() { return optimizer_.get(); }
  PatchDiscriminator* discriminator() { return discriminator_.get(); }
  void discard();

 private:
  double train_against(const Reconstruction& reconstruction, float weight, float scale,
                       AdversaryLosses& losses);

  std::unique_ptr<Lpips> lpips_;
  std::unique_ptr<PatchDiscriminator> discriminator_;
  std::unique_ptr<Optimizer> optimizer_;
};

}  // namespace vilg
