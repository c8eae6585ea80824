#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>

#include "kernels/exp_fixed.h"
#include "tests/draw_problem.h"

namespace vilg::test {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();

// The same row of logits `rows` times (one stream each): how often each token was drawn.
std::vector<int> frequencies(const std::vector<float>& row, int rows, DrawParams p) {
  std::vector<float> logits;
  for (int r = 0; r < rows; ++r) logits.insert(logits.end(), row.begin(), row.end());
  p.logits = logits.data();
  p.rows = rows;
  p.vocab = static_cast<int64_t>(row.size());
  std::vector<int> counts(row.size());
  for (int32_t token : run(cpu_ops(), p).tokens) ++counts[static_cast<size_t>(token)];
  return counts;
}

// What the filters should leave, by probabilities in double.
std::vector<double> filtered(const std::vector<float>& row, const DrawParams& p) {
  std::vector<size_t> order(row.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return row[a] > row[b]; });
  std::vector<double> probability(row.size());
  const size_t kept = p.top_k > 0 ? std::min(row.size(), static_cast<size_t>(p.top_k)) : row.size();
  double sum = 0;
  for (size_t i = 0; i < kept; ++i) {
    probability[order[i]] = std::exp((double{row[order[i]]} - row[order[0]]) / p.temperature);
    sum += probability[order[i]];
  }
  double cumulative = 0, left = 0;
  for (size_t i = 0; i < kept; ++i) {
    if (cumulative >= p.top_p * sum) probability[order[i]] = 0;
    cumulative += probability[order[i]];
    left += probability[order[i]];
  }
  for (double& q : probability) q /= left;
  return probability;
}

}  // namespace

VILG_TEST(exp_fixed_is_e_to_the_y) {
  EXPECT(exp_fixed(0.0f) == uint64_t{1} << 40 && exp_fixed(-0.0f) == uint64_t{1} << 40, "e^0");
  for (float y : {-28.0f, -1e30f, -kInf, std::numeric_limits<float>::quiet_NaN()}) {
    EXPECT(exp_fixed(y) == 0, "%g", static_cast<double>(y));
  }
  double worst = 0;
  for (double y = -27.9; y < 0; y += 1.7e-5) {
    const auto x = static_cast<float>(y);
    const double expected = std::exp(double{x}) * 0x1p40;
    const double error = std::abs(static_cast<double>(exp_fixed(x)) - expected);
    worst = std::max(worst, (error - 1) / expected / (1 - y));
  }
  EXPECT(worst < 1e-7, "relative error %g (1 + |y|)", worst);
  // known answers: other compilers and machines must find the same bits
  uint64_t hash = 14695981039346656037u;
  for (uint32_t i = 0; i < 100000; ++i) {
    hash = (hash ^ exp_fixed(-28.0f * static_cast<float>(i) * 0x1p-17f)) * 1099511628211u;
  }
  EXPECT(hash == 17575468778700331766u, "hash %llu", static_cast<unsigned long long>(hash));
}

VILG_TEST(log_fixed_is_the_logarithm) {
  EXPECT(log_fixed(uint64_t{1} << 40) == 0, "log 1");
  for (uint64_t mass = uint64_t{1} << 40; mass < uint64_t{1} << 62; mass += mass / 7 + 12345) {
    const double expected = std::log(static_cast<double>(mass)) - 40 * std::log(2.0);
    const double error = std::abs(static_cast<double>(log_fixed(mass)) * 0x1p-32 - expected);
    EXPECT(error < 0x1p-29, "log of %llu off by %g", static_cast<unsigned long long>(mass), error);
  }
}

VILG_TEST(multiply_high_is_the_upper_half) {
  uint64_t low;
  EXPECT(multiply_high(~uint64_t{0}, ~uint64_t{0}, &low) == ~uint64_t{0} - 1 && low == 1,
         "largest");
  EXPECT(multiply_high(uint64_t{1} << 40, uint64_t{3} << 62, &low) == uint64_t{3} << 38 && low == 0,
         "powers");
  EXPECT(multiply_high(0x123456789abcdef1u, 0xfedcba9876543211u, &low) == 0x121fa00ad77d7423u &&
             low == 0x347e9a0f6729e001u,
         "%llx %llx",
         static_cast<unsigned long long>(multiply_high(0x123456789abcdef1u, 0xfedcba9876543211u)),
         static_cast<unsigned long long>(low));
}

