#include "model/generator.h"

#include <cmath>

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
