#include "train/adversary.h"

#include <algorithm>
#include <cmath>

#include "autograd/image_losses.h"
#include "model/checkpoint.h"
#include "tests/data.h"
#include "tests/fixtures.h"
#include "tests/harness.h"
#include "tests/temporary_folder.h"
#include "train/training_state.h"
#include "train/vqgan_trainer.h"

namespace vilg::test {
namespace {

constexpr int64_t kSide = 8, kBatch = 3;

std::shared_ptr<Vqgan> fresh(Backend& backend = cpu_backend()) {
  VqganConfig config;
  config.resolution = kSide;
  config.channels = 32;
  config.multipliers = {1, 1};
  config.residual_blocks = 1;
  config.attention_resolutions = {};
  config.latent_channels = 6;
  config.codebook_size = 12;
  config.codebook_dim = 5;
  auto model = std::make_shared<Vqgan>(backend, config, DType::kFloat32);
  model->parameters().initialize(2);
  return model;
}

std::vector<float> pictures() { return random_floats(kBatch * 3 * kSide * kSide, 4); }

const VqganTrainingOptions kAgainst{
    .adversary = {.perceptual_weights = "",
                  .discriminator = PatchDiscriminatorConfig{.channels = 8, .layers = 1},
                  .seed = 9},
    .codebook_averages = std::nullopt};
const VqganTrainer::Weights kErrors{.tokenizer = {.absolute = 0.5f}, .adversary = {}};
const VqganTrainer::Weights kAll{.tokenizer = {.absolute = 0.5f},
                                 .adversary = {.discriminator = 0.8f}};

std::vector<std::vector<float>> values_of(ParameterList& parameters, bool gradient = false) {
  std::vector<std::vector<float>> values;
  for (size_t i = 0; i < parameters.specs().size(); ++i) {
    values.push_back(parameters.read(i, gradient));
  }
  return values;
}

double norm(const std::vector<float>& x) {
  double sum = 0;
  for (float v : x) sum += static_cast<double>(v) * v;
  return std::sqrt(sum);
}

}  // namespace

// By itself, with pictures for a decoder's: what goes into them, and into the discriminator.
VILG_TEST(adversary_gives_each_side_its_gradient) {
  const Shape shape{2, 8, 8, 3};
  const std::vector<float> real = random_floats(2 * 8 * 8 * 3, 1),
                           fake = random_floats(real.size(), 2);
  const std::vector<float> of_errors = random_floats(real.size(), 3);
  constexpr float kScale = 0.25f;
  for (Backend* backend : backends()) {
    const char* on = backend->device();
    const auto value = [&](Tape& tape, const std::vector<float>& data) {
      return tape.value(backend->upload(data.data(), DType::kFloat32, shape), /*needs_grad=*/true);
    };
    const auto host = [&](const Tensor& tensor) {
      std::vector<float> values(static_cast<size_t>(tensor.num_elements()));
      backend->copy_out(values.data(), tensor.data(), tensor.size_bytes());
      return values;
    };
    Adversary adversary(*backend, kAgainst.adversary, {}, nullptr);
    Tape tape(*backend, GradientMode(), nullptr);
    const Value pictures = value(tape, real), reconstruction = value(tape, fake);
    tape.add_grad(reconstruction, backend->upload(of_errors.data(), DType::kFloat32, shape));
    AdversaryLosses losses;
    // in place of the decoder's last layer: three times the gradient's own length
    adversary.accumulate(
        {tape, pictures, reconstruction, [&](const Tensor& g) { return 3 * norm(host(g)); }},
        {.discriminator = 0.8f}, kScale, losses);

    PatchDiscriminator same(*backend, *kAgainst.adversary.discriminator);
    same.parameters().initialize(kAgainst.adversary.seed);
    Tape by_hand(*backend, GradientMode(), nullptr);
    const Value leaf = value(by_hand, fake);
    adversarial_loss(by_hand, same.logits(by_hand, leaf), 1);
    by_hand.backward();
    const std::vector<float> gradient = host(leaf->grad);
    const double weight =
        0.8 * (3 * norm(of_errors) / static_cast<double>(kScale)) / (3 * norm(gradient) + 1e-4);
    EXPECT(std::abs(losses.adaptive_weight / weight - 1) < 1e-5, "%s: weight %g, %g", on,
           losses.adaptive_weight, weight);
    std::vector<float> expected = of_errors;
    for (size_t i = 0; i < expected.size(); ++i) {
      expected[i] += static_cast<float>(weight) * kScale * gradient[i];
    }
    double error = relative_error(host(reconstruction->grad), expected);
    EXPECT(error < 1e-5, "%s: gradient of the reconstruction %g", on, error);

    same.parameters().zero_grad();
    Tape of_hinge(*backend, GradientMode(), nullptr);
    const Value high = same.logits(of_hinge, value(of_hinge, real));
    const Value low = same.logits(of_hinge, value(of_hinge, fake));
    hinge_loss(of_hinge, high, true, 0.5f * kScale);
    hinge_loss(of_hinge, low, false, 0.5f * kScale);
    of_hinge.backward();
    for (size_t i = 0; i < same.parameters().specs().size(); ++i) {
      ParameterList& trained = adversary.discriminator()->parameters();
      error = max_abs_error(trained.read(i, true), same.parameters().read(i, true));
      EXPECT(error < 1e-6, "%s: gradient of %s %g", on, same.parameters().specs()[i].name.c_str(),
             error);
      // three passes: for the decoder, of real pictures, of reconstructions
      EXPECT(relative_error(trained.read(i), same.parameters().read(i)) < 1e-6, "%s: %s", on,
             same.parameters().specs()[i].name.c_str());
    }
    // the ratio has a ceiling
    AdversaryLosses clamped;
    adversary.accumulate({tape, pictures, reconstruction,
                          [calls = 0](const Tensor&) mutable { return calls++ == 0 ? 1e9 : 0.0; }},
                         {.discriminator = 0.5f}, 1, clamped);
    EXPECT(clamped.adaptive_weight == 0.5 * 1e4, "%s: %g", on, clamped.adaptive_weight);
  }
}

VILG_TEST(adversary_weighs_by_the_last_layer) {
  const std::vector<float> images = pictures();
  for (Backend* backend : backends()) {
    const char* on = backend->device();
    VqganTrainer trainer(fresh(*backend), {}, DType::kFloat32, kAgainst);
    ParameterList& parameters = trainer.tokenizer().parameters();
    const size_t last = parameters.index_of("decoder.conv_out.weight");
    trainer.accumulate(images, kBatch, kErrors, 0.5f, nullptr);
    const std::vector<float> of_errors = parameters.read(last, /*gradient=*/true);
    trainer.discard();
    const auto all = trainer.accumulate(images, kBatch, kAll, 0.5f, nullptr);
    std::vector<float> of_adversary = parameters.read(last, /*gradient=*/true);
    const double weight = all.adversary.adaptive_weight;
    for (size_t i = 0; i < of_adversary.size(); ++i) {
      of_adversary[i] = (of_adversary[i] - of_errors[i]) / static_cast<float>(weight);
    }
    // both with half the gradient; the weight is that of the whole one
    const double expected = 0.8 * (norm(of_errors) / 0.5) / (norm(of_adversary) / 0.5 + 1e-4);
    EXPECT(std::abs(weight / expected - 1) < 1e-3, "%s: %g, expected %g", on, weight, expected);
    EXPECT(std::abs(all.losses.total -
                    (all.losses.reconstruction + 0.5 * all.losses.absolute +
                     2 * all.losses.quantization + weight * all.adversary.adversarial)) < 1e-9,
           "%s: total %g", on, all.losses.total);
    EXPECT(all.adversary.adversarial == -all.adversary.fake_logit, "%s: %g, %g", on,
           all.adversary.adversarial, all.adversary.fake_logit);
    // logits are small at first, where the hinge is a line
    EXPECT(std::abs(all.adversary.discriminator -
                    0.5 * (2 - all.adversary.real_logit + all.adversary.fake_logit)) < 1e-6,
           "%s: hinge %g", on, all.adversary.discriminator);
  }
}

// The weight is a constant in what is differentiated (taming-transformers detaches it).
VILG_TEST(adversary_gradient_against_finite_differences) {
  const std::vector<float> images = pictures();
  VqganTrainer trainer(fresh(), {}, DType::kFloat32, kAgainst);
  ParameterList& parameters = trainer.tokenizer().parameters();
  // fresh weights give pictures of one colour, whose batch statistics hardly have a slope
  for (int step = 0; step < 20; ++step) {
    trainer.accumulate(images, kBatch, kAll, 1, nullptr);
    trainer.step(3e-3f, nullptr);
  }
  const double weight =
      trainer.accumulate(images, kBatch, kAll, 1, nullptr).adversary.adaptive_weight;
  for (const char* name : {"decoder.conv_in.bias", "decoder.mid.block_1.conv1.weight",
                           "decoder.conv_out.bias", "post_quant_conv.bias"}) {
    const size_t index = parameters.index_of(name);
    trainer.discard();
    trainer.accumulate(images, kBatch, kAll, 1, nullptr);
    const std::vector<float> gradient = parameters.read(index, /*gradient=*/true);
    const std::vector<float> values = parameters.read(index);
    // along the gradient, whose length the slope is then: corners of single activations average out
    const double length = norm(gradient);
    const auto loss = [&](double step) {
      std::vector<float> moved = values;
      for (size_t i = 0; i < moved.size(); ++i) {
        moved[i] += static_cast<float>(step / length * static_cast<double>(gradient[i]));
      }
      parameters.load(index, moved.data(), DType::kFloat32);
      const auto result = trainer.accumulate(images, kBatch, kAll, 1, nullptr);
      return result.losses.reconstruction + 0.5 * result.losses.absolute +
             weight * result.adversary.adversarial;
    };
    const double slope = (loss(5e-4) - loss(-5e-4)) / 1e-3;
    parameters.load(index, values.data(), DType::kFloat32);
    // float32 logits over the step: 1e-4
    EXPECT(std::abs(slope - length) < 1e-2 * length + 2e-4, "%s: %g, %g", name, length, slope);
  }
}

VILG_TEST(adversary_begins_late_and_learns) {
  const std::vector<float> images = pictures();
  VqganTrainer trainer(fresh(), {.beta1 = 0.5f, .beta2 = 0.9f}, DType::kFloat32, kAgainst);
  ParameterList& discriminator = trainer.adversary().discriminator()->parameters();
  const auto at_first = values_of(discriminator);
  const auto before = trainer.accumulate(images, kBatch, kErrors, 1, nullptr);
  EXPECT(before.adversary.discriminator == 0 && before.adversary.adaptive_weight == 0, "begun");
  trainer.step(1e-3f, nullptr);
  EXPECT(values_of(discriminator) == at_first && trainer.adversary().optimizer()->steps() == 0,
         "trained before its start");
  // against pictures that do not get better
  const FrozenScope frozen(trainer.tokenizer().parameters());
  VqganTrainer::Accumulated result;
  double first = 0;
  for (int step = 0; step < 40; ++step) {
    result = trainer.accumulate(images, kBatch, kAll, 1, nullptr);
    if (step == 0) first = result.adversary.discriminator;
    EXPECT(trainer.step(2e-3f, nullptr).applied, "step %d", step);
  }
  EXPECT(result.adversary.discriminator < 0.8 * first &&
             result.adversary.real_logit > result.adversary.fake_logit + 0.2,
         "hinge loss %g of %g, logits %g and %g", result.adversary.discriminator, first,
         result.adversary.real_logit, result.adversary.fake_logit);
  EXPECT(trainer.adversary().optimizer()->steps() == 40, "steps");
  // in evaluation mode the same pictures look much as in training, and nothing is trained
  const auto weights = values_of(discriminator);
  const Vqgan::Encoding encoding = trainer.tokenizer().encode(images, kBatch, kSide, kSide);
  const std::vector<float> decoded =
      trainer.tokenizer().decode(encoding.indices, kBatch, kSide / 2, kSide / 2);
  const AdversaryLosses measured = trainer.measure(images, decoded, kBatch, nullptr);
  EXPECT(measured.real_logit > measured.fake_logit + 0.1 &&
             measured.adversarial == -measured.fake_logit && measured.discriminator < 0.8 * first,
         "logits %g and %g, hinge loss %g", measured.real_logit, measured.fake_logit,
         measured.discriminator);
  EXPECT(values_of(discriminator) == weights, "measuring changes the discriminator");
}

VILG_TEST(adversary_without_finite_gradient_changes_nothing) {
  const std::vector<float> images = pictures();
  VqganTrainer trainer(fresh(), {}, DType::kFloat32, kAgainst);
  trainer.accumulate(images, kBatch, kAll, 1, nullptr);
  ParameterList& discriminator = trainer.adversary().discriminator()->parameters();
  discriminator.all()[0].grad.f32()[0] = std::numeric_limits<float>::infinity();
  const auto tokenizer = values_of(trainer.tokenizer().parameters());
  const auto weights = values_of(discriminator);
  EXPECT(!trainer.step(1e-3f, nullptr).applied, "applied");
  EXPECT(values_of(trainer.tokenizer().parameters()) == tokenizer, "the tokenizer changed");
  EXPECT(values_of(discriminator) == weights, "the discriminator changed");
  for (const auto& gradient : values_of(trainer.tokenizer().parameters(), true)) {
    EXPECT(norm(gradient) == 0, "a gradient is left");
  }
}

VILG_TEST(adversarial_training_resumes_bit_for_bit) {
  const std::vector<float> images = pictures();
  VqganTrainingOptions options = kAgainst;
  options.codebook_averages = CodebookAveragesOptions{.decay = 0.8f};
  const auto steps = [&](VqganTrainer& trainer, int count) {
    for (int i = 0; i < count; ++i) {
      trainer.accumulate(images, kBatch, kAll, 1, nullptr);
      trainer.step(3e-3f, nullptr);
      trainer.revive(2, 9);
    }
  };
  const TemporaryFolder folder;
  const std::string path = folder.file("state.safetensors");
  VqganTrainer straight(fresh(), {}, DType::kFloat32, options);
  steps(straight, 3);
  save_training_state(path, straight.parts(), straight.extras(), nullptr);
  steps(straight, 3);

  VqganTrainer second(fresh(), {}, DType::kFloat32, options);
  steps(second, 1);  // what was there is replaced
  TrainingExtras extras = second.extras();
  load_training_state(path, second.parts(), extras, nullptr);
  second.restore(std::move(extras));
  EXPECT(second.optimizer().steps() == 3 && second.adversary().optimizer()->steps() == 3, "steps");
  steps(second, 3);
  EXPECT(values_of(second.tokenizer().parameters()) == values_of(straight.tokenizer().parameters()),
         "the tokenizer has other bits");
  EXPECT(values_of(second.adversary().discriminator()->parameters()) ==
             values_of(straight.adversary().discriminator()->parameters()),
         "the discriminator has other bits");
  EXPECT(second.extras().averages == straight.extras().averages, "other averages");

  // a state of other parts is refused
  VqganTrainer plain(fresh(), {}, DType::kFloat32);
  TrainingExtras none = plain.extras();
  EXPECT_ERROR(kCheckpointIncompatible, load_training_state(path, plain.parts(), none, nullptr));
}

VILG_TEST(adversary_options_are_checked) {
  VqganConfig config = fresh()->config();
  VqganTrainingOptions options = kAgainst;
  options.adversary.discriminator->layers = 3;  // needs 32 x 32
  EXPECT_ERROR(kInvalidArgument, options.check(config));
  config.resolution = 16;
  options.adversary = {.perceptual_weights = "/nonexistent/vgg.safetensors"};
  EXPECT_ERROR(kIo, options.check(config));
  options.adversary = {.perceptual_weights = fixture_path("taming-vqgan-tiny/weights.safetensors")};
  EXPECT_ERROR(kCheckpointIncompatible, options.check(config));
  options.adversary = {};
  options.codebook_averages = CodebookAveragesOptions{.decay = 1};
  EXPECT_ERROR(kInvalidArgument, options.check(config));
}

VILG_TEST(codebook_by_averages_has_no_gradient) {
  const std::vector<float> images = pictures();
  VqganTrainingOptions options;
  options.codebook_averages = CodebookAveragesOptions{};
  VqganTrainer trainer(fresh(), {}, DType::kFloat32, options);
  trainer.initialize_codebook(images, kBatch, 3, nullptr);
  ParameterList& parameters = trainer.tokenizer().parameters();
  const size_t index = parameters.index_of("quantize.embedding.weight");
  const std::vector<float> before = parameters.read(index);
  const auto result = trainer.accumulate(images, kBatch, {}, 1, nullptr);
  EXPECT(norm(parameters.read(index, /*gradient=*/true)) == 0, "a gradient");
  EXPECT(std::abs(result.losses.total - result.losses.reconstruction - result.losses.quantization) <
             1e-9,
         "the codebook's term counts");
  trainer.step(0, nullptr);  // a learning rate of 0 moves nothing else
  const std::vector<float> after = parameters.read(index);
  EXPECT(after != before, "the codebook stays");
  for (const float value : after) EXPECT(std::isfinite(value), "%g", static_cast<double>(value));
}

}  // namespace vilg::test