VILG_TEST(order_keys_order_as_floats) {
  const float values[] = {-kInf, -3e38f, -1, -1e-45f, 0, 1e-45f, 1, 3e38f, kInf};
  for (size_t i = 0; i + 1 < std::size(values); ++i) {
    EXPECT(order_key(values[i]) < order_key(values[i + 1]), "%zu", i);
    EXPECT(order_value(order_key(values[i])) == values[i], "%zu", i);
  }
  EXPECT(order_key(-0.0f) == order_key(0.0f), "signed zeros tie");
  EXPECT(order_key(-kInf) == kMinusInfinityKey && order_key(kInf) == kInfinityKey, "infinities");
}

VILG_TEST(draw_cpu_is_ref_bit_for_bit) {
  for (int64_t vocab : {1, 2, 3, 17, 255, 256, 257, 1031, 8192}) {
    const int64_t rows = vocab > 2000 ? 1 : 3, stride = vocab + 3;
    for (float scale : {0.0f, 1.0f, 12.0f, 1e30f}) {
      auto logits = random_floats(static_cast<size_t>(rows * stride), 5, scale);
      for (size_t i = 0; i < logits.size(); i += 3) {  // ties, signed zeros, -inf
        logits[i] = std::round(logits[i]);
        if (i % 4 == 0) logits[i] = -logits[i];
        if (i % 11 == 1) logits[i] = -kInf;
      }
      for (int64_t r = 0; r < rows; ++r) {
        float* row = logits.data() + r * stride;
        if (*std::max_element(row, row + vocab) == -kInf) row[0] = 1;
      }
      for (float temperature : {0.0f, 0.3f, 1.0f, 1e-30f, 1e30f}) {
        for (int64_t top_k : {int64_t{0}, int64_t{1}, int64_t{5}, vocab / 2, vocab, vocab + 1}) {
          for (float top_p : {1.0f, 0.9f, 0.3f, 1e-6f, 1e-30f}) {
            DrawParams p;
            p.logits = logits.data();
            p.rows = rows;
            p.vocab = vocab;
            p.logits_stride = stride;
            p.temperature = temperature;
            p.top_k = top_k;
            p.top_p = top_p;
            p.seed = static_cast<uint64_t>(vocab) << 33;
            p.position = static_cast<uint64_t>(top_k + 1);
            const DrawResult expected = run(ref_ops(), p);
            EXPECT(run(cpu_ops(), p) == expected,
                   "V %lld scale %g temperature %g top-k %lld top-p %g",
                   static_cast<long long>(vocab), static_cast<double>(scale),
                   static_cast<double>(temperature), static_cast<long long>(top_k),
                   static_cast<double>(top_p));
            for (int64_t r = 0; r < rows; ++r) {
              const float logit =
                  logits[static_cast<size_t>(r * stride + expected.tokens[static_cast<size_t>(r)])];
              EXPECT(logit > -kInf, "drew a token of probability 0");
            }
          }
        }
      }
    }
  }
}

// Chi-square over the tokens that should be seen: its mean is the degrees of freedom f, its
// standard deviation sqrt(2 f); 5 of them is passed by chance once in a million. The seeds are
// fixed, so it passes always or never.
VILG_TEST(draw_frequencies) {
  const std::vector<float> row = {0.5f, -1, 2, 2, 0, -kInf, 1.25f, -0.0f, 1, -3, 2, 1.5f};
  constexpr int kDraws = 20000;
  struct Setting {
    float temperature;
    int64_t top_k;
    float top_p;
  };
  for (const Setting& s :
       {Setting{1, 0, 1}, Setting{0.5f, 0, 1}, Setting{2, 0, 1}, Setting{1, 2, 1}, Setting{1, 6, 1},
        Setting{1, 0, 0.5f}, Setting{1, 0, 0.8f}, Setting{0.7f, 7, 0.9f}}) {
    DrawParams p;
    p.temperature = s.temperature;
    p.top_k = s.top_k;
    p.top_p = s.top_p;
    p.seed = 42;
    const auto counts = frequencies(row, kDraws, p);
    const auto expected = filtered(row, p);
    double chi_square = 0;
    int freedom = -1;
    for (size_t v = 0; v < row.size(); ++v) {
      if (expected[v] == 0) {
        EXPECT(counts[v] == 0, "drew %zu, which the filters exclude", v);
        continue;
      }
      const double want = kDraws * expected[v];
      chi_square += (counts[v] - want) * (counts[v] - want) / want;
      ++freedom;
    }
    EXPECT(chi_square < freedom + 5 * std::sqrt(2.0 * std::max(freedom, 1)),
           "T %g top-k %lld top-p %g: chi-square %g with %d degrees of freedom",
           static_cast<double>(s.temperature), static_cast<long long>(s.top_k),
           static_cast<double>(s.top_p), chi_square, freedom);
  }
  // positions and seeds are independent streams of numbers too
  std::vector<int> counts(8);
  const std::vector<float> uniform(8, 1.0f);
  for (uint64_t i = 0; i < 4000; ++i) {
    DrawParams p;
    p.logits = uniform.data();
    p.rows = 1;
    p.vocab = 8;
    p.seed = i % 2;
    p.position = (i / 2) << 20;
    ++counts[static_cast<size_t>(run(cpu_ops(), p).tokens[0])];
  }
  double chi_square = 0;
  for (int count : counts) chi_square += (count - 500.0) * (count - 500.0) / 500;
  EXPECT(chi_square < 7 + 5 * std::sqrt(14.0), "over positions: %g", chi_square);
}

