#include "train/adversary.h"

#include <algorithm>
#include <cmath>

#include "autograd/image_losses.h"

namespace vilg {
namespace {

// A value like `x` from which gradients do not go on.
Value leaf_of(Tape& tape, const Value& x) { return tape.value(x->data, /*needs_grad=*/true); }

// to = (nothing or to) + scale * gradient
void add_scaled(Tape& tape, const Value& to, const Tensor& gradient, double scale) {
  if (!gradient || scale == 0) return;
  Tensor scaled = tape.backend().empty(DType::kFloat32, gradient.shape());
  AddParams params;
  params.out = scaled.data();
  params.x = gradient.data();
  params.num_elements = gradient.num_elements();
  params.alpha = static_cast<float>(scale);
  tape.ops().add(params, tape.context());
  tape.add_grad(to, std::move(scaled));
}

}  // namespace

void AdversaryOptions::check(int64_t resolution) const {
  if (!perceptual_weights.empty()) Lpips::check(perceptual_weights, resolution);
  if (!discriminator) return;
  discriminator->validate();
  const int64_t side = PatchDiscriminator::min_side(*discriminator);
  VILG_CHECK(resolution >= side, kInvalidArgument,
             "Expected pictures of at least %lld x %lld for a discriminator of %lld layers, "
             "received %lld x %lld; give it fewer layers",
             static_cast<long long>(side), static_cast<long long>(side),
             static_cast<long long>(discriminator->layers), static_cast<long long>(resolution),
             static_cast<long long>(resolution));
}

Adversary::Adversary(Backend& backend, const AdversaryOptions& options,
                     const OptimizerOptions& optimizer, const StopFlag* stop) {
  if (!options.perceptual_weights.empty()) {
    lpips_ = std::make_unique<Lpips>(backend, options.perceptual_weights, stop);
  }
  if (options.discriminator) {
    discriminator_ = std::make_unique<PatchDiscriminator>(backend, *options.discriminator);
    discriminator_->parameters().initialize(options.seed, stop);
    optimizer_ = std::make_unique<Optimizer>(discriminator_->parameters(), optimizer);
  }
}

double Adversary::accumulate(const Reconstruction& r, const AdversaryWeights& weights, float scale,
                             AdversaryLosses& losses) {
  double total = 0;
  if (lpips_ && weights.perceptual != 0) {
    losses.perceptual = lpips_->distance(r.tape.backend(), {r.tape.compute(), r.tape.recomputes()},
                                         r.reconstruction, r.pictures->data,
                                         scale * weights.perceptual, r.tape.context().stop);
    total += weights.perceptual * losses.perceptual;
  }
  if (discriminator_ && weights.discriminator != 0) {
    total += train_against(r, weights.discriminator, scale, losses);
  }
  return total;
}

double Adversary::train_against(const Reconstruction& r, float weight, float scale,
                                AdversaryLosses& losses) {
  Backend& backend = r.tape.backend();
  const auto tape_of = [&] {
    return Tape(backend, GradientMode(r.tape.compute()), r.tape.context().stop);
  };
  Tensor gradient;  // of the adversarial loss, by the reconstruction
  {
    const FrozenScope frozen(discriminator_->parameters());
    Tape tape = tape_of();
    const Value leaf = leaf_of(tape, r.reconstruction);
    losses.adversarial = adversarial_loss(tape, discriminator_->logits(tape, leaf), 1);
    tape.backward();
    gradient = leaf->grad;
  }
  const double of_errors =
      r.reconstruction->grad ? r.last_layer_norm(r.reconstruction->grad) / scale : 0;
  const double ratio = of_errors / (r.last_layer_norm(gradient) + 1e-4);
  // a NaN stays one, and the step is dropped
  losses.adaptive_weight = weight * std::clamp(ratio, 0.0, 1e4);
  add_scaled(r.tape, r.reconstruction, gradient, scale * losses.adaptive_weight);

  Tape tape = tape_of();
  const Value real = discriminator_->logits(tape, tape.value(r.pictures->data));
  const Value fake = discriminator_->logits(tape, tape.value(r.reconstruction->data));
  const float half = 0.5f * scale;
  losses.discriminator =
      0.5 * (hinge_loss(tape, real, true, half) + hinge_loss(tape, fake, false, half));
  losses.real_logit = -adversarial_loss(tape, real, 0);
  losses.fake_logit = -adversarial_loss(tape, fake, 0);
  tape.backward();
  return losses.adaptive_weight * losses.adversarial;
}

AdversaryLosses Adversary::measure(Backend& backend, const Tensor& pictures,
                                   const Tensor& reconstructions, const StopFlag* stop) {
  AdversaryLosses losses;
  Tape tape(backend, DType::kFloat32, stop);
  const Value given = tape.value(reconstructions);
  if (lpips_) {
    losses.perceptual = lpips_->distance(backend, tape.compute(), given, pictures, 0, stop);
  }
  if (discriminator_) {
    const Value real = discriminator_->evaluated_logits(tape, tape.value(pictures));
    const Value fake = discriminator_->evaluated_logits(tape, given);
    losses.discriminator =
        0.5 * (hinge_loss(tape, real, true, 0) + hinge_loss(tape, fake, false, 0));
    losses.real_logit = -adversarial_loss(tape, real, 0);
    losses.adversarial = adversarial_loss(tape, fake, 0);
    losses.fake_logit = -losses.adversarial;
  }
  return losses;
}

void Adversary::discard() {
  if (discriminator_) discriminator_->parameters().zero_grad();
}

}  // namespace vilg
