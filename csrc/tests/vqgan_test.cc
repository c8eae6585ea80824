#include "model/vqgan.h"

#include <cmath>

#include "model/checkpoint.h"
#include "tests/fixtures.h"
#include "tests/harness.h"
#include "tests/recompute.h"

namespace vilg::test {
namespace {

VqganConfig tiny_config(Quantizer quantizer) {
  VqganConfig config;
  config.quantizer = quantizer;
  config.resolution = 32;
  config.channels = 32;
  config.multipliers = {1, 2, 2};
  config.residual_blocks = 1;
  config.attention_resolutions = {8};
  config.latent_channels = 16;
  config.codebook_size = quantizer == Quantizer::kGumbel ? 48 : 40;
  config.codebook_dim = quantizer == Quantizer::kGumbel ? 16 : 12;
  return config;
}

// One level of the encoder and one of the decoder with attention: everything but the resampling.
VqganConfig micro_config() {
  VqganConfig config;
  config.resolution = 8;
  // two channels a group: with one, a bias before a norm would have no effect and no gradient
  config.channels = 64;
  config.multipliers = {1, 1};
  config.residual_blocks = 1;
  config.attention_resolutions = {4};
  config.latent_channels = 6;
  config.codebook_size = 10;
  config.codebook_dim = 5;
  return config;
}

// (B, h, w, C) of the fixture's (B, C, h, w)
std::vector<float> channels_last(const std::vector<float>& x, int64_t batch, int64_t channels) {
  const auto pixels = static_cast<int64_t>(x.size()) / (batch * channels);
  std::vector<float> y(x.size());
  for (int64_t b = 0; b < batch; ++b) {
    for (int64_t c = 0; c < channels; ++c) {
      for (int64_t p = 0; p < pixels; ++p) {
        y[static_cast<size_t>((b * pixels + p) * channels + c)] =
            x[static_cast<size_t>((b * channels + c) * pixels + p)];
      }
    }
  }
  return y;
}

std::vector<float> host(const Value& value, Backend& backend) {
  std::vector<float> values(static_cast<size_t>(value->data.num_elements()));
  backend.copy_out(values.data(), value->data.data(), value->data.size_bytes());
  return values;
}

double norm(const std::vector<float>& x) {
  double sum = 0;
  for (float v : x) sum += static_cast<double>(v) * v;
  return std::sqrt(sum);
}

double relative_difference(double actual, double expected) {
  return std::abs(actual - expected) / std::abs(expected);
}

}  // namespace

VILG_TEST(vqgan_matches_taming_transformers) {
  const Fixture weights("taming-vqgan-tiny/weights.safetensors");
  const Fixture expected("taming-vqgan-tiny/expected.safetensors");
  const std::vector<float> image = expected.floats("image");
  for (Backend* backend : backends()) {
    const char* on = backend->device();
    Vqgan model(*backend, tiny_config(Quantizer::kNearest), DType::kFloat32);
    load_parameters(model.parameters(), weights.file());

    const Vqgan::Encoding encoding = model.encode(image, 2, 32, 32);
    double error = relative_error(encoding.prequant, expected.floats("prequant"));
    EXPECT(error < 1e-5, "%s: prequant %g", on, error);
    EXPECT(encoding.indices == expected.integers<int32_t>("indices"), "%s: indices", on);

    const std::vector<float> reconstruction = model.decode(encoding.indices, 2, 8, 8);
    error = relative_error(reconstruction, expected.floats("reconstruction"));
    EXPECT(error < 1e-5, "%s: reconstruction %g", on, error);

    Tape tape(*backend);
    const Tensor ids = backend->upload(encoding.indices.data(), DType::kInt32, {128});
    error = relative_error(host(model.lookup(tape, ids, 2, 8, 8), *backend),
                           channels_last(expected.floats("quantized"), 2, 12));
    EXPECT(error < 1e-5, "%s: quantized %g", on, error);
  }
}

VILG_TEST(vqgan_gradients_match_taming_transformers) {
  const Fixture weights("taming-vqgan-tiny/weights.safetensors");
  const Fixture expected("taming-vqgan-tiny/expected.safetensors");
  const std::vector<float> image = expected.floats("image");
  // the legacy form with beta 0.25: the whole term on the encoder, a quarter on the codebook
  const VqganLossWeights loss_weights{.commitment = 1, .codebook = 0.25f};
  for (Backend* backend : backends()) {
    const char* on = backend->device();
    Vqgan model(*backend, tiny_config(Quantizer::kNearest), DType::kFloat32);
    load_parameters(model.parameters(), weights.file());
    const VqganLosses losses =
        model.accumulate_gradients(image, 2, 32, 32, loss_weights, 1, DType::kFloat32);
    double error =
        relative_difference(1.25 * losses.quantization, expected.floats("codebook_loss")[0]);
    EXPECT(error < 1e-5, "%s: codebook loss %g", on, error);
    error = relative_difference(losses.total, expected.floats("total_loss")[0]);
    EXPECT(error < 1e-5, "%s: total loss %g", on, error);
    EXPECT(losses.indices == expected.integers<int32_t>("indices"), "%s: indices", on);

    int compared = 0, zero = 0;
    for (size_t i = 0; i < model.parameters().specs().size(); ++i) {
      const std::string& name = model.parameters().specs()[i].name;
      if (!expected.has("grad." + name)) continue;
      const std::vector<float> actual = model.parameters().read(i, /*gradient=*/true);
      const std::vector<float> gradient = expected.floats("grad." + name);
      // Some biases have no effect: on keys (the same is added to all scores of a query, which
      // softmax ignores), and before a norm whose groups have one channel. Their gradient is zero,
      // and what is left on either side is rounding.
      if (name.ends_with(".bias")) {
        const std::string weight = "grad." + name.substr(0, name.size() - 4) + "weight";
        const double scale = expected.has(weight) ? norm(expected.floats(weight)) : 0;
        if (norm(gradient) < 1e-5 * scale) {
          ++zero;
          EXPECT(norm(actual) < 1e-5 * scale, "%s: gradient of %s %g, of its weight %g", on,
                 name.c_str(), norm(actual), scale);
          continue;
        }
      }
      ++compared;
      error = relative_error(actual, gradient);
      EXPECT(error < 1e-4, "%s: gradient of %s %g", on, name.c_str(), error);
    }
    EXPECT(zero == 11, "%s: %d biases without effect, expected 5 of keys and 6 before norms", on,
           zero);
    EXPECT(compared == 150, "%d gradients compared, the fixture has 161", compared);

    // a second pass at half the scale adds half of that again
    const std::vector<float> once = model.parameters().read(0, true);
    const VqganLosses again =
        model.accumulate_gradients(image, 2, 32, 32, loss_weights, 0.5f, DType::kFloat32);
    EXPECT(again.total == losses.total, "%s: the scale is the gradient's only", on);
    std::vector<float> sum = model.parameters().read(0, true);
    for (float& v : sum) v /= 1.5f;
    error = relative_error(sum, once);
    EXPECT(error < 1e-6, "%s: second pass %g", on, error);
  }
}

VILG_TEST(vqgan_recomputed_gradients_have_the_same_bits) {
  const std::vector<float> image = random_floats(3 * 16 * 16, 1);
  for (Backend* backend : backends()) {
    Vqgan model(*backend, tiny_config(Quantizer::kNearest), DType::kFloat32);
    model.parameters().initialize(2);
    make_gradients(model.parameters());
    expect_same_from_less_memory(model.parameters(), [&](bool recompute) {
      return model.accumulate_gradients(image, 1, 16, 16, {}, 1, {DType::kBFloat16, recompute})
          .total;
    });
  }
}

VILG_TEST(vqgan_gumbel_matches_taming_transformers) {
  const Fixture weights("taming-gumbel-tiny/weights.safetensors");
  const Fixture expected("taming-gumbel-tiny/expected.safetensors");
  const std::vector<float> image = expected.floats("image");
  for (Backend* backend : backends()) {
    const char* on = backend->device();
    Vqgan model(*backend, tiny_config(Quantizer::kGumbel), DType::kFloat32);
    load_parameters(model.parameters(), weights.file());
    const Vqgan::Encoding encoding = model.encode(image, 2, 32, 32);
    double error = relative_error(encoding.prequant, expected.floats("prequant"));
    EXPECT(error < 1e-5, "%s: prequant %g", on, error);
    EXPECT(encoding.indices == expected.integers<int32_t>("indices"), "%s: indices", on);
    error =
        relative_error(model.decode(encoding.indices, 2, 8, 8), expected.floats("reconstruction"));
    EXPECT(error < 1e-5, "%s: reconstruction %g", on, error);

    Tape tape(*backend);
    const std::vector<float> prequant = channels_last(encoding.prequant, 2, 16);
    const Value logits = model.gumbel_logits(
        tape, tape.value(backend->upload(prequant.data(), DType::kFloat32, {2, 8, 8, 16})));
    error = relative_error(host(logits, *backend), channels_last(expected.floats("logits"), 2, 48));
    EXPECT(error < 1e-5, "%s: logits %g", on, error);
    EXPECT_ERROR(kUnsupported,
                 model.accumulate_gradients(image, 2, 32, 32, {}, 1, DType::kFloat32));
  }
}

// Along the gradient the loss must rise by its norm. Differences see through the quantizer only
// what its definition says: with indices fixed, the decoder by the reconstruction, the encoder by
// its own term, the codebook by its own; the straight-through path is the fixture's business.
VILG_TEST(vqgan_gradients_match_finite_differences) {
  const VqganConfig config = micro_config();
  const std::vector<float> images = random_floats(3 * 8 * 8, 21);
  struct Case {
    const char* prefix;
    VqganLossWeights weights;
  };
  const Case cases[] = {
      {"decoder.", {.reconstruction = 1, .absolute = 0, .commitment = 0, .codebook = 0}},
      {"post_quant_conv.", {.reconstruction = 0.5, .absolute = 0, .commitment = 0, .codebook = 0}},
      {"decoder.conv_out.", {.reconstruction = 0, .absolute = 2, .commitment = 0, .codebook = 0}},
      {"encoder.", {.reconstruction = 0, .absolute = 0, .commitment = 1, .codebook = 0}},
      {"quant_conv.", {.reconstruction = 0, .absolute = 0, .commitment = 3, .codebook = 0}},
      {"quantize.", {.reconstruction = 0, .absolute = 0, .commitment = 0, .codebook = 1.5}},
  };
  for (Backend* backend : backends()) {
    // the oracle and emulations are slow: a sample of their weights
    const size_t stride = backend == &cpu_backend() ? 1 : 11;
    for (const Case& test : cases) {
      Vqgan model(*backend, config, DType::kFloat32);
      ParameterList& parameters = model.parameters();
      parameters.initialize(5);
      const auto loss = [&] {
        return model.accumulate_gradients(images, 1, 8, 8, test.weights, 1, DType::kFloat32);
      };
      const VqganLosses before = loss();
      int compared = 0;
      std::vector<std::vector<float>> gradients;
      for (size_t i = 0; i < parameters.specs().size(); ++i) {
        gradients.push_back(parameters.read(i, true));
      }
      size_t place = 0;
      for (size_t i = 0; i < parameters.specs().size(); ++i) {
        const std::string& name = parameters.specs()[i].name;
        if (!name.starts_with(test.prefix) || name.ends_with(".k.bias")) continue;
        if (place++ % stride != 0) continue;
        const std::vector<float>& gradient = gradients[i];
        const double length = norm(gradient);
        EXPECT(length > 0, "%s: no gradient of %s", backend->device(), name.c_str());
        // a step that changes the loss by 2e-4 of itself: far above float32's rounding of it
        // (some 1e-7), small enough for the third derivative
        const double step = std::min(2e-4 * before.total / length, 1e-2);
        const std::vector<float> value = parameters.read(i);
        double sides[2];
        bool same_codes = true;
        for (const int side : {0, 1}) {
          std::vector<float> moved = value;
          for (size_t j = 0; j < moved.size(); ++j) {
            moved[j] += static_cast<float>((side ? -step : step) * gradient[j] / length);
          }
          parameters.load(i, moved.data(), DType::kFloat32);
          const VqganLosses losses = loss();
          sides[side] = losses.total;
          same_codes &= losses.indices == before.indices;
        }
        parameters.load(i, value.data(), DType::kFloat32);
        if (!same_codes) continue;  // the step crossed a boundary between codes
        ++compared;
        const double slope = (sides[0] - sides[1]) / (2 * step);
        // rounding of the two losses, 1e-7 of the loss each, over a change of 4e-4 of it; what
        // many layers add to that stays below 2 percent
        EXPECT(relative_difference(slope, length) < 0.02,
               "%s: %s rises by %g along a gradient of %g", backend->device(), name.c_str(), slope,
               length);
      }
      EXPECT(compared > 0, "%s %s: nothing compared", backend->device(), test.prefix);
    }
  }
}

// bfloat16 against float32 on the fast backend: no worse than twice what the plain loops of the
// oracle lose with the same types.
VILG_TEST(vqgan_bfloat16_loses_no_more_than_the_oracle) {
  const Fixture weights("taming-vqgan-tiny/weights.safetensors");
  const Fixture expected("taming-vqgan-tiny/expected.safetensors");
  const std::vector<float> image = expected.floats("image");
  const std::vector<int32_t> indices = expected.integers<int32_t>("indices");
  struct Errors {
    double prequant, reconstruction;
  };
  const auto errors = [&](Backend& backend) -> Errors {
    Vqgan model(backend, tiny_config(Quantizer::kNearest), DType::kBFloat16);
    load_parameters(model.parameters(), weights.file());
    EXPECT(model.codebook().value.dtype() == DType::kFloat32, "codebooks stay float32");
    EXPECT_ERROR(kUnsupported,
                 model.accumulate_gradients(image, 2, 32, 32, {}, 1, DType::kBFloat16));
    return {relative_error(model.encode(image, 2, 32, 32).prequant, expected.floats("prequant")),
            relative_error(model.decode(indices, 2, 8, 8), expected.floats("reconstruction"))};
  };
  const Errors oracle = errors(ref_backend());
  EXPECT(oracle.prequant < 0.05 && oracle.reconstruction < 0.05, "oracle: prequant %g, images %g",
         oracle.prequant, oracle.reconstruction);
  for (Backend* backend : backends()) {
    const Errors fast = errors(*backend);
    EXPECT(fast.prequant <= 2 * oracle.prequant, "%s: prequant %g, oracle %g", backend->device(),
           fast.prequant, oracle.prequant);
    EXPECT(fast.reconstruction <= 2 * oracle.reconstruction, "%s: reconstruction %g, oracle %g",
           backend->device(), fast.reconstruction, oracle.reconstruction);
  }
}

VILG_TEST(vqgan_memory_does_not_grow_with_the_batch) {
  VqganConfig config;
  config.channels = 32;
  config.multipliers = {1, 1, 1, 1};
  config.residual_blocks = 1;
  config.attention_resolutions = {};
  config.latent_channels = 8, config.codebook_size = 16, config.codebook_dim = 8;
  Backend& backend = cpu_backend();
  Vqgan model(backend, config, DType::kFloat32);
  model.parameters().initialize(1);
  const auto peak = [&](int64_t batch) {
    std::vector<int32_t> indices(static_cast<size_t>(batch * 32 * 32), 3);
    const size_t before = backend.allocator().bytes_in_use();
    backend.allocator().reset_peak();
    model.decode(indices, batch, 32, 32);
    EXPECT(backend.allocator().bytes_in_use() == before, "everything is given back");
    return backend.allocator().peak_bytes() - before;
  };
  const size_t one = peak(1), three = peak(3);
  EXPECT(three == one, "%zu bytes for one picture, %zu for three", one, three);
  // three activations of full size (input, hidden, result of a residual block) and workspace
  const size_t activation = 256 * 256 * 32 * sizeof(float);
  EXPECT(one < 5 * activation, "%zu bytes, an activation has %zu", one, activation);
}

VILG_TEST(vqgan_refuses_what_cannot_be) {
  Backend& backend = ref_backend();
  VqganConfig config = micro_config();
  Vqgan model(backend, config, DType::kFloat32);
  model.parameters().initialize(1);
  const std::vector<float> images(3 * 8 * 8);
  const std::vector<int32_t> indices(16, 10);
  EXPECT_ERROR(kShapeMismatch, model.encode(images, 2, 8, 8));
  EXPECT_ERROR(kShapeMismatch, model.encode(images, 1, 7, 8));
  EXPECT_ERROR(kShapeMismatch, model.decode(indices, 1, 4, 5));
  EXPECT_ERROR(kInvalidArgument, model.decode(indices, 1, 4, 4));  // 10 is one past the codebook
  EXPECT_ERROR(kInvalidArgument, model.decode({}, 0, 4, 4));
  StopFlag stop;
  stop.raise();
  bool stopped = false;
  try {
    model.encode(images, 1, 8, 8, &stop);
  } catch (const Stopped&) {
    stopped = true;
  }
  EXPECT(stopped, "a raised flag stops the work");

  const auto broken = [&](auto change) {
    VqganConfig wrong = micro_config();
    change(wrong);
    EXPECT_ERROR(kInvalidArgument, Vqgan(backend, wrong, DType::kFloat32));
  };
  broken([](VqganConfig& c) { c.channels = 33; });
  broken([](VqganConfig& c) { c.multipliers = {}; });
  broken([](VqganConfig& c) { c.multipliers = {1, 0}; });
  broken([](VqganConfig& c) { c.resolution = 9; });
  broken([](VqganConfig& c) { c.attention_resolutions = {5}; });
  broken([](VqganConfig& c) { c.codebook_size = 0; });
  broken([](VqganConfig& c) { c.quantizer = Quantizer::kGumbel; });
}

VILG_TEST(absolute_error_matches_oracle) {
  for (const size_t count : {size_t{1}, size_t{1023}, size_t{40000}}) {
    std::vector<float> x = random_floats(count, 3), y = random_floats(count, 4);
    x[0] = y[0];  // no gradient where they are equal
    std::vector<float> start = random_floats(count, 5);
    double sums[2];
    std::vector<float> gradients[2];
    const OpTable* tables[] = {&ref_ops(), &cpu_ops()};
    for (size_t i = 0; i < 2; ++i) {
      Guarded<float> dx(count);
      std::copy(start.begin(), start.end(), dx.data());
      AbsoluteErrorParams params;
      params.sum = &sums[i];
      params.dx = dx.data();
      params.x = x.data(), params.y = y.data();
      params.num_elements = static_cast<int64_t>(count);
      params.scale = 0.25f;
      params.accumulate = true;
      tables[i]->absolute_error(params, context());
      EXPECT(dx.intact(), "%s writes outside", tables[i]->name);
      gradients[i] = dx.values();
    }
    EXPECT(gradients[0][0] == start[0], "equal elements");
    // each term is rounded once more to float32, 2^-24 of itself
    EXPECT(std::abs(sums[1] - sums[0]) <= sums[0] * 0x1p-23, "%g, oracle %g", sums[1], sums[0]);
    EXPECT(max_abs_error(gradients[1], gradients[0]) == 0, "gradients");
  }
  EXPECT_ERROR(kInvalidArgument, cpu_ops().absolute_error(AbsoluteErrorParams{}, context()));
}

}  // namespace vilg::test
