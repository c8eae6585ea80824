#include "train/vqgan_trainer.h"

#include <algorithm>

#include "tests/harness.h"

namespace vilg::test {
namespace {

VqganConfig micro_config() {
  VqganConfig config;
  config.resolution = 8;
  config.channels = 32;
  config.multipliers = {1, 1};
  config.residual_blocks = 1;
  config.attention_resolutions = {4};
  config.latent_channels = 6;
  config.codebook_size = 20;
  config.codebook_dim = 5;
  return config;
}

std::shared_ptr<Vqgan> fresh() {
  auto model = std::make_shared<Vqgan>(cpu_backend(), micro_config(), DType::kFloat32);
  model->parameters().initialize(2);
  return model;
}

constexpr int64_t kBatch = 4;
std::vector<float> pictures() {
  std::vector<float> images(kBatch * 3 * 8 * 8);
  for (size_t i = 0; i < images.size(); ++i) {  // halves of two colours, different in every picture
    const size_t picture = i / 192, channel = i / 64 % 3, x = i % 8;
    images[i] = x < 2 + picture ? 0.8f : channel == picture % 3 ? -0.7f : 0.1f;
  }
  return images;
}

std::vector<std::vector<float>> weights_of(Vqgan& model) {
  std::vector<std::vector<float>> values;
  for (size_t i = 0; i < model.parameters().specs().size(); ++i) {
    values.push_back(model.parameters().read(i));
  }
  return values;
}

}  // namespace

VILG_TEST(vqgan_trainer_learns_with_a_codebook_in_use) {
  const std::vector<float> images = pictures();
  VqganTrainer trainer(fresh(), {}, DType::kFloat32);
  const VqganLosses before = trainer.accumulate(images, kBatch, {}, 1, nullptr).losses;
  trainer.tokenizer().parameters().zero_grad();
  trainer.initialize_codebook(images, kBatch, 3, nullptr);
  // 64 vectors, 20 of them codes: what is left is far below the distance to random codes
  const auto initialized = trainer.accumulate(images, kBatch, {}, 1, nullptr);
  EXPECT(initialized.losses.quantization < 0.2 * before.quantization, "%g of %g",
         initialized.losses.quantization, before.quantization);
  EXPECT(initialized.codes_used >= 4 && initialized.perplexity > 2 &&
             initialized.perplexity <= static_cast<double>(initialized.codes_used) + 1e-9,
         "%lld codes, perplexity %g", static_cast<long long>(initialized.codes_used),
         initialized.perplexity);
  trainer.tokenizer().parameters().zero_grad();

  double last = 0;
  for (int step = 0; step < 60; ++step) {
    // two micro-batches of half the pictures
    last = 0;
    for (const int64_t half : {0, 1}) {
      const std::span<const float> part(images.data() + half * 2 * 192, 2 * 192);
      last += trainer.accumulate(part, kBatch / 2, {}, 0.5f, nullptr).losses.reconstruction / 2;
    }
    EXPECT(trainer.step(3e-3f, nullptr).applied, "step %d", step);
    if (step % 10 == 9) trainer.revive(5, 11);
  }
  EXPECT(last < 0.1 * before.reconstruction, "reconstruction %g, at first %g", last,
         before.reconstruction);
}

VILG_TEST(vqgan_trainer_revives_without_moments) {
  const std::vector<float> images = pictures();
  VqganTrainer trainer(fresh(), {}, DType::kFloat32);
  EXPECT_ERROR(kInvalidArgument, trainer.revive(1, 0));  // no batch yet
  for (int step = 0; step < 3; ++step) {
    trainer.accumulate(images, kBatch, {}, 1, nullptr);
    trainer.step(1e-2f, nullptr);
  }
  ParameterList& parameters = trainer.tokenizer().parameters();
  const size_t index = parameters.index_of("quantize.embedding.weight");
  const std::vector<float> before = parameters.read(index);
  const std::vector<int32_t> ages = trainer.revival().ages();
  const auto dead = std::count_if(ages.begin(), ages.end(), [](int32_t age) { return age >= 2; });
  EXPECT(dead > 0 && dead < 20, "%d dead codes", static_cast<int>(dead));
  Tensor& moment = trainer.optimizer().first_moment(index);
  std::fill(moment.f32(), moment.f32() + moment.num_elements(), 1.0f);
  EXPECT(trainer.revive(2, 5) == dead, "another number than the ages say");
  const std::vector<float> after = parameters.read(index);
  for (size_t code = 0; code < ages.size(); ++code) {
    const bool was_dead = ages[code] >= 2;
    EXPECT(std::equal(&before[code * 5], &before[code * 5] + 5, &after[code * 5]) != was_dead,
           "code %zu", code);
    EXPECT(moment.f32()[code * 5] == (was_dead ? 0.0f : 1.0f), "moment of code %zu", code);
  }
  EXPECT(trainer.revive(2, 5) == 0, "revived codes are young again");
}

VILG_TEST(vqgan_trainer_leaves_a_frozen_codebook) {
  const std::vector<float> images = pictures();
  const OptimizerOptions frozen{
      .groups = {{.weights = {fresh()->codebook().name}, .learning_rate_scale = 0}}};
  VqganTrainer trainer(fresh(), frozen, DType::kFloat32);
  Vqgan& model = trainer.tokenizer();
  const auto before = weights_of(model);
  trainer.initialize_codebook(images, kBatch, 3, nullptr);
  for (int step = 0; step < 3; ++step) {
    trainer.accumulate(images, kBatch, {}, 1, nullptr);
    trainer.step(1e-3f, nullptr);
    EXPECT(trainer.revive(1, 5) == 0, "revived in step %d", step);
  }
  const size_t codebook = model.parameters().index_of(model.codebook().name);
  const auto after = weights_of(model);
  EXPECT(after[codebook] == before[codebook], "the codebook changed");
  EXPECT(after != before, "nothing learnt");
  EXPECT_ERROR(kInvalidArgument,
               VqganTrainer(fresh(), frozen, DType::kFloat32,
                            {.adversary = {}, .codebook_rate = CodebookRateOptions{.weight = 1}}));
}

VILG_TEST(vqgan_trainer_resumes_bit_for_bit) {
  const std::vector<float> images = pictures();
  const auto steps = [&](VqganTrainer& trainer, int count) {
    for (int i = 0; i < count; ++i) {
      trainer.accumulate(images, kBatch, {}, 1, nullptr);
      trainer.step(3e-3f, nullptr);
      trainer.revive(2, 9);
    }
  };
  VqganTrainer straight(fresh(), {}, DType::kFloat32);
  steps(straight, 6);

  VqganTrainer first(fresh(), {}, DType::kFloat32), second(fresh(), {}, DType::kFloat32);
  steps(first, 3);
  ParameterList &from = first.tokenizer().parameters(), &to = second.tokenizer().parameters();
  for (size_t i = 0; i < from.specs().size(); ++i) {
    to.load(i, from.read(i).data(), DType::kFloat32);
    const auto copy = [&](const Tensor& target, const Tensor& source) {
      cpu_backend().copy(target.data(), source.data(), source.size_bytes());
    };
    copy(second.optimizer().first_moment(i), first.optimizer().first_moment(i));
    copy(second.optimizer().second_moment(i), first.optimizer().second_moment(i));
  }
  second.optimizer().set_steps(first.optimizer().steps());
  second.revival().restore(first.revival().ages());
  steps(second, 3);
  EXPECT(weights_of(second.tokenizer()) == weights_of(straight.tokenizer()), "not the same bits");
}

VILG_TEST(vqgan_trainer_stopped_leaves_no_gradient) {
  const std::vector<float> images = pictures();
  VqganTrainer trainer(fresh(), {}, DType::kFloat32);
  trainer.accumulate(images, kBatch, {}, 1, nullptr);
  StopFlag stop;
  stop.raise();
  bool stopped = false;
  try {
    trainer.accumulate(images, kBatch, {}, 1, &stop);
  } catch (const Stopped&) {
    stopped = true;
  }
  EXPECT(stopped, "a raised flag stops the work");
  ParameterList& parameters = trainer.tokenizer().parameters();
  for (size_t i = 0; i < parameters.specs().size(); ++i) {
    for (float g : parameters.read(i, true)) {
      if (g != 0) {
        EXPECT(g == 0, "gradient of %s", parameters.specs()[i].name.c_str());
        return;
      }
    }
  }
  EXPECT_ERROR(
      kInvalidArgument,
      trainer.accumulate(images, kBatch, {.tokenizer = {.reconstruction = -1}}, 1, nullptr));
}

}  // namespace vilg::test
