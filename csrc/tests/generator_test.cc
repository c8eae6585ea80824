#include "model/generator.h"

#include <cmath>
#include <string_view>

#include "model/checkpoint.h"
#include "tests/fixtures.h"
#include "tests/harness.h"
#include "tests/recompute.h"

namespace vilg::test {
namespace {

GeneratorConfig tiny_config() {
  GeneratorConfig config;
  config.layers = 6, config.hidden = 32, config.heads = 4;
  config.text_vocab = 40, config.image_vocab = 24;
  config.text_length = 6, config.grid = 4, config.kernel = 3;
  return config;
}

}  // namespace

// Logits, loss and every gradient in both directions, against double precision.
VILG_TEST(generator_matches_the_reference_model) {
  const Fixture weights("generator-tiny/weights.safetensors");
  const Fixture expected("generator-tiny/expected.safetensors");
  const auto text = expected.integers<int32_t>("text");
  const auto text_valid = expected.integers<uint8_t>("text_valid");
  const auto image = expected.integers<int32_t>("image");
  const TokenBatch batch{.text = text, .text_valid = text_valid, .image = image, .batch = 3};
  for (Backend* backend : backends()) {
    for (const Direction direction : {Direction::kTextToImage, Direction::kImageToText}) {
      const bool draws = direction == Direction::kTextToImage;
      const std::string prefix = draws ? "t2i." : "i2t.";
      const std::string on = std::string(backend->device()) + " " + prefix;
      Generator model(*backend, tiny_config(), DType::kFloat32);
      load_parameters(model.parameters(), weights.file());

      const Generator::Output output = model.forward(batch, direction);
      std::vector<float> logits = output.logits, wanted = expected.floats(prefix + "logits");
      if (!draws) {
        // the fixture has logits of PAD queries too, which are nobody's input
        const auto vocab = static_cast<size_t>(tiny_config().text_vocab);
        for (size_t row = 0; row < logits.size() / vocab; ++row) {
          if (text_valid[row / 5 * 6 + row % 5]) continue;
          for (size_t v = 0; v < vocab; ++v) logits[row * vocab + v] = wanted[row * vocab + v] = 0;
        }
      }
      double error = relative_error(logits, wanted);
      EXPECT(error < 1e-5, "%slogits %g", on.c_str(), error);
      const double loss = expected.floats(prefix + "loss")[0];
      EXPECT(std::abs(output.loss - loss) < 1e-5 * loss, "%sloss %g, expected %g", on.c_str(),
             output.loss, loss);

      model.accumulate_gradients(batch, direction, {}, DType::kFloat32);
      for (size_t i = 0; i < model.parameters().specs().size(); ++i) {
        const std::string& name = model.parameters().specs()[i].name;
        const std::vector<float> actual = model.parameters().read(i, /*gradient=*/true);
        const std::vector<float> gradient = expected.floats(prefix + "grad." + name);
        error = relative_error(actual, gradient);
        EXPECT(error < 1e-4, "%sgradient of %s %g", on.c_str(), name.c_str(), error);
      }
    }
  }
}

// The loss's slope along a direction of every weight of its own, with what public generators have.
VILG_TEST(generator_variants_have_the_derivative_as_gradient) {
  GeneratorConfig norms = tiny_config();
  norms.layers = 3, norms.grid = 3;
  norms.sandwich_norm = norms.double_final_norm = norms.causal_text = true;
  norms.patterns = {Pattern::kConv, Pattern::kRow, Pattern::kColumn};
  GeneratorConfig repeated = norms;
  repeated.modality = false;
  repeated.text_starts_image = repeated.padding_seen = true;
  repeated.padding_ids = 30;
  repeated.repeated_start = repeated.wrapped_window = true;
  const std::vector<int32_t> text{1, 7, 9, 2, 0, 0}, image{3, 1, 4, 1, 5, 9, 2, 6, 5};
  const std::vector<uint8_t> valid{1, 1, 1, 1, 0, 0};
  const TokenBatch batch{.text = text, .text_valid = valid, .image = image, .batch = 1};
  for (Backend* backend : backends()) {
    for (GeneratorConfig config : {norms, repeated}) {
      // whole pictures with a window that wraps around are for the CPU
      config.wrapped_window &= !std::string_view(backend->device()).starts_with("cuda");
      Generator model(*backend, config, DType::kFloat32);
      ParameterList& parameters = model.parameters();
      parameters.initialize(5);
      for (size_t i = 0; i < parameters.specs().size(); ++i) {
        // branches must not be small, for their norms would bend the loss within a step
        std::vector<float> values = parameters.read(i);
        const bool matrix = parameters.specs()[i].shape.rank() > 1;
        const std::vector<float> noise = random_floats(values.size(), static_cast<uint32_t>(i) + 9);
        for (size_t k = 0; k < values.size(); ++k) {
          values[k] = matrix ? 15 * values[k] : values[k] + 0.1f * noise[k];
        }
        parameters.load(i, values.data(), DType::kFloat32);
      }
      make_gradients(parameters);
      model.accumulate_gradients(batch, Direction::kTextToImage, {}, DType::kFloat32);
      for (size_t i = 0; i < parameters.specs().size(); ++i) {
        const std::vector<float> values = parameters.read(i), gradient = parameters.read(i, true);
        const std::vector<float> way = random_floats(values.size(), static_cast<uint32_t>(i) + 77);
        double slope = 0;
        for (size_t k = 0; k < way.size(); ++k) slope += static_cast<double>(way[k]) * gradient[k];
        const double step = 1e-3;
        const auto loss_at = [&](double distance) {
          std::vector<float> moved = values;
          for (size_t k = 0; k < way.size(); ++k) {
            moved[k] += static_cast<float>(distance * way[k]);
          }
          parameters.load(i, moved.data(), DType::kFloat32);
          return model.forward(batch, Direction::kTextToImage).loss;
        };
        const double numeric = (loss_at(step) - loss_at(-step)) / (2 * step);
        parameters.load(i, values.data(), DType::kFloat32);
        // the loss is a mean of float32 numbers of about 4, each off by some 1e-6: divided by the
        // steps that is 1e-3; third derivatives add step^2 times what their size is
        EXPECT(std::abs(numeric - slope) < 4e-3 * std::max(1.0, std::abs(slope)),
               "%s %s: %g, not %g", backend->device(), parameters.specs()[i].name.c_str(), slope,
               numeric);
      }
    }
  }
}

// Layers that run again give the bits that they gave the first time, from less memory.
VILG_TEST(generator_recomputed_gradients_have_the_same_bits) {
  const Fixture expected("generator-tiny/expected.safetensors");
  const auto text = expected.integers<int32_t>("text");
  const auto text_valid = expected.integers<uint8_t>("text_valid");
  const auto image = expected.integers<int32_t>("image");
  const TokenBatch batch{.text = text, .text_valid = text_valid, .image = image, .batch = 3};
  for (Backend* backend : backends()) {
    for (const DType compute : {DType::kFloat32, DType::kBFloat16}) {
      Generator model(*backend, tiny_config(), DType::kFloat32);
      model.parameters().initialize(3);
      make_gradients(model.parameters());
      for (const Direction direction : {Direction::kTextToImage, Direction::kImageToText}) {
        expect_same_from_less_memory(model.parameters(), [&](bool recompute) {
          return model.accumulate_gradients(batch, direction, {}, {compute, recompute});
        });
      }
    }
  }
}

}  // namespace vilg::test
