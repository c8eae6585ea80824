#include <algorithm>
#include <cmath>
#include <memory>
#include <string_view>

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

// ERNIE-ViLG's, and with what public generators have in other ways.
std::vector<GeneratorConfig> drawing_configs(int64_t grid) {
  const GeneratorConfig own = tiny_config(grid, grid == 2);
  GeneratorConfig norms = own;
  norms.causal_text = norms.sandwich_norm = norms.double_final_norm = true;
  norms.patterns = {Pattern::kConv, Pattern::kFull, Pattern::kConv, Pattern::kRow,
                    Pattern::kColumn};
  GeneratorConfig text_first = norms;
  text_first.modality = false;
  text_first.text_starts_image = text_first.padding_seen = true;
  text_first.padding_ids = 12;
  GeneratorConfig repeated = text_first;
  repeated.repeated_start = repeated.wrapped_window = true;
  return {own, norms, text_first, repeated};
}

// Fresh matrices have a deviation of 0.02, which would hide mistakes in the softmax: ten times
// that. `sep_bias` is added to the score of SEP everywhere.
std::shared_ptr<Generator> lively(Backend& backend, const GeneratorConfig& config, uint64_t seed,
                                  float sep_bias = 0) {
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
    if (parameters.specs()[i].name == "text_head.bias") values[kSep] += sep_bias;
    parameters.load(i, values.data(), DType::kFloat32);
  }
  return generator;
}

// `without`: a token that may not come and so has no share
double log_probability(const float* logits, int64_t vocab, int32_t token, int32_t without = -1) {
  double largest = -INFINITY, sum = 0;
  for (int64_t v = 0; v < vocab; ++v) {
    if (v != without) largest = std::max<double>(largest, logits[v]);
  }
  for (int64_t v = 0; v < vocab; ++v) {
    if (v != without) sum += std::exp(logits[v] - largest);
  }
  return logits[token] - largest - std::log(sum);
}

void expect_close(const char* what, double actual, double expected) {
  EXPECT(std::abs(actual - expected) < 1e-4 * std::max(1.0, std::abs(expected)), "%s: %g, not %g",
         what, actual, expected);
}

std::vector<TextSequence> describe(const std::shared_ptr<Generator>& generator,
                                   const std::vector<int32_t>& image, int64_t rows,
                                   bool beam_search, float length_penalty,
                                   const DrawOptions& options,
                                   const std::vector<int32_t>& given = {}) {
  TextSession session(generator, image, rows, beam_search, length_penalty,
                      {.cls = kCls, .sep = kSep, .banned = {}, .given = given}, options);
  while (!session.step(2, nullptr)) {
  }
  return session.texts();
}

// The scores of every token of a text and of what ended it, (tokens, V), by forward().
std::vector<float> text_logits(Generator& generator, const std::vector<int32_t>& image,
                               const std::vector<int32_t>& said) {
  std::vector<int32_t> text(7, kPad);
  text[0] = kCls;
  std::copy(said.begin(), said.end(), text.begin() + 1);
  const std::vector<uint8_t> valid(7, 1);
  return generator
      .forward({.text = text, .text_valid = valid, .image = image, .batch = 1},
               Direction::kImageToText)
      .logits;
}

// What forward() says of a text: SEP has no share in its first token, and what is given none at
// all.
double log_probability(Generator& generator, const std::vector<int32_t>& image,
                       const TextSequence& sequence, const std::vector<int32_t>& given = {}) {
  std::vector<int32_t> said = given;
  said.insert(said.end(), sequence.tokens.begin(), sequence.tokens.end());
  if (sequence.ended) said.push_back(kSep);
  const std::vector<float> logits = text_logits(generator, image, said);
  double sum = 0;
  for (size_t j = given.size(); j < said.size(); ++j) {
    sum += log_probability(logits.data() + j * 19, 19, said[j], j == given.size() ? kSep : -1);
  }
  return sum;
}

