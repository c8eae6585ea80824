#include "tests/draw_problem.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "tests/cuda/cuda_backend.h"
#include "tests/data.h"

namespace vilg::test {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();

// Ties, signed zeros, -inf; no row without a token.
std::vector<float> some_logits(int64_t rows, int64_t vocab, int64_t stride, float scale) {
  auto logits = random_floats(static_cast<size_t>(rows * stride), 5, scale);
  for (size_t i = 0; i < logits.size(); i += 3) {
    logits[i] = std::round(logits[i]);
    if (i % 4 == 0) logits[i] = -logits[i];
    if (i % 11 == 1) logits[i] = -kInf;
  }
  for (int64_t r = 0; r < rows; ++r) {
    float* row = logits.data() + r * stride;
    if (*std::max_element(row, row + vocab) == -kInf) row[0] = 1;
  }
  return logits;
}

bool same(const DrawResult& a, const DrawResult& b) {
  return a.tokens == b.tokens && same_bits(a.log_probabilities, b.log_probabilities);
}

void compare(const DrawParams& p, const char* what) {
  EXPECT(same(run(cuda_ops(), p), run(ref_ops(), p)),
         "%s, V %lld, temperature %g, top-k %lld, top-p %g", what, static_cast<long long>(p.vocab),
         static_cast<double>(p.temperature), static_cast<long long>(p.top_k),
         static_cast<double>(p.top_p));
}

VILG_TEST(cuda_draw_is_ref_bit_for_bit) {
  for (int64_t vocab : {1, 3, 17, 257, 512, 1031, 1064}) {
    for (int64_t gap : {0, 3}) {
      const int64_t rows = 3, stride = vocab + gap;
      for (float scale : {0.0f, 1.0f, 12.0f, 1e30f}) {
        const auto logits = some_logits(rows, vocab, stride, scale);
        for (float temperature : {0.0f, 0.3f, 1.0f, 1e-30f, 1e30f}) {
          for (int64_t top_k : {int64_t{0}, int64_t{1}, int64_t{5}, vocab / 2, vocab + 1}) {
            for (float top_p : {1.0f, 0.9f, 0.3f, 1e-6f, 1e-30f}) {
              if (gap > 0 && top_p < 0.3f) continue;
              DrawParams p;
              p.logits = logits.data();
              p.rows = rows, p.vocab = vocab, p.logits_stride = stride;
              p.temperature = temperature, p.top_k = top_k, p.top_p = top_p;
              p.seed = static_cast<uint64_t>(vocab) << 33;
              p.position = static_cast<uint64_t>(top_k + 1);
              compare(p, "grid");
            }
          }
        }
      }
    }
  }
}

// In registers up to 8192 tokens.
VILG_TEST(cuda_draw_from_many_tokens) {
  for (int64_t vocab : {8192, 8193, 21128, 65536}) {
    const int64_t rows = 2, stride = vocab + (vocab % 8192 == 0 ? 4 : 0);
    for (float scale : {1.0f, 12.0f}) {
      const auto logits = some_logits(rows, vocab, stride, scale);
      struct Setting {
        float temperature;
        int64_t top_k;
        float top_p;
      };
      for (const Setting& s : {Setting{0, 0, 1}, Setting{1, 0, 1}, Setting{0.7f, 100, 1},
                               Setting{1, 0, 0.9f}, Setting{1.3f, 2000, 0.8f}}) {
        DrawParams p;
        p.logits = logits.data();
        p.rows = rows, p.vocab = vocab, p.logits_stride = stride;
        p.temperature = s.temperature, p.top_k = s.top_k, p.top_p = s.top_p;
        p.seed = 9;
        compare(p, "many");
      }
    }
  }
}

// Every token tied, or all but a few: the tie rule over a whole block.
VILG_TEST(cuda_draw_among_ties) {
  for (int64_t vocab : {40, 700, 9000}) {
    std::vector<float> logits(static_cast<size_t>(vocab), 2.0f);
    for (int variant = 0; variant < 3; ++variant) {
      if (variant == 1) logits[static_cast<size_t>(vocab / 3)] = 3;
      if (variant == 2) std::fill(logits.begin() + vocab / 2, logits.end(), 1.0f);
      for (int64_t top_k : {int64_t{0}, int64_t{2}, vocab / 2, vocab / 2 + 1, vocab - 1}) {
        for (float top_p : {1.0f, 0.5f, 0.51f, 0.01f}) {
          for (uint64_t seed = 0; seed < 4; ++seed) {
            DrawParams p;
            p.logits = logits.data();
            p.rows = 1, p.vocab = vocab, p.logits_stride = vocab;
            p.top_k = top_k, p.top_p = top_p, p.seed = seed;
            compare(p, "ties");
          }
        }
      }
    }
  }
}

VILG_TEST(cuda_draw_depends_on_its_row_alone) {
  const int64_t rows = 12, vocab = 300;
  const auto logits = random_floats(static_cast<size_t>(rows * vocab), 21, 3);
  DrawParams p;
  p.logits = logits.data();
  p.rows = rows, p.vocab = vocab;
  p.temperature = 0.8f, p.top_k = 100, p.top_p = 0.95f;
  p.seed = 99, p.position = 1000;
  const DrawResult together = run(cuda_ops(), p);
  const int32_t step = 990;
  for (int64_t r = 0; r < rows; ++r) {
    const auto stream = static_cast<uint32_t>(r);
    DrawParams alone = p;
    alone.logits += r * vocab;
    alone.streams = &stream;
    alone.rows = 1;
    alone.position = 10, alone.step = &step;  // and the position from memory
    const DrawResult result = run(cuda_ops(), alone);
    const auto i = static_cast<size_t>(r);
    EXPECT(result.tokens[0] == together.tokens[i] &&
               result.log_probabilities[0] == together.log_probabilities[i],
           "row %zu", i);
  }
  EXPECT(same(run(cuda_ops(), p), together), "the same bits");
}

// Recorded once, the step read anew each time.
VILG_TEST(cuda_draw_recorded) {
  Backend& backend = cuda_backend();
  OpContext device = backend.context(nullptr);
  const int64_t rows = 3, vocab = 100;
  auto logits = random_floats(static_cast<size_t>(rows * vocab), 3);
  const std::vector<uint32_t> streams = {0, 1, 2};
  const Tensor device_logits = backend.upload(logits.data(), kF, {rows, vocab});
  const Tensor device_streams = backend.upload(streams.data(), DType::kInt32, {rows});
  const Tensor step = backend.empty(DType::kInt32, {1});
  const Tensor tokens = backend.empty(DType::kInt32, {rows}), logs = backend.empty(kF, {rows});
  DrawParams p;
  p.tokens = tokens.as<int32_t>(), p.log_probabilities = logs.f32();
  p.logits = device_logits.f32(), p.streams = device_streams.as<uint32_t>();
  p.rows = rows, p.vocab = vocab, p.logits_stride = vocab;
  p.step = step.as<int32_t>(), p.position = 7;
  const auto recorded = backend.record([&] { backend.ops().draw(p, device); });
  DrawResult result;
  const auto replay = [&](int32_t at) {
    backend.copy_in(step.data(), &at, sizeof at);
    recorded->run();
    result.tokens.resize(3), result.log_probabilities.resize(3);
    backend.copy_out(result.tokens.data(), tokens.data(), tokens.size_bytes());
    backend.copy_out(result.log_probabilities.data(), logs.data(), logs.size_bytes());
  };
  for (int32_t at : {0, 1, 5}) {
    replay(at);
    DrawParams q = p;
    q.logits = logits.data(), q.streams = nullptr;
    q.step = nullptr, q.position = 7 + static_cast<uint64_t>(at);
    EXPECT(same(result, run(ref_ops(), q)), "step %d", at);
  }
  // nothing can be thrown: it is told by the token
  logits[150] = std::nanf("");
  std::fill(logits.begin() + 200, logits.end(), -kInf);
  backend.copy_in(device_logits.data(), logits.data(), logits.size() * sizeof(float));
  replay(0);
  EXPECT(result.tokens[0] >= 0 && result.tokens[1] == -1 && result.tokens[2] == -1, "tokens");
  EXPECT(!std::isnan(result.log_probabilities[0]) && std::isnan(result.log_probabilities[1]) &&
             std::isnan(result.log_probabilities[2]),
         "log-probabilities");
}

VILG_TEST(cuda_draw_refuses_logits) {
  for (int64_t vocab : {37, 9000}) {
    std::vector<float> logits = random_floats(static_cast<size_t>(3 * vocab), 4);
    DrawParams p;
    p.logits = logits.data();
    p.rows = 3, p.vocab = vocab;
    const auto message_of = [&](const OpTable& ops) -> std::string {
      try {
        run(ops, p);
      } catch (const Error& error) {
        EXPECT(error.code() == ErrorCode::kInvalidArgument, "%s", error.what());
        return error.what();
      }
      return ops.name;
    };
    for (float bad : {std::nanf(""), -std::nanf(""), kInf}) {
      float& logit = logits[static_cast<size_t>(vocab + 30)];
      const float before = logit;
      logit = bad;
      for (float temperature : {0.0f, 1.0f}) {
        p.temperature = temperature;
        const std::string message = message_of(cuda_ops());
        EXPECT(std::strstr(message.c_str(), "row 1, index 30") && message == message_of(ref_ops()),
               "%s", message.c_str());
      }
      logit = before;
    }
    std::fill(logits.begin() + vocab, logits.begin() + 2 * vocab, -kInf);
    EXPECT(message_of(cuda_ops()) == message_of(ref_ops()), "%s", message_of(cuda_ops()).c_str());
  }
}

}  // namespace
}  // namespace vilg::test
