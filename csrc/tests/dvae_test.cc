#include "model/dvae.h"

#include <algorithm>
#include <cmath>

#include "model/checkpoint.h"
#include "tests/data.h"
#include "tests/fixtures.h"
#include "tests/harness.h"
#include "tests/recompute.h"
#include "tests/temporary_folder.h"
#include "train/dvae_trainer.h"

namespace vilg::test {
namespace {

DvaeConfig tiny_config() {
  return {.resolution = 32,
          .hidden = 16,
          .initial = 8,
          .blocks_per_group = 2,
          .groups = 4,
          .codebook_size = 48};
}

DvaeConfig micro_config() {
  return {.resolution = 8,
          .hidden = 16,
          .initial = 4,
          .blocks_per_group = 1,
          .groups = 2,
          .codebook_size = 10};
}

std::shared_ptr<Dvae> fresh(Backend& backend = cpu_backend()) {
  auto model = std::make_shared<Dvae>(backend, micro_config(), DType::kFloat32);
  model->parameters().initialize(3);
  return model;
}

constexpr int64_t kBatch = 3;
std::vector<float> pictures() {
  std::vector<float> images(kBatch * 3 * 8 * 8);
  for (size_t i = 0; i < images.size(); ++i) {  // halves of two colours, different in every picture
    const size_t picture = i / 192, channel = i / 64 % 3, x = i % 8;
    images[i] = x < 2 + picture ? 0.8f : channel == picture % 3 ? -0.7f : 0.1f;
  }
  return images;
}

std::vector<float> host(const Tensor& tensor, Backend& backend) {
  std::vector<float> values(static_cast<size_t>(tensor.num_elements()));
  backend.copy_out(values.data(), tensor.data(), tensor.size_bytes());
  return values;
}

std::vector<std::vector<float>> values_of(ParameterList& parameters) {
  std::vector<std::vector<float>> values;
  for (size_t i = 0; i < parameters.specs().size(); ++i) values.push_back(parameters.read(i));
  return values;
}

}  // namespace

VILG_TEST(dvae_matches_dalle) {
  const Fixture weights("dalle-dvae-tiny/weights.safetensors");
  const Fixture expected("dalle-dvae-tiny/expected.safetensors");
  std::vector<float> image = expected.floats("image");
  for (float& x : image) x = 2 * x - 1;
  for (Backend* backend : backends()) {
    const char* on = backend->device();
    Dvae model(*backend, tiny_config(), DType::kFloat32);
    load_parameters(model.parameters(), weights.file());

    Tape tape(*backend);
    const Tensor mapped =
        model.map_pixels(tape, backend->upload(image.data(), DType::kFloat32, {2, 3, 32, 32}));
    EXPECT(max_abs_error(host(mapped, *backend), expected.floats("mapped")) < 2e-7, "%s: mapped",
           on);
    const Dvae::Encoding encoding = model.encode(image, 2, 32, 32);
    double error = relative_error(encoding.prequant, expected.floats("logits"));
    EXPECT(error < 1e-5, "%s: logits %g", on, error);
    EXPECT(encoding.indices == expected.integers<int32_t>("indices"), "%s: indices", on);

    const Tensor ids = backend->upload(encoding.indices.data(), DType::kInt32, {32});
    const Value stats =
        to_channels_first(tape, model.decode(tape, model.lookup(tape, ids, 2, 4, 4)));
    error = relative_error(host(stats->data, *backend), expected.floats("stats"));
    EXPECT(error < 1e-5, "%s: stats %g", on, error);
    std::vector<float> pictures = model.decode(encoding.indices, 2, 4, 4);
    for (float& x : pictures) x = (x + 1) / 2;
    error = relative_error(pictures, expected.floats("reconstruction"));
    EXPECT(error < 1e-5, "%s: reconstruction %g", on, error);

    // a one-hot distribution is a lookup
    std::vector<float> ones(32 * 48);
    for (size_t i = 0; i < 32; ++i) ones[i * 48 + static_cast<size_t>(encoding.indices[i])] = 1;
    const Value embedded =
        model.embed(tape, tape.value(backend->upload(ones.data(), DType::kFloat32, {2, 4, 4, 48})));
    error = relative_error(host(embedded->data, *backend),
                           host(model.lookup(tape, ids, 2, 4, 4)->data, *backend));
    EXPECT(error < 1e-6, "%s: embedded %g", on, error);
  }
}

// Everything soft: the noise is a constant of seed and draw.
VILG_TEST(dvae_gradient_against_finite_differences) {
  const std::vector<float> images = pictures();
  auto model = fresh(ref_backend());
  ParameterList& parameters = model->parameters();
  DvaeTrainer trainer(model, {}, DType::kFloat32);
  for (int step = 0; step < 10; ++step) {  // away from biases of 0 and a gain that hides the paths
    trainer.accumulate(images, kBatch, {}, 1, nullptr);
    trainer.step(1e-2f, nullptr);
  }
  for (const bool hard : {false, true}) {
    const DvaeLossOptions options{
        .divergence_weight = 20,
        .gumbel = {.temperature = 0.8f, .hard = hard, .seed = 5, .draw = 2}};
    const auto run = [&] {
      parameters.zero_grad();
      return model->accumulate_gradients(images, kBatch, 8, 8, options, 1, DType::kFloat32);
    };
    const DvaeLosses losses = run();
    EXPECT(std::abs(losses.total - losses.likelihood - 20.0 / 12 * losses.divergence) < 1e-9,
           "total %g", losses.total);
    for (size_t index = 0; index < parameters.specs().size(); index += 3) {
      const std::string& name = parameters.specs()[index].name;
      // hard codes do not move with the encoder: its gradient is not the derivative, by design
      if (hard && !name.starts_with("decoder")) continue;
      run();
      const std::vector<float> gradient = parameters.read(index, /*gradient=*/true);
      const std::vector<float> values = parameters.read(index);
      // along the gradient, whose length the slope is then: corners of single activations average
      // out
      double squares = 0;
      for (const float g : gradient) squares += static_cast<double>(g) * g;
      const double length = std::sqrt(squares);
      EXPECT(length > 0, "%s, hard %d: no gradient", name.c_str(), (int)hard);
      const auto loss = [&](double step) {
        std::vector<float> moved = values;
        for (size_t i = 0; i < moved.size(); ++i) {
          moved[i] += static_cast<float>(step / length * static_cast<double>(gradient[i]));
        }
        parameters.load(index, moved.data(), DType::kFloat32);
        return run().total;
      };
      const double slope = (loss(5e-4) - loss(-5e-4)) / 1e-3;
      parameters.load(index, values.data(), DType::kFloat32);
      // float32 activations over the step: 1e-4
      EXPECT(std::abs(slope - length) < 1e-2 * length + 1e-4, "%s, hard %d: %g, %g", name.c_str(),
             (int)hard, length, slope);
    }
  }
}

VILG_TEST(dvae_recomputed_gradients_have_the_same_bits) {
  const std::vector<float> images = random_floats(2 * 3 * 32 * 32, 1);
  for (Backend* backend : backends()) {
    Dvae model(*backend, tiny_config(), DType::kFloat32);
    model.parameters().initialize(2);
    make_gradients(model.parameters());
    const DvaeLossOptions options{.divergence_weight = 1, .gumbel = {.temperature = 0.7f}};
    expect_same_from_less_memory(model.parameters(), [&](bool recompute) {
      return model
          .accumulate_gradients(images, 2, 32, 32, options, 1, {DType::kBFloat16, recompute})
          .total;
    });
  }
}

VILG_TEST(dvae_straight_through) {
  const std::vector<float> logits = random_floats(6 * 5, 8);
  for (Backend* backend : backends()) {
    const auto run = [&](bool hard, std::vector<float>* values) {
      Tape tape(*backend, GradientMode(), nullptr);
      const Value x = tape.value(backend->upload(logits.data(), DType::kFloat32, {2, 3, 5}), true);
      const GumbelSoftmax drawn =
          gumbel_softmax(tape, x, {.temperature = 0.5f, .hard = hard, .seed = 1});
      *values = host(drawn.probabilities->data, *backend);
      const std::vector<float> dout = random_floats(30, 9);
      tape.add_grad(drawn.probabilities, backend->upload(dout.data(), DType::kFloat32, {2, 3, 5}));
      tape.backward();
      for (size_t row = 0; row < 6; ++row) {
        const auto* first = values->data() + row * 5;
        EXPECT(std::max_element(first, first + 5) - first == drawn.indices[row], "index");
        float sum = 0;
        for (int v = 0; v < 5; ++v) sum += first[v];
        EXPECT(std::abs(sum - 1) < 1e-5f, "sum %g", static_cast<double>(sum));
      }
      return host(x->grad, *backend);
    };
    std::vector<float> soft, hard;
    EXPECT(run(false, &soft) == run(true, &hard), "%s: gradients differ", backend->device());
    for (size_t i = 0; i < soft.size(); ++i) {
      EXPECT((hard[i] == 0 || hard[i] == 1) && soft[i] > 0 && soft[i] < 1, "%s", backend->device());
    }
  }
  Tape tape(cpu_backend(), GradientMode(), nullptr);
  const Value x = tape.value(cpu_backend().upload(logits.data(), DType::kFloat32, {6, 5}));
  EXPECT_ERROR(kInvalidArgument, gumbel_softmax(tape, x, {.temperature = 0}));
}

VILG_TEST(dvae_trainer_learns_and_resumes) {
  const std::vector<float> images = pictures();
  const auto options = [](int64_t step) {
    return DvaeLossOptions{.divergence_weight = 0.1f,
                           .gumbel = {.temperature = 1.0f / (1.0f + static_cast<float>(step) / 20),
                                      .hard = step % 2 == 1,
                                      .seed = 7,
                                      .draw = static_cast<uint32_t>(step)}};
  };
  const auto steps = [&](DvaeTrainer& trainer, int64_t from, int64_t to) {
    double loss = 0;
    for (int64_t step = from; step < to; ++step) {
      const auto result = trainer.accumulate(images, kBatch, options(step), 1, nullptr);
      EXPECT(result.codes_used >= 1 && result.perplexity >= 1 - 1e-9 &&
                 result.losses.indices.size() == kBatch * 16,
             "step %d", (int)step);
      loss = result.losses.total;
      EXPECT(trainer.step(1e-2f, nullptr).applied, "step %d", (int)step);
    }
    return loss;
  };
  DvaeTrainer straight(fresh(), {}, DType::kFloat32);
  const double first = steps(straight, 0, 1), last = steps(straight, 1, 120);
  EXPECT(last < first - 0.5, "loss %g, at first %g", last, first);

  const TemporaryFolder folder;
  const std::string path = folder.file("state.safetensors");
  save_training_state(path, straight.parts(), straight.extras(), nullptr);
  steps(straight, 120, 123);
  DvaeTrainer second(fresh(), {}, DType::kFloat32);
  TrainingExtras extras = second.extras();
  load_training_state(path, second.parts(), extras, nullptr);
  steps(second, 120, 123);
  EXPECT(values_of(second.tokenizer().parameters()) == values_of(straight.tokenizer().parameters()),
         "not the same bits");
}

VILG_TEST(dvae_refuses) {
  const std::vector<float> images = pictures();
  DvaeConfig config = micro_config();
  config.epsilon = 0.5f;
  EXPECT_ERROR(kInvalidArgument, config.validate());
  config = micro_config();
  config.hidden = 6;
  EXPECT_ERROR(kInvalidArgument, config.validate());
  auto model = fresh();
  EXPECT_ERROR(kShapeMismatch, model->encode(images, 2, 8, 8));
  EXPECT_ERROR(kInvalidArgument, model->decode(std::vector<int32_t>(16, 10), 1, 4, 4));
  Dvae half(cpu_backend(), micro_config(), DType::kBFloat16);
  half.parameters().initialize(1);
  EXPECT_ERROR(kUnsupported,
               half.accumulate_gradients(images, kBatch, 8, 8, {}, 1, DType::kFloat32));
  EXPECT(half.encode(images, kBatch, 8, 8).indices.size() == 48, "bfloat16 encodes");
}

}  // namespace vilg::test
