#include "model/matcher.h"

#include <cmath>
#include <limits>

#include "tests/data.h"
#include "tests/fixtures.h"
#include "tests/harness.h"
#include "tests/recompute.h"
#include "tests/temporary_folder.h"
#include "train/matcher_trainer.h"

namespace vilg::test {
namespace {

MatcherConfig tiny_config() {
  MatcherConfig config;
  config.sizes.layers = 3, config.sizes.hidden = 16, config.sizes.heads = 2;
  config.sizes.text_vocab = 11, config.sizes.image_vocab = 13;
  config.sizes.text_length = 5, config.sizes.grid = 3, config.sizes.kernel = 3;
  config.dim = 8;
  return config;
}

// Five pairs: the second and the fourth have one picture, the third and the fifth one caption,
// whose PADs differ.
struct Pairs {
  std::vector<int32_t> text = {0, 1, 2, 3, 0,  //
                               0, 4, 5, 6, 7,  //
                               0, 8, 9, 0, 0,  //
                               0, 2, 1, 4, 0,  //
                               0, 8, 9, 5, 1};
  std::vector<uint8_t> valid = {1, 1, 1, 1, 0,  //
                                1, 1, 1, 1, 1,  //
                                1, 1, 1, 0, 0,  //
                                1, 1, 1, 1, 0,  //
                                1, 1, 1, 0, 0};
  std::vector<int32_t> image;
  Pairs() {
    for (int32_t i = 0; i < 45; ++i) image.push_back((7 * i + i * i / 3) % 13);
    std::copy(image.begin() + 9, image.begin() + 18, image.begin() + 27);
  }
  operator TokenBatch() const {
    return {.text = text, .text_valid = valid, .image = image, .batch = 5};
  }
};

std::shared_ptr<Matcher> fresh(Backend& backend) {
  auto model = std::make_shared<Matcher>(backend, tiny_config(), DType::kFloat32);
  model->parameters().initialize(3);
  return model;
}

std::vector<std::vector<float>> values_of(ParameterList& parameters, bool gradients = false) {
  std::vector<std::vector<float>> values;
  for (size_t i = 0; i < parameters.specs().size(); ++i) {
    values.push_back(parameters.read(i, gradients));
  }
  return values;
}

std::vector<float> host(const Tensor& tensor, Backend& backend) {
  std::vector<float> values(static_cast<size_t>(tensor.num_elements()));
  backend.copy_out(values.data(), tensor.data(), tensor.size_bytes());
  return values;
}

// --- the definition, slowly ---

struct Vectors {
  size_t count, dim;
  std::vector<double> images, texts;
  double logit_scale;
  PairGroups groups;
};

double plain_cosine(const Vectors& v, size_t i, size_t j) {
  double dot = 0, a = 0, b = 0;
  for (size_t d = 0; d < v.dim; ++d) {
    const double x = v.images[i * v.dim + d], y = v.texts[j * v.dim + d];
    dot += x * y, a += x * x, b += y * y;
  }
  return dot / std::sqrt(a * b);
}

double plain_loss(const Vectors& v) {
  double loss = 0;
  for (size_t i = 0; i < v.count; ++i) {
    double images = 0, texts = 0;
    for (size_t j = 0; j < v.count; ++j) {
      const bool negative = v.groups.image[i] != v.groups.image[j] &&  //
                            v.groups.text[i] != v.groups.text[j];
      if (i != j && !negative) continue;
      images += std::exp(std::exp(v.logit_scale) * plain_cosine(v, i, j));
      texts += std::exp(std::exp(v.logit_scale) * plain_cosine(v, j, i));
    }
    loss -=
        2 * std::exp(v.logit_scale) * plain_cosine(v, i, i) - std::log(images) - std::log(texts);
  }
  return loss / (2 * static_cast<double>(v.count));
}

// What info_nce makes of such vectors.
struct Computed {
  InfoNce result;
  std::vector<float> images, texts, logit_scale;  // gradients
};

Computed compute(Backend& backend, const Vectors& v, float weight) {
  const Shape shape{static_cast<int64_t>(v.count), static_cast<int64_t>(v.dim)};
  Parameter logit_scale;
  const auto first = static_cast<float>(v.logit_scale);
  logit_scale.value = backend.upload(&first, DType::kFloat32, {1});
  Tape tape(backend, GradientMode(), nullptr);
  const auto value = [&](const std::vector<double>& values) {
    const std::vector<float> floats(values.begin(), values.end());
    return tape.value(backend.upload(floats.data(), DType::kFloat32, shape), true);
  };
  const Value images = value(v.images), texts = value(v.texts);
  Computed computed;
  computed.result = info_nce(tape, images, texts, logit_scale, v.groups, weight);
  if (weight == 0) return computed;
  computed.images = host(images->grad, backend);
  computed.texts = host(texts->grad, backend);
  computed.logit_scale = host(logit_scale.grad, backend);
  return computed;
}

Vectors random_vectors() {
  const std::vector<float> a = random_floats(6 * 5, 1), b = random_floats(6 * 5, 2);
  return {.count = 6,
          .dim = 5,
          .images = {a.begin(), a.end()},
          .texts = {b.begin(), b.end()},
          .logit_scale = 1.25,
          .groups = {.image = {0, 1, 2, 1, 3, 4}, .text = {0, 1, 2, 3, 2, 4}}};
}

}  // namespace

// Two pairs, each vector along an axis of its own: cosines are 1 and 0, of any length.
VILG_TEST(info_nce_by_hand) {
  Vectors v{.count = 2,
            .dim = 2,
            .images = {3, 0, 0, 0.5},
            .texts = {0.25, 0, 0, 7},
            .logit_scale = std::log(4.0),
            .groups = {.image = {0, 1}, .text = {0, 1}}};
  for (Backend* backend : backends()) {
    Computed computed = compute(*backend, v, 1);
    const double loss = std::log(1 + std::exp(-4.0)), miss = 1 / (1 + std::exp(4.0));
    EXPECT(std::abs(computed.result.loss - loss) < 1e-6, "%s: %g, not %g", backend->device(),
           computed.result.loss, loss);
    EXPECT(computed.result.image_to_text == 1 && computed.result.text_to_image == 1, "hits");
    // more length changes nothing; what the first picture has along the second axis is a mistake of
    // its own row and of the second column, over two pairs and two directions, times 4 and by its
    // length
    const std::vector<float> expected{0, static_cast<float>(4 * miss / 2 / 3),
                                      static_cast<float>(4 * miss / 2 / 0.5), 0};
    EXPECT(max_abs_error(computed.images, expected) < 1e-6, "%s: gradient %g %g %g %g",
           backend->device(), static_cast<double>(computed.images[0]),
           static_cast<double>(computed.images[1]), static_cast<double>(computed.images[2]),
           static_cast<double>(computed.images[3]));
    // each of the four softmaxes would gain 4 * miss from a larger scale
    EXPECT(std::abs(computed.logit_scale[0] + 4 * miss) < 1e-6, "%s: scale %g", backend->device(),
           static_cast<double>(computed.logit_scale[0]));
    // the same caption is no negative: then there is none, and nothing to gain
    v.groups.text = {0, 0};
    computed = compute(*backend, v, 1);
    EXPECT(computed.result.loss == 0 && computed.images == std::vector<float>(4), "%s: masked",
           backend->device());
    v.groups.text = {0, 1};
    // every vector the same: no caption is nearer than any other
    Vectors same = v;
    same.images = same.texts = {1, 1, 1, 1};
    computed = compute(*backend, same, 0);
    EXPECT(std::abs(computed.result.loss - std::log(2.0)) < 1e-9, "%g", computed.result.loss);
    EXPECT(computed.result.image_to_text == 0 && computed.result.text_to_image == 0, "ties");
  }
}

VILG_TEST(info_nce_is_its_definition_and_its_gradient_that_of_differences) {
  const Vectors v = random_vectors();
  for (Backend* backend : backends()) {
    const float weight = 0.75f;
    const Computed computed = compute(*backend, v, weight);
    // double against double; the scale is read as float32, 2^-24 of 1.25 away at most
    EXPECT(std::abs(computed.result.loss - plain_loss(v)) < 1e-6, "%s: %g, not %g",
           backend->device(), computed.result.loss, plain_loss(v));
    EXPECT(compute(*backend, v, 0).result.loss == computed.result.loss, "without gradients");
    size_t hits = 0;
    for (size_t i = 0; i < v.count; ++i) {
      bool hit = true;
      for (size_t j = 0; j < v.count; ++j) {
        if (v.groups.opposed(i, j)) hit = hit && plain_cosine(v, i, i) > plain_cosine(v, i, j);
      }
      hits += hit;
    }
    EXPECT(computed.result.image_to_text == static_cast<double>(hits) / 6, "%zu hits", hits);

    Vectors moved = v;
    const auto slope = [&](double& x) {
      const double before = x, step = 1e-5;  // errors of its square, and of 1e-16 / 1e-5
      x = before + step;
      const double up = plain_loss(moved);
      x = before - step;
      const double down = plain_loss(moved);
      x = before;
      return static_cast<float>(weight * (up - down) / (2 * step));
    };
    std::vector<float> images, texts;
    for (double& x : moved.images) images.push_back(slope(x));
    for (double& x : moved.texts) texts.push_back(slope(x));
    // gradients are rounded to float32 once
    EXPECT(relative_error(computed.images, images) < 1e-6, "%s: %g", backend->device(),
           relative_error(computed.images, images));
    EXPECT(relative_error(computed.texts, texts) < 1e-6, "%s: %g", backend->device(),
           relative_error(computed.texts, texts));
    EXPECT(relative_error(computed.logit_scale, {slope(moved.logit_scale)}) < 1e-6, "%s: scale",
           backend->device());
  }
}

VILG_TEST(info_nce_of_vectors_without_length_is_finite) {
  Vectors v = random_vectors();
  std::fill(v.images.begin(), v.images.begin() + 5, 0.0);
  const Computed computed = compute(cpu_backend(), v, 1);
  EXPECT(std::isfinite(computed.result.loss), "%g", computed.result.loss);
  v.texts[3] = std::numeric_limits<double>::quiet_NaN();
  EXPECT(std::isnan(compute(cpu_backend(), v, 1).result.loss), "a NaN stays one");
}

VILG_TEST(matcher_gradient_against_finite_differences) {
  const Pairs pairs;
  for (Backend* backend : backends()) {
    auto model = fresh(*backend);
    ParameterList& parameters = model->parameters();
    MatcherTrainer trainer(model, {}, DType::kFloat32);
    for (int step = 0; step < 5; ++step) {  // away from biases of 0 and vectors all alike
      trainer.accumulate(pairs, 1, nullptr);
      trainer.step(1e-2f, nullptr);
    }
    const auto run = [&] {
      parameters.zero_grad();
      return model->accumulate_gradients(pairs, 1, DType::kFloat32).loss;
    };
    size_t unused = 0;
    for (size_t index = 0; index < parameters.specs().size(); ++index) {
      const std::string& name = parameters.specs()[index].name;
      run();
      const std::vector<float> gradient = parameters.read(index, /*gradient=*/true);
      const std::vector<float> values = parameters.read(index);
      double squares = 0;
      for (const float g : gradient) squares += static_cast<double>(g) * g;
      const double length = std::sqrt(squares);
      if (length == 0) {
        ++unused;
        continue;
      }
      // along the gradient, whose length the slope is then
      const auto loss = [&](double step) {
        std::vector<float> moved = values;
        for (size_t i = 0; i < moved.size(); ++i) {
          moved[i] += static_cast<float>(step / length * static_cast<double>(gradient[i]));
        }
        parameters.load(index, moved.data(), DType::kFloat32);
        return run();
      };
      const double slope = (loss(1e-3) - loss(-1e-3)) / 2e-3;
      parameters.load(index, values.data(), DType::kFloat32);
      // losses of about 1 from float32 activations, a few 1e-7 each, over the step: 3e-4
      EXPECT(std::abs(slope - length) < 1e-2 * length + 3e-4, "%s %s: %g, %g", backend->device(),
             name.c_str(), length, slope);
    }
    // three tables of the other half in each tower: its tokens, and their one or two positions
    EXPECT(unused == 5, "%s: %zu weights without gradient", backend->device(), unused);
  }
}

// PAD and the other half of a pair change nothing.
VILG_TEST(matcher_embeds_each_half_by_itself) {
  const Pairs pairs;
  for (Backend* backend : backends()) {
    auto model = fresh(*backend);
    const std::vector<float> images = model->embed_images(pairs.image, 5);
    const std::vector<float> texts = model->embed_texts(pairs.text, pairs.valid, 5);
    for (const auto& vectors : {images, texts}) {
      for (size_t i = 0; i < 5; ++i) {
        double square = 0;
        for (size_t d = 0; d < 8; ++d) square += std::pow(vectors[i * 8 + d], 2);
        EXPECT(std::abs(square - 1) < 1e-6, "%s: length %g", backend->device(), square);
      }
    }
    const auto row = [](const std::vector<float>& all, size_t i) {
      return std::vector<float>(all.begin() + static_cast<int64_t>(8 * i),
                                all.begin() + static_cast<int64_t>(8 * i + 8));
    };
    EXPECT(max_abs_error(row(images, 1), row(images, 3)) < 1e-6, "%s: one picture",
           backend->device());
    EXPECT(max_abs_error(row(texts, 2), row(texts, 4)) < 1e-6, "%s: one caption",
           backend->device());
    EXPECT(max_abs_error(row(texts, 1), row(texts, 4)) > 1e-3, "%s: other captions",
           backend->device());
    EXPECT(max_abs_error(row(images, 1), row(images, 4)) > 1e-3, "%s: other pictures",
           backend->device());
  }
}

VILG_TEST(matcher_gradients_have_the_same_bits_for_any_number_of_threads) {
  const Pairs pairs;
  std::vector<std::vector<float>> expected;
  double loss = 0;
  for (const int threads : {1, 2, 3}) {
    with_threads(threads, [&] {
      auto model = fresh(cpu_backend());
      const InfoNce result = model->accumulate_gradients(pairs, 1, DType::kFloat32);
      const auto gradients = values_of(model->parameters(), true);
      if (threads == 1) expected = gradients, loss = result.loss;
      EXPECT(result.loss == loss && gradients == expected, "%d threads", threads);
      EXPECT(model->forward(pairs).loss > 0, "loss");
    });
  }
}

VILG_TEST(matcher_recomputed_gradients_have_the_same_bits) {
  const Pairs pairs;
  for (Backend* backend : backends()) {
    auto model = fresh(*backend);
    make_gradients(model->parameters());
    for (const DType compute : {DType::kFloat32, DType::kBFloat16}) {
      expect_same_from_less_memory(model->parameters(), [&](bool recompute) {
        return model->accumulate_gradients(pairs, 1, {compute, recompute}).loss;
      });
    }
  }
}

VILG_TEST(matcher_trainer_learns_by_heart_and_resumes) {
  const Pairs pairs;
  const auto steps = [&](MatcherTrainer& trainer, int count) {
    InfoNce last;
    for (int step = 0; step < count; ++step) {
      last = trainer.accumulate(pairs, 1, nullptr);
      EXPECT(trainer.step(3e-3f, nullptr).applied, "step %d", step);
    }
    return last;
  };
  MatcherTrainer straight(fresh(cpu_backend()), {}, DType::kFloat32);
  const double first = steps(straight, 1).loss;
  const InfoNce last = steps(straight, 149);
  EXPECT(first > 0.5 && last.loss < 0.1, "loss %g, at first %g", last.loss, first);
  EXPECT(last.image_to_text == 1 && last.text_to_image == 1, "not by heart");

  const TemporaryFolder folder;
  const std::string path = folder.file("state.safetensors");
  save_training_state(path, straight.parts(), straight.extras(), nullptr);
  steps(straight, 3);
  MatcherTrainer second(fresh(cpu_backend()), {}, DType::kFloat32);
  TrainingExtras extras = second.extras();
  load_training_state(path, second.parts(), extras, nullptr);
  steps(second, 3);
  EXPECT(values_of(second.matcher().parameters()) == values_of(straight.matcher().parameters()),
         "not the same bits");
}

VILG_TEST(matcher_scale_begins_at_the_published_one_and_is_bounded) {
  const Pairs pairs;
  auto model = fresh(cpu_backend());
  EXPECT(std::abs(model->scale() * 0.07 - 1) < 1e-6, "%g", model->scale());
  const size_t index = model->parameters().index_of("logit_scale");
  const float large = 6;
  model->parameters().load(index, &large, DType::kFloat32);
  MatcherTrainer trainer(model, {}, DType::kFloat32);
  trainer.accumulate(pairs, 1, nullptr);
  trainer.step(1e-6f, nullptr);
  EXPECT(std::abs(model->scale() - 100) < 1e-4, "%g", model->scale());
}

VILG_TEST(matcher_refuses) {
  MatcherConfig config = tiny_config();
  config.dim = 0;
  EXPECT_ERROR(kInvalidArgument, config.validate());
  config = tiny_config();
  config.sizes.heads = 3;
  EXPECT_ERROR(kInvalidArgument, config.validate());
  auto model = fresh(cpu_backend());
  Pairs pairs;
  EXPECT_ERROR(kShapeMismatch, model->embed_images(pairs.image, 4));
  EXPECT_ERROR(kShapeMismatch, model->embed_texts(pairs.text, pairs.valid, 0));
  pairs.image[7] = 13;
  EXPECT_ERROR(kInvalidArgument, model->forward(pairs));
  pairs = {};
  pairs.text[3] = -1;
  EXPECT_ERROR(kInvalidArgument, model->accumulate_gradients(pairs, 1, DType::kFloat32));
  pairs = {};
  pairs.valid[5] = 0;
  EXPECT_ERROR(kInvalidArgument, model->embed_texts(pairs.text, pairs.valid, 5));
  Matcher half(cpu_backend(), tiny_config(), DType::kBFloat16);
  half.parameters().initialize(1);
  pairs = {};
  EXPECT_ERROR(kUnsupported, half.accumulate_gradients(pairs, 1, DType::kFloat32));
  EXPECT(std::isfinite(half.forward(pairs).loss), "bfloat16 compares");
  StopFlag stop;
  stop.raise();
  bool stopped = false;
  try {
    model->forward(pairs, &stop);
  } catch (const Stopped&) {
    stopped = true;
  }
  EXPECT(stopped, "does not look at the stop flag");
}

}  // namespace vilg::test