void expect_session_like_forward(Backend& backend, const GeneratorConfig& config) {
  constexpr int64_t kRows = 3;
  const auto generator = lively(backend, config, 7);
  const int64_t n = config.image_length();
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
  // whole pictures with a window that wraps around are for the CPU
  const bool elsewhere =
      config.wrapped_window && std::string_view(backend.device()).starts_with("cuda");
  const auto reference = elsewhere ? lively(cpu_backend(), config, 7) : generator;
  const Generator::Output output = reference->forward(
      {.text = texts, .text_valid = valids, .image = session.tokens(), .batch = kRows},
      Direction::kTextToImage);
  for (int64_t r = 0; r < kRows; ++r) {
    double expected = 0;
    for (int64_t p = 0; p < n; ++p) {
      const auto at = static_cast<size_t>(r * n + p);
      expected += log_probability(output.logits.data() + at * 23, 23, session.tokens()[at]);
    }
    expect_close(backend.device(), session.log_probabilities()[static_cast<size_t>(r)], expected);
  }
}

}  // namespace

// What forward() says of the tokens that a session drew must be what the session said.
VILG_TEST(image_sessions_decode_as_the_full_forward) {
  for (Backend* backend : backends()) {
    for (int64_t grid : {1, 2, 4, 5}) {
      for (const GeneratorConfig& config : drawing_configs(grid)) {
        expect_session_like_forward(*backend, config);
      }
    }
  }
}

VILG_TEST(generators_that_only_draw_refuse_to_describe) {
  for (const GeneratorConfig& config : drawing_configs(2)) {
    if (!config.text_starts_image) continue;
    const auto generator = lively(*backends().front(), config, 7);
    const std::vector<int32_t> image(4, 0);
    const std::vector<int32_t> text(7, kCls);
    const std::vector<uint8_t> valid(7, 1);
    EXPECT_ERROR(kUnsupported, describe(generator, image, 1, false, 0, {}));
    EXPECT_ERROR(kUnsupported,
                 generator->forward({.text = text, .text_valid = valid, .image = image, .batch = 1},
                                    Direction::kImageToText));
  }
}

VILG_TEST(text_sessions_decode_as_the_full_forward) {
  const std::vector<int32_t> image{3, 1, 4, 1, 5, 9, 2, 6, 5};
  for (Backend* backend : backends()) {
    for (bool beam_search : {false, true}) {
      const auto generator = lively(*backend, tiny_config(3, false), 11);
      const auto texts = describe(generator, image, 4, beam_search, 0.5f, {.seed = 3});
      EXPECT(texts.size() == 4, "%zu texts", texts.size());
      for (const TextSequence& text : texts) {
        expect_close(backend->device(), text.log_probability,
                     log_probability(*generator, image, text));
      }
    }
  }
}

