#include <cmath>
#include <memory>

#include "sample/image_session.h"
#include "sample/text_session.h"
#include "tests/fixtures.h"
#include "tests/harness.h"

namespace vilg::test {
namespace {

constexpr int32_t kPad = 0, kCls = 1, kSep = 2;

GeneratorConfig tiny_config(int64_t grid, bool full_attention) {
  return {.layers = 5,
          .hidden = 24,
          .heads = 3,
          .text_vocab = 19,
          .image_vocab = 23,
          .text_length = 7,
          .grid = grid,
          .kernel = 3,
          .full_attention = full_attention};
}

// Fresh matrices have a deviation of 0.02, which would hide mistakes in the softmax: ten times
// that.
std::shared_ptr<Generator> lively(Backend& backend, const GeneratorConfig& config, uint64_t seed) {
  auto generator = std::make_shared<Generator>(backend, config, DType::kFloat32);
  ParameterList& parameters = generator->parameters();
  parameters.initialize(seed);
  for (size_t i = 0; i < parameters.specs().size(); ++i) {
    std::vector<float> values = parameters.read(i);
    const bool matrix = parameters.specs()[i].shape.rank() > 1;
    const std::vector<float> noise = random_floats(values.size(), static_cast<uint32_t>(i) + 1);
    for (size_t k = 0; k < values.size(); ++k) {
      values[k] = matrix ? 10 * values[k] : values[k] + 0.1f * noise[k];
    }
    parameters.load(i, values.data(), DType::kFloat32);
  }
  return generator;
}

double log_probability(const float* logits, int64_t vocab, int32_t token) {
  double largest = -INFINITY, sum = 0;
  for (int64_t v = 0; v < vocab; ++v) largest = std::max<double>(largest, logits[v]);
  for (int64_t v = 0; v < vocab; ++v) sum += std::exp(logits[v] - largest);
  return logits[token] - largest - std::log(sum);
}

void expect_close(const char* what, double actual, double expected) {
  EXPECT(std::abs(actual - expected) < 1e-4 * std::max(1.0, std::abs(expected)), "%s: %g, not %g",
         what, actual, expected);
}

}  // namespace

// What forward() says of the tokens that a session drew must be what the session said.
VILG_TEST(image_sessions_decode_as_the_full_forward) {
  constexpr int64_t kRows = 3;
  for (Backend* backend : backends()) {
    for (int64_t grid : {1, 2, 4}) {
      const auto generator = lively(*backend, tiny_config(grid, grid == 2), 7);
      const int64_t n = grid * grid;
      const std::vector<int32_t> text{kCls, 5, 9, kSep, kPad, kPad, kPad};
      const std::vector<uint8_t> valid{1, 1, 1, 1, 0, 0, 0};
      ImageSession session(generator, text, valid, kRows, 0, {.seed = 3});
      // a stop at the very beginning, and steps of several sizes
      StopFlag stop;
      stop.raise();
      bool stopped = false;
      try {
        session.step(1, &stop);
      } catch (const Stopped&) {
        stopped = true;
      }
      EXPECT(stopped, "not stopped");
      for (int64_t count = 1; session.position() < n; ++count) session.step(count, nullptr);

      std::vector<int32_t> texts;
      std::vector<uint8_t> valids;
      for (int64_t r = 0; r < kRows; ++r) {
        texts.insert(texts.end(), text.begin(), text.end());
        valids.insert(valids.end(), valid.begin(), valid.end());
      }
      const Generator::Output output = generator->forward(
          {.text = texts, .text_valid = valids, .image = session.tokens(), .batch = kRows},
          Direction::kTextToImage);
      for (int64_t r = 0; r < kRows; ++r) {
        double expected = 0;
        for (int64_t p = 0; p < n; ++p) {
          const auto at = static_cast<size_t>(r * n + p);
          expected += log_probability(output.logits.data() + at * 23, 23, session.tokens()[at]);
        }
        expect_close(backend->device(), session.log_probabilities()[static_cast<size_t>(r)],
                     expected);
      }
    }
  }
}

VILG_TEST(text_sessions_decode_as_the_full_forward) {
  for (Backend* backend : backends()) {
    for (bool beam_search : {false, true}) {
      const auto generator = lively(*backend, tiny_config(3, false), 11);
      const std::vector<int32_t> image{3, 1, 4, 1, 5, 9, 2, 6, 5};
      TextSession session(generator, image, 4, beam_search, 0.5f,
                          {.cls = kCls, .sep = kSep, .banned = {}}, {.seed = 3});
      while (!session.step(2, nullptr)) {
      }
      EXPECT(session.texts().size() == 4, "%zu texts", session.texts().size());
      for (const TextSequence& sequence : session.texts()) {
        std::vector<int32_t> text(7, kPad);
        std::vector<uint8_t> valid(7, 1);
        text[0] = kCls;
        std::vector<int32_t> said = sequence.tokens;
        if (sequence.ended) said.push_back(kSep);
        for (size_t j = 0; j < said.size(); ++j) text[j + 1] = said[j];
        const Generator::Output output =
            generator->forward({.text = text, .text_valid = valid, .image = image, .batch = 1},
                               Direction::kImageToText);
        double expected = 0;
        for (size_t j = 0; j < said.size(); ++j) {
          expected += log_probability(output.logits.data() + j * 19, 19, said[j]);
        }
        expect_close(backend->device(), sequence.log_probability, expected);
      }
    }
  }
}

}  // namespace vilg::test
