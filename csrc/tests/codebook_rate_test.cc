#include "train/codebook_rate.h"

#include <cmath>

#include "tests/fixtures.h"
#include "tests/harness.h"

namespace vilg::test {
namespace {

VqganConfig micro_config() {
  VqganConfig config;
  config.resolution = 8;
  config.channels = 32;
  config.multipliers = {1, 1};
  config.residual_blocks = 1;
  config.attention_resolutions = {};
  config.latent_channels = 6;
  config.codebook_size = 4;
  config.codebook_dim = 3;
  return config;
}

std::vector<float> codes_of(Vqgan& model) {
  const Parameter& codebook = model.codebook();
  std::vector<float> values(static_cast<size_t>(codebook.num_elements()));
  model.backend().copy_out(values.data(), codebook.value.data(), codebook.value.size_bytes());
  return values;
}

}  // namespace

VILG_TEST(codebook_rate_by_hand) {
  for (Backend* backend : backends()) {
    Vqgan model(*backend, micro_config(), DType::kFloat32);
    model.parameters().initialize(3);
    const std::vector<float> before = codes_of(model);
    CodebookRate rate(model, {.weight = 0.5f, .decay = 0.75f});
    const auto expect = [&](const std::vector<double>& frequencies, const char* when) {
      const std::vector<float> codes = codes_of(model);
      for (size_t code = 0; code < 4; ++code) {
        const double p = frequencies[code];
        EXPECT(std::abs(rate.frequencies()[code] - p) < 1e-6, "%s, %s: p of %zu is %g, not %g",
               backend->device(), when, code, static_cast<double>(rate.frequencies()[code]), p);
        const double last = std::sqrt(0.5 * -std::log(std::max(1e-6, p)));
        EXPECT(std::abs(codes[code * 3 + 2] - last) < 1e-5, "%s, %s: code %zu ends with %g, not %g",
               backend->device(), when, code, static_cast<double>(codes[code * 3 + 2]), last);
        EXPECT(codes[code * 3] == before[code * 3] && codes[code * 3 + 1] == before[code * 3 + 1],
               "%s, %s: the rest of code %zu changed", backend->device(), when, code);
      }
    };
    expect({0.25, 0.25, 0.25, 0.25}, "fresh");
    rate.gather(std::vector<int32_t>{0, 0, 0});
    rate.gather(std::vector<int32_t>{2});
    rate.update();
    const double kept = 0.75 * 0.25;
    expect({kept + 0.25 * 0.75, kept, kept + 0.25 * 0.25, kept}, "three of four are code 0");
    rate.gather(std::vector<int32_t>{3});
    rate.discard();
    rate.update();
    expect({kept + 0.25 * 0.75, kept, kept + 0.25 * 0.25, kept}, "nothing was gathered");
    rate.reset(std::vector<int32_t>{1});
    expect({kept + 0.25 * 0.75, 0.25, kept + 0.25 * 0.25, kept}, "code 1 is new");
    rate.restore({0, 1, 0.5f, 0.5f});
    rate.update();
    expect({0, 1, 0.5, 0.5}, "restored");
    EXPECT_ERROR(kCheckpointIncompatible, rate.restore({1}));
  }
}

// Vectors are 0 in the last dimension, and nobody reads that of codes.
VILG_TEST(codebook_rate_leaves_a_plain_tokenizer) {
  Backend& backend = cpu_backend();
  Vqgan model(backend, micro_config(), DType::kFloat32);
  model.parameters().initialize(3);
  CodebookRate rate(model, {.weight = 2});
  const std::vector<float> images = random_floats(3 * 8 * 8, 4);
  const Vqgan::Encoding encoding = model.encode(images, 1, 8, 8, nullptr);
  const size_t codes = encoding.indices.size();
  for (size_t i = 2 * codes; i < 3 * codes; ++i) {
    EXPECT(encoding.prequant[i] == 0, "vector %zu ends with %g", i - 2 * codes,
           static_cast<double>(encoding.prequant[i]));
  }
  const std::vector<float> before = model.decode(encoding.indices, 1, 4, 4, nullptr);
  rate.gather(std::vector<int32_t>{1, 1, 1, 1});
  rate.update();
  EXPECT(model.decode(encoding.indices, 1, 4, 4, nullptr) == before,
         "the rate reached the picture");
}

// Of two codes that are as near, the one that is chosen more often costs less.
VILG_TEST(codebook_rate_decides_between_equals) {
  Backend& backend = cpu_backend();
  Vqgan model(backend, micro_config(), DType::kFloat32);
  model.parameters().initialize(3);
  const std::vector<float> equal(12, 0.25f);
  backend.copy_in(model.codebook().value.f32(), equal.data(), equal.size() * sizeof(float));
  CodebookRate rate(model, {.weight = 1, .decay = 0.5f});
  rate.gather(std::vector<int32_t>{2, 2, 2, 1});
  rate.update();
  const std::vector<float> images = random_floats(3 * 8 * 8, 4);
  for (int32_t index : model.encode(images, 1, 8, 8, nullptr).indices)
    EXPECT(index == 2, "%d", index);
}

VILG_TEST(codebook_rate_refuses) {
  Vqgan model(cpu_backend(), micro_config(), DType::kFloat32);
  EXPECT_ERROR(kInvalidArgument, CodebookRate(model, {.weight = 0}));
  EXPECT_ERROR(kInvalidArgument, CodebookRate(model, {.weight = 1, .decay = 1}));
  VqganConfig flat = micro_config();
  flat.codebook_dim = 1;
  Vqgan other(cpu_backend(), flat, DType::kFloat32);
  EXPECT_ERROR(kInvalidArgument, CodebookRate(other, {.weight = 1}));
}

}  // namespace vilg::test