VILG_TEST(draw_supports_by_brute_force) {
  // every token that the filters leave is seen, and no other: 40 tokens, 6000 draws, nothing
  // below 1 % of the largest
  std::vector<float> row = random_floats(40, 77, 2.0f);
  row[7] = row[23] = row[31] = 1.9f;  // ties near the top
  for (int64_t top_k = 1; top_k <= 12; ++top_k) {
    DrawParams p;
    p.top_k = top_k;
    p.seed = static_cast<uint64_t>(top_k);
    const auto counts = frequencies(row, 6000, p);
    const auto expected = filtered(row, p);
    for (size_t v = 0; v < row.size(); ++v) {
      EXPECT((counts[v] > 0) == (expected[v] > 0), "top-k %lld: token %zu",
             static_cast<long long>(top_k), v);
    }
  }
  for (float top_p : {0.05f, 0.1f, 0.3f, 0.5f, 0.77f, 0.9f}) {
    for (int64_t top_k : {0, 9}) {
      DrawParams p;
      p.top_k = top_k;
      p.top_p = top_p;
      p.seed = 5;
      const auto counts = frequencies(row, 6000, p);
      const auto expected = filtered(row, p);
      for (size_t v = 0; v < row.size(); ++v) {
        EXPECT((counts[v] > 0) == (expected[v] > 0), "top-p %g: token %zu",
               static_cast<double>(top_p), v);
      }
    }
  }
  // exactly at the border: four equal masses, p = 1/2 is reached by two
  const std::vector<float> equal(4, 3.0f);
  DrawParams p;
  p.top_p = 0.5f;
  const auto counts = frequencies(equal, 1000, p);
  EXPECT(counts[0] > 0 && counts[1] > 0 && counts[2] == 0 && counts[3] == 0, "%d %d %d %d",
         counts[0], counts[1], counts[2], counts[3]);
}

VILG_TEST(draw_greedy_takes_the_lowest_index) {
  const std::vector<float> logits = {1,     5,     2,     5,     5,      -kInf, 3,      3,   //
                                     0,     -0.0f, 0,     0,     0,      0,     0,      -1,  //
                                     -kInf, -kInf, -kInf, -kInf, -1e38f, -kInf, -2e38f, -kInf};
  for (const OpTable* ops : {&ref_ops(), &cpu_ops()}) {
    DrawParams p;
    p.logits = logits.data();
    p.rows = 3;
    p.vocab = 8;
    p.temperature = 0;
    EXPECT(run(*ops, p).tokens == std::vector<int32_t>({1, 0, 4}), "%s", ops->name);
    p.temperature = 1;  // top-k 1 is greedy at any temperature
    p.top_k = 1;
    EXPECT(run(*ops, p).tokens == std::vector<int32_t>({1, 0, 4}), "%s", ops->name);
  }
}