// Texts that go on after given tokens, as answers after a question.
VILG_TEST(text_sessions_go_on_after_given_tokens) {
  const std::vector<int32_t> image{3, 1, 4, 1, 5, 9, 2, 6, 5};
  const std::vector<int32_t> given{6, kSep, 8};
  for (Backend* backend : backends()) {
    const auto generator = lively(*backend, tiny_config(3, false), 11);
    for (bool beam_search : {false, true}) {
      const auto texts = describe(generator, image, 4, beam_search, 0.5f, {.seed = 3}, given);
      EXPECT(texts.size() == 4, "%zu texts", texts.size());
      for (const TextSequence& text : texts) {
        EXPECT(!text.tokens.empty() && text.tokens.size() <= 3, "%zu tokens", text.tokens.size());
        expect_close(backend->device(), text.log_probability,
                     log_probability(*generator, image, text, given));
      }
    }
    // greedy by hand
    std::vector<int32_t> said = given;
    while (said.size() < 6) {
      const std::vector<float> logits = text_logits(*generator, image, said);
      const float* row = logits.data() + said.size() * 19;
      int32_t best = said.size() == given.size() && kSep == 0 ? 1 : 0;
      for (int32_t v = 0; v < 19; ++v) {
        const bool may = v != kSep || said.size() > given.size();
        if (may && row[v] > row[best]) best = v;
      }
      if (best == kSep) break;
      said.push_back(best);
    }
    const auto greedy = describe(generator, image, 1, false, 0, {.temperature = 0}, given);
    EXPECT(greedy[0].tokens == std::vector<int32_t>(said.begin() + 3, said.end()), "%s: greedy",
           backend->device());
    // six places: one is left for the text
    EXPECT(describe(generator, image, 1, true, 0, {}, {5, 5, 5, 5, 5})[0].tokens.size() == 1,
           "%s: one token", backend->device());
    EXPECT_ERROR(kInvalidArgument, describe(generator, image, 1, true, 0, {}, {5, 5, 5, 5, 5, 5}));
    EXPECT_ERROR(kInvalidArgument, describe(generator, image, 1, true, 0, {}, {19}));
  }
}

// A model that would end every text at once, as an untrained one may.
VILG_TEST(text_sessions_give_no_empty_text) {
  const std::vector<int32_t> image{3, 1, 4, 1, 5, 9, 2, 6, 5};
  for (Backend* backend : backends()) {
    const auto generator = lively(*backend, tiny_config(3, false), 11, 30);
    const std::vector<float> first = text_logits(*generator, image, {});
    EXPECT(std::max_element(first.begin(), first.begin() + 19) - first.begin() == kSep,
           "SEP is not what the model would begin with");
    int32_t best = 0;
    for (int32_t v = 0; v < 19; ++v) {
      if (v != kSep && first[static_cast<size_t>(v)] > first[static_cast<size_t>(best)]) best = v;
    }
    const auto check = [&](const char* how, const std::vector<TextSequence>& texts, size_t count) {
      EXPECT(texts.size() == count, "%s %s: %zu texts", backend->device(), how, texts.size());
      for (const TextSequence& text : texts) {
        EXPECT(text.tokens.size() == 1 && text.tokens[0] != kSep && text.ended, "%s %s: %zu tokens",
               backend->device(), how, text.tokens.size());
        expect_close(how, text.log_probability, log_probability(*generator, image, text));
      }
    };
    const auto greedy = describe(generator, image, 2, false, 0, {.temperature = 0});
    check("greedy", greedy, 2);
    check("sampled", describe(generator, image, 8, false, 0, {.seed = 3}), 8);
    check("of the first", describe(generator, image, 2, false, 0, {.top_k = 1}), 2);
    check("of the first share", describe(generator, image, 2, false, 0, {.top_p = 0.01f}), 2);
    for (float length_penalty : {0.0f, 1.0f, -1.0f}) {
      check("beams", describe(generator, image, 5, true, length_penalty, {}), 5);
    }
    const auto beam = describe(generator, image, 1, true, 0, {});
    check("a beam", beam, 1);
    EXPECT(beam[0].tokens == greedy[0].tokens && beam[0].tokens[0] == best,
           "greedy %d, beam %d, best %d", greedy[0].tokens[0], beam[0].tokens[0], best);
  }
}

VILG_TEST(text_sessions_need_a_token_to_begin_with) {
  for (Backend* backend : backends()) {
    const auto generator = lively(*backend, tiny_config(1, false), 11);
    TextTokens all{.cls = kCls, .sep = kSep, .banned = {}, .given = {}};
    for (int32_t v = 0; v < 19; ++v) {
      if (v != kSep && v != 7) all.banned.push_back(v);
    }
    const auto open = [&] { TextSession(generator, {1}, 1, true, 0, all, {}); };
    open();
    all.banned.push_back(7);
    EXPECT_ERROR(kInvalidArgument, open());
  }
}

}  // namespace vilg::test
