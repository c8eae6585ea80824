#include "model/patch_discriminator.h"

#include <cmath>

#include "autograd/image_losses.h"
#include "model/checkpoint.h"
#include "tests/fixtures.h"
#include "tests/harness.h"

namespace vilg::test {
namespace {

constexpr PatchDiscriminatorConfig kTiny{.channels = 8, .layers = 2};

Value upload(Tape& tape, const std::vector<float>& images, int64_t batch, int64_t side) {
  return to_channels_last(tape, tape.value(tape.backend().upload(images.data(), DType::kFloat32,
                                                                 {batch, 3, side, side})));
}

std::vector<float> host(const Value& value, Backend& backend) {
  std::vector<float> values(static_cast<size_t>(value->data.num_elements()));
  backend.copy_out(values.data(), value->data.data(), value->data.size_bytes());
  return values;
}

}  // namespace

VILG_TEST(patch_discriminator_matches_taming_transformers) {
  const Fixture weights("taming-discriminator-tiny/weights.safetensors");
  const Fixture expected("taming-discriminator-tiny/expected.safetensors");
  for (Backend* backend : backends()) {
    const char* on = backend->device();
    PatchDiscriminator model(*backend, kTiny);
    load_parameters(model.parameters(), weights.file());
    Tape tape(*backend, GradientMode(), nullptr);
    const Value real = model.logits(tape, upload(tape, expected.floats("real"), 2, 32));
    const Value fake = model.logits(tape, upload(tape, expected.floats("fake"), 2, 32));
    double error = relative_error(host(real, *backend), expected.floats("logits_real"));
    EXPECT(error < 1e-5, "%s: real logits %g", on, error);
    error = relative_error(host(fake, *backend), expected.floats("logits_fake"));
    EXPECT(error < 1e-5, "%s: fake logits %g", on, error);
    const double loss =
        (hinge_loss(tape, real, true, 0.5f) + hinge_loss(tape, fake, false, 0.5f)) / 2;
    error = std::abs(loss / static_cast<double>(expected.floats("hinge_loss")[0]) - 1);
    EXPECT(error < 1e-5, "%s: hinge loss %g", on, error);
    tape.backward();
    int compared = 0;
    for (size_t i = 0; i < model.parameters().specs().size(); ++i) {
      const std::string& name = model.parameters().specs()[i].name;
      if (name.find("running") != std::string::npos) continue;
      ++compared;
      const std::vector<float> actual = model.parameters().read(i, /*gradient=*/true);
      if (name == "main.8.bias") {  // no logit reaches its margin: real and fake cancel
        EXPECT(std::abs(actual[0]) < 1e-6f && std::abs(expected.floats("grad." + name)[0]) < 1e-6f,
               "%s: gradient of %s %g", on, name.c_str(), static_cast<double>(actual[0]));
        continue;
      }
      error = relative_error(actual, expected.floats("grad." + name));
      EXPECT(error < 1e-4, "%s: gradient of %s %g", on, name.c_str(), error);
    }
    EXPECT(compared == 10, "%s: %d gradients", on, compared);
  }
}

VILG_TEST(batch_norm_keeps_running_averages) {
  for (Backend* backend : backends()) {
    const auto parameter = [&](const char* name, std::vector<float> values) {
      return Parameter{.name = name,
                       .value = backend->upload(values.data(), DType::kFloat32,
                                                {static_cast<int64_t>(values.size())}),
                       .grad = {}};
    };
    Parameter gamma = parameter("gamma", {2, 1}), beta = parameter("beta", {0, 1});
    Parameter mean = parameter("mean", {0, 10}), variance = parameter("variance", {1, 1});
    const BatchNorm norm{&gamma, &beta, &mean, &variance};
    // two pictures of 1 x 2: channel 0 is 1 2 3 4, channel 1 is 5 everywhere
    const std::vector<float> x = {1, 5, 2, 5, 3, 5, 4, 5};
    Tape tape(*backend);
    const Value out = batch_norm(
        tape, tape.value(backend->upload(x.data(), DType::kFloat32, {2, 1, 2, 2})), norm);
    const float rstd = 1 / std::sqrt(1.25f + 1e-5f);
    EXPECT(
        max_abs_error(host(out, *backend), {-3 * rstd, 1, -rstd, 1, rstd, 1, 3 * rstd, 1}) < 1e-6,
        "%s", backend->device());
    const auto values = [&](const Parameter& p) {
      std::vector<float> v(2);
      backend->copy_out(v.data(), p.value.data(), p.value.size_bytes());
      return v;
    };
    EXPECT(max_abs_error(values(mean), {0.25f, 9.5f}) < 1e-6, "%s", backend->device());
    // 5/3 is the variance of a sample
    EXPECT(max_abs_error(values(variance), {0.9f + 0.1f * 5 / 3, 0.9f}) < 1e-6, "%s",
           backend->device());
    // in evaluation mode by these averages, whatever the batch
    const std::vector<float> picture = {0.25f, 9.5f, 1.25f, 8.5f};
    const Value evaluated = batch_norm_by_averages(
        tape, tape.value(backend->upload(picture.data(), DType::kFloat32, {1, 1, 2, 2})), norm);
    const float slopes[] = {2 / std::sqrt(0.9f + 0.5f / 3 + 1e-5f), 1 / std::sqrt(0.9f + 1e-5f)};
    EXPECT(max_abs_error(host(evaluated, *backend), {0, 1, slopes[0], 1 - slopes[1]}) < 1e-5, "%s",
           backend->device());
    const std::vector<float> one(2, 1.0f);
    EXPECT_ERROR(
        kShapeMismatch,
        batch_norm(tape, tape.value(backend->upload(one.data(), DType::kFloat32, {1, 1, 1, 2})),
                   norm));
  }
}

VILG_TEST(patch_discriminator_shapes_and_freezing) {
  EXPECT(PatchDiscriminator::min_side({}) == 32, "%d", (int)PatchDiscriminator::min_side({}));
  PatchDiscriminator model(cpu_backend(), kTiny);
  model.parameters().initialize(3);
  const int64_t side = PatchDiscriminator::min_side(kTiny);
  const auto images = random_floats(static_cast<size_t>(3 * side * side), 1);
  Tape tape(cpu_backend(), GradientMode(), nullptr);
  const Value leaf = tape.value(upload(tape, images, 1, side)->data, /*needs_grad=*/true);
  {
    const FrozenScope frozen(model.parameters());
    const Value logits = model.logits(tape, leaf);
    EXPECT(logits->data.shape() == Shape({1, 2, 2, 1}), "%s",
           logits->data.shape().to_string().c_str());
    EXPECT(std::isfinite(adversarial_loss(tape, logits, 1)), "loss");
    tape.backward();
  }
  double largest = 0;
  for (const float g : host(tape.value(leaf->grad), cpu_backend())) {
    largest = std::max(largest, std::abs(static_cast<double>(g)));
  }
  EXPECT(largest > 0, "no gradient reaches the pictures");
  for (const Parameter& parameter : model.parameters().all()) {
    EXPECT(!parameter.grad, "gradient of %s", parameter.name.c_str());
    EXPECT(parameter.frozen == (parameter.name.find("running") != std::string::npos), "%s",
           parameter.name.c_str());
  }
  EXPECT_ERROR(kInvalidArgument, PatchDiscriminator(cpu_backend(), {.layers = 0}));
}

// The gradient of what a generator lowers, by its pictures.
VILG_TEST(adversarial_gradient_against_finite_differences) {
  PatchDiscriminator model(ref_backend(), {.channels = 4, .layers = 1});
  model.parameters().initialize(5);
  for (Parameter& parameter : model.parameters().all()) {  // out of the first weights' small range
    if (parameter.name.ends_with(".weight") && parameter.value.shape().rank() == 4) {
      for (int64_t i = 0; i < parameter.num_elements(); ++i) parameter.value.f32()[i] *= 20;
    }
  }
  std::vector<float> images = random_floats(2 * 3 * 8 * 8, 7);
  const FrozenScope frozen(model.parameters());
  const auto loss = [&](Tensor* gradient) {
    Tape tape(ref_backend(), GradientMode(), nullptr);
    const Value leaf = tape.value(
        ref_backend().upload(images.data(), DType::kFloat32, {2, 8, 8, 3}), /*needs_grad=*/true);
    const double value = adversarial_loss(tape, model.logits(tape, leaf), 1);
    tape.backward();
    if (gradient) *gradient = leaf->grad;
    return value;
  };
  Tensor gradient;
  loss(&gradient);
  for (size_t i = 0; i < images.size(); i += 29) {
    const double expected = finite_difference(images, i, 1e-3, [&] { return loss(nullptr); });
    // second-order differences, and float32 results of the size of 1 over the step
    EXPECT(std::abs(gradient.f32()[i] - expected) < 2e-3 * (0.05 + std::abs(expected)),
           "%zu: %g, %g", i, static_cast<double>(gradient.f32()[i]), expected);
  }
}

}  // namespace vilg::test