VILG_TEST(draw_log_probabilities) {
  for (int64_t vocab : {1, 2, 31, 1000}) {
    const int64_t rows = 50;
    const auto logits = random_floats(static_cast<size_t>(rows * vocab), 3, 8);
    for (float temperature : {0.0f, 1.0f, 50.0f}) {
      DrawParams p;
      p.logits = logits.data();
      p.rows = rows;
      p.vocab = vocab;
      p.temperature = temperature;
      p.top_k = 700;
      const DrawResult result = run(cpu_ops(), p);
      for (int64_t r = 0; r < rows; ++r) {
        const float* row = logits.data() + r * vocab;
        double sum = 0;
        for (int64_t v = 0; v < vocab; ++v) sum += std::exp(double{row[v]});
        const auto i = static_cast<size_t>(r);
        const double expected = row[result.tokens[i]] - std::log(sum);
        // masses within 1e-7 (1 + |y|), which weighs little where |y| is large; one float rounding
        EXPECT(std::abs(result.log_probabilities[i] - expected) < 4e-7 + 6e-8 * std::abs(expected),
               "V %lld: %g, %g", static_cast<long long>(vocab), result.log_probabilities[i],
               expected);
        if (vocab == 1) EXPECT(result.log_probabilities[i] == 0, "log 1");
      }
    }
  }
}

VILG_TEST(draw_depends_on_its_row_alone) {
  const int64_t rows = 12, vocab = 300;
  const auto logits = random_floats(static_cast<size_t>(rows * vocab), 21, 3);
  DrawParams p;
  p.logits = logits.data();
  p.rows = rows;
  p.vocab = vocab;
  p.temperature = 0.8f;
  p.top_k = 100;
  p.top_p = 0.95f;
  p.seed = 99;
  p.position = 1000;
  const DrawResult together = run(cpu_ops(), p);
  for (int64_t r = 0; r < rows; ++r) {
    const auto stream = static_cast<uint32_t>(r);
    DrawParams alone = p;
    alone.logits += r * vocab;
    alone.streams = &stream;
    alone.rows = 1;
    const DrawResult result = run(cpu_ops(), alone);
    const auto i = static_cast<size_t>(r);
    EXPECT(result.tokens[0] == together.tokens[i] &&
               result.log_probabilities[0] == together.log_probabilities[i],
           "row %zu", i);
  }
  for (int threads : {1, 2, 3}) {
    with_threads(threads, [&] { EXPECT(run(cpu_ops(), p) == together, "%d threads", threads); });
  }
  for_each_isa([&](const char* isa) { EXPECT(run(cpu_ops(), p) == together, "%s", isa); });
}

VILG_TEST(draw_refuses) {
  for (const OpTable* ops : {&ref_ops(), &cpu_ops()}) {
    std::vector<float> logits = random_floats(2 * 37, 4);
    DrawParams good;
    good.logits = logits.data();
    good.rows = 2;
    good.vocab = 37;
    const auto refused = [&](auto change) {
      DrawParams p = good;
      change(p);
      EXPECT_ERROR(kInvalidArgument, run(*ops, p));
    };
    run(*ops, good);
    refused([](DrawParams& p) { p.temperature = -1; });
    refused([](DrawParams& p) { p.temperature = std::nanf(""); });
    refused([](DrawParams& p) { p.temperature = kInf; });
    refused([](DrawParams& p) { p.top_k = -1; });
    refused([](DrawParams& p) { p.top_p = 0; });
    refused([](DrawParams& p) { p.top_p = 1.5f; });
    refused([](DrawParams& p) { p.top_p = std::nanf(""); });
    refused([](DrawParams& p) { p.logits_stride = 36; });
    refused([](DrawParams& p) { p.vocab = 0; });
    refused([](DrawParams& p) { p.vocab = (1 << 23) + 1; });
    refused([](DrawParams& p) { p.rows = 0; });
    refused([](DrawParams& p) { p.logits = nullptr; });
    for (float bad : {std::nanf(""), -std::nanf(""), kInf}) {
      const float before = logits[37 + 30];
      logits[37 + 30] = bad;
      for (float temperature : {0.0f, 1.0f}) {
        good.temperature = temperature;
        try {
          run(*ops, good);
          EXPECT(false, "%s drew from %g", ops->name, static_cast<double>(bad));
        } catch (const Error& error) {
          EXPECT(error.code() == ErrorCode::kInvalidArgument &&
                     std::strstr(error.what(), "row 1, index 30"),
                 "%s", error.what());
        }
      }
      logits[37 + 30] = before;
    }
    std::fill(logits.begin(), logits.begin() + 37, -kInf);
    EXPECT_ERROR(kInvalidArgument, run(*ops, good));
  }
}

}  // namespace vilg::test
