#include <algorithm>
#include <array>

#include "tests/attention_problem.h"

namespace vilg::test {
namespace {

// The masked softmax as the textbook has it, over a dense mask, in the order of the formula.
void naive_forward(AttentionProblem& problem, std::vector<float>& out, std::vector<float>& lse) {
  const AttentionCase& c = problem.shape();
  const StreamSizes sizes = c.sizes();
  const int64_t N = problem.length();
  const std::vector<float>& x = problem.qkv();
  for (int64_t b = 0; b < c.batch; ++b) {
    const uint8_t* valid = c.padded ? problem.valid().data() + b * c.text : nullptr;
    for (int64_t i = 0; i < N; ++i) {
      for (int64_t h = 0; h < c.heads; ++h) {
        double total = 0;
        std::vector<double> weighted(static_cast<size_t>(c.head_size), 0.0);
        for (int64_t j = 0; j < N; ++j) {
          if (!attends(c.pattern, c.direction, i, j, sizes, valid)) continue;
          double score = 0;
          for (int64_t d = 0; d < c.head_size; ++d) {
            score += static_cast<double>(x[problem.index(0, b, i, h, d)]) *
                     x[problem.index(1, b, j, h, d)];
          }
          const double weight = std::exp(problem.scale() * score);
          total += weight;
          for (int64_t d = 0; d < c.head_size; ++d) {
            weighted[static_cast<size_t>(d)] += weight * x[problem.index(2, b, j, h, d)];
          }
        }
        for (double value : weighted) out.push_back(static_cast<float>(value / total));
        lse[static_cast<size_t>((b * c.heads + h) * N + i)] = static_cast<float>(std::log(total));
      }
    }
  }
}

std::vector<AttentionCase> small_cases() {
  std::vector<AttentionCase> cases;
  for (Pattern pattern : kPatterns) {
    for (Direction direction : kDirections) {
      for (const auto& [text, grid, kernel] :
           {std::array<int64_t, 3>{1, 1, 1}, {2, 2, 5}, {5, 3, 3}, {4, 4, 3}}) {
        AttentionCase c;
        c.pattern = pattern;
        c.direction = direction;
        c.text = text;
        c.grid = grid;
        c.kernel = kernel;
        c.head_size = 5;
        c.batch = 3;
        c.heads = 2;
        c.padded = text > 2;
        cases.push_back(c);
        c.causal_text = c.wrapped_window = true;
        cases.push_back(c);
      }
    }
  }
  return cases;
}

void expect_close(const AttentionCase& c, const char* isa) {
  const AttentionProblem problem(c);
  const AttentionResult expected = problem.run(ref_ops(), true, DType::kFloat32);
  const bool half = c.dtype == DType::kBFloat16;
  const Errors e = errors(problem.run(cpu_ops(), true, c.dtype), expected);
  // float32: scores reach 10 in size and so carry errors of up to 1e-6, which is then the relative
  // error of every weight; the sums over keys add less, as errors of different sign cancel.
  // Largest seen: 4e-7 for out, 8e-7 for the gradients, 1e-6 for lse.
  // bfloat16: storing rounds each element by at most 2^-9 of it, which is all for out and dv; dq
  // and dk also inherit the rounding of the stored `out` through delta, at most 2^-9 of
  // sum |dout out| for each of the two factors of their sums
  const double store = half ? 0x1p-9 : 0, inherited = half ? 3 * 0x1p-9 : 0;
  EXPECT(e.out <= 2e-6 + store, "%s %s: out %.3g", isa, c.name().c_str(), e.out);
  EXPECT(e.lse <= 4e-6, "%s %s: lse %.3g", isa, c.name().c_str(), e.lse);
  EXPECT(e.dq <= 3e-6 + inherited, "%s %s: dq %.3g", isa, c.name().c_str(), e.dq);
  EXPECT(e.dk <= 3e-6 + inherited, "%s %s: dk %.3g", isa, c.name().c_str(), e.dk);
  EXPECT(e.dv <= 3e-6 + store, "%s %s: dv %.3g", isa, c.name().c_str(), e.dv);
}

}  // namespace

VILG_TEST(attention_ref_forward_is_masked_softmax) {
  for (const AttentionCase& c : small_cases()) {
    AttentionProblem problem(c);
    const AttentionResult result = problem.run(ref_ops(), false, DType::kFloat32);
    std::vector<float> out, lse(result.lse.size());
    naive_forward(problem, out, lse);
    // both in double, rounded once: half a unit in the last place each
    EXPECT(max_abs_error(result.out, out) <= 2.4e-7, "%s: out", c.name().c_str());
    EXPECT(max_abs_error(result.lse, lse) <= 1e-6, "%s: lse", c.name().c_str());
  }
}

VILG_TEST(attention_ref_backward_is_the_derivative) {
  for (AttentionCase c : small_cases()) {
    if (c.grid > 3) continue;
    c.batch = 2;
    AttentionProblem problem(c);
    const AttentionResult result = problem.run(ref_ops(), true, DType::kFloat32);
    const auto loss = [&] {
      const std::vector<float> out = problem.run(ref_ops(), false, DType::kFloat32).out;
      double sum = 0;
      for (size_t i = 0; i < out.size(); ++i)
        sum += static_cast<double>(out[i]) * problem.dout()[i];
      return sum;
    };
    const std::vector<float>* gradients[] = {&result.dq, &result.dk, &result.dv};
    for (int part = 0; part < 3; ++part) {
      // a few coordinates spread over tokens, heads and samples
      for (size_t flat = 0; flat < gradients[part]->size(); flat += 7) {
        const int64_t d = static_cast<int64_t>(flat) % c.head_size;
        const int64_t h = static_cast<int64_t>(flat) / c.head_size % c.heads;
        const int64_t n = static_cast<int64_t>(flat) / (c.head_size * c.heads) % problem.length();
        const int64_t b = static_cast<int64_t>(flat) / (c.head_size * c.heads * problem.length());
        const double numeric =
            finite_difference(problem.qkv(), problem.index(part, b, n, h, d), 1e-2, loss);
        // out is rounded to float32 (6e-8 each) and divided by the step; third derivatives give
        // step^2 times order 1
        EXPECT(std::abs(numeric - (*gradients[part])[flat]) <= 5e-4,
               "%s: part %d at %zu: %g, not %g", c.name().c_str(), part, flat,
               static_cast<double>((*gradients[part])[flat]), numeric);
      }
    }
  }
}

VILG_TEST(attention_cpu_close_to_ref) {
  const std::vector<AttentionCase> cases = varied_cases();
  for_each_isa([&](const char* isa) {
    for (const AttentionCase& c : cases) expect_close(c, isa);
  });
}

VILG_TEST(attention_cpu_wrapped_window) {
  for_each_isa([&](const char* isa) {
    for (Direction direction : kDirections) {
      for (const auto& [grid, kernel] : {std::array<int64_t, 2>{5, 3}, {8, 5}, {8, 7}, {16, 11}}) {
        AttentionCase c;
        c.pattern = Pattern::kConv;
        c.direction = direction;
        c.grid = grid;
        c.kernel = kernel;
        c.wrapped_window = true;
        expect_close(c, isa);
      }
    }
  });
}

VILG_TEST(attention_cpu_full_size) {
  const struct {
    Pattern pattern;
    Direction direction;
  } cases[] = {{Pattern::kRow, Direction::kTextToImage},
               {Pattern::kConv, Direction::kTextToImage},
               {Pattern::kColumn, Direction::kImageToText},
               {Pattern::kFull, Direction::kTextToImage}};
  for (const auto& [pattern, direction] : cases) {
    AttentionCase c;
    c.pattern = pattern;
    c.direction = direction;
    c.text = 127;
    c.grid = 32;
    c.kernel = 11;
    c.head_size = 16;
    expect_close(c, "best");
  }
}

VILG_TEST(attention_cpu_large_scores) {
  // scores of some hundreds: the weights of a row become one and many zeros
  AttentionCase c;
  c.pattern = Pattern::kFull;
  c.grid = 20;
  AttentionProblem problem(c);
  for (float& x : problem.qkv()) x *= 8.0f;
  const AttentionResult expected = problem.run(ref_ops(), true, DType::kFloat32);
  for_each_isa([&](const char* isa) {
    const AttentionResult actual = problem.run(cpu_ops(), true, DType::kFloat32);
    // scores reach about 250, so float32 keeps 1.5e-5 of them: that is the relative error of a
    // weight
    const double bound = 16 * 250 * 0x1p-24;
    EXPECT(relative_error(actual.out, expected.out) <= bound, "%s: out %g", isa,
           relative_error(actual.out, expected.out));
    EXPECT(relative_error(actual.dv, expected.dv) <= bound, "%s: dv %g", isa,
           relative_error(actual.dv, expected.dv));
    EXPECT(relative_error(actual.dq, expected.dq) <= 2 * bound, "%s: dq %g", isa,
           relative_error(actual.dq, expected.dq));
  });
}

VILG_TEST(attention_cpu_nan_is_not_hidden) {
  AttentionCase c;
  c.pattern = Pattern::kFull;
  c.direction = Direction::kImageToText;
  AttentionProblem problem(c);
  problem.qkv()[problem.index(0, 0, 3, 0, 2)] = NAN;  // one query
  for_each_isa([&](const char* isa) {
    const AttentionResult result = problem.run(cpu_ops(), false, DType::kFloat32);
    for (int64_t n = 0; n < problem.length(); ++n) {
      const float value = result.out[static_cast<size_t>(n * c.head_size)];
      EXPECT(std::isnan(value) == (n == 3), "%s: token %d gives %g", isa, static_cast<int>(n),
             static_cast<double>(value));
      EXPECT(std::isnan(result.lse[static_cast<size_t>(n)]) == (n == 3), "%s: lse of token %d", isa,
             static_cast<int>(n));
    }
  });
}

VILG_TEST(attention_cpu_without_lse) {
  AttentionCase c;
  c.padded = true;
  const AttentionProblem problem(c);
  EXPECT(problem.run(cpu_ops(), false, DType::kFloat32).out ==
             problem.run(cpu_ops(), false, DType::kFloat32, false).out,
         "the output depends on whether lse is asked for");
}

VILG_TEST(attention_cpu_same_bits_for_any_threads) {
  for (Pattern pattern : kPatterns) {
    AttentionCase c;
    c.pattern = pattern;
    c.grid = 9;
    c.text = 19;
    c.batch = 3;
    c.heads = 3;
    c.padded = true;
    const AttentionProblem problem(c);
    AttentionResult one;
    for (int threads : {1, 2, 3}) {
      with_threads(threads, [&] {
        const AttentionResult result = problem.run(cpu_ops(), true, DType::kFloat32);
        if (threads == 1) one = result;
        EXPECT(result.out == one.out && result.lse == one.lse && result.dq == one.dq &&
                   result.dk == one.dk && result.dv == one.dv,
               "%s: %d threads", c.name().c_str(), threads);
      });
    }
  }
}

VILG_TEST(attention_cpu_pad_does_not_matter) {
  // what lies in PAD tokens must not reach the others, and a shorter batch gives the same bits
  AttentionCase c;
  c.padded = true;
  AttentionProblem problem(c);
  const AttentionResult before = problem.run(cpu_ops(), true, DType::kFloat32);
  const int64_t pad = c.text - 1;
  for (int part = 0; part < 3; ++part) {
    for (int64_t d = 0; d < c.head_size; ++d) problem.qkv()[problem.index(part, 0, pad, 0, d)] = 99;
  }
  const AttentionResult after = problem.run(cpu_ops(), true, DType::kFloat32);
  for (int64_t n = 0; n < problem.length(); ++n) {
    for (int64_t d = 0; d < c.head_size; ++d) {
      const size_t i = static_cast<size_t>(n * c.head_size + d);
      if (n == pad) {
        EXPECT(after.out[i] == 99 && after.dq[i] == 0 && after.dk[i] == 0 &&
                   after.dv[i] == problem.dout()[i],
               "PAD element %d", static_cast<int>(d));
      } else {
        EXPECT(after.out[i] == before.out[i] && after.dq[i] == before.dq[i] &&
                   after.dk[i] == before.dk[i] && after.dv[i] == before.dv[i],
               "token %d changed with a PAD token", static_cast<int>(n));
      }
    }
  }
}

VILG_TEST(attention_refuses_bad_parameters) {
  std::vector<float> memory(4096);
  AttentionForwardParams good;
  good.out = good.lse = memory.data();
  good.q = good.k = good.v = memory.data();
  good.batch = good.heads = 1;
  good.head_size = 8;
  good.out_strides = good.qkv_strides = {64, 8, 8};
  good.sizes = {3, 2, 3};
  for (const OpTable* ops : {&ref_ops(), &cpu_ops()}) {
    const auto refused = [&](const auto& change, ErrorCode code) {
      AttentionForwardParams p = good;
      change(p);
      try {
        ops->attention_forward(p, context());
      } catch (const Error& error) {
        return error.code() == code;
      }
      return false;
    };
    using P = AttentionForwardParams;
    EXPECT(refused([](P& p) { p.q = nullptr; }, ErrorCode::kInvalidArgument), "null q");
    EXPECT(refused([](P& p) { p.out = nullptr; }, ErrorCode::kInvalidArgument), "null out");
    EXPECT(refused([](P& p) { p.dtype = DType::kInt32; }, ErrorCode::kUnsupported), "int32");
    EXPECT(refused([](P& p) { p.compute = DType::kUInt8; }, ErrorCode::kUnsupported), "compute");
    EXPECT(refused([](P& p) { p.batch = 0; }, ErrorCode::kShapeMismatch), "no batch");
    EXPECT(refused([](P& p) { p.heads = -1; }, ErrorCode::kShapeMismatch), "negative heads");
    EXPECT(refused([](P& p) { p.head_size = 0; }, ErrorCode::kShapeMismatch), "no head size");
    EXPECT(refused([](P& p) { p.sizes.grid = 0; }, ErrorCode::kShapeMismatch), "no grid");
    EXPECT(refused([](P& p) { p.sizes.kernel = 4; }, ErrorCode::kShapeMismatch), "even kernel");
    EXPECT(refused([](P& p) { p.qkv_strides.token = 7; }, ErrorCode::kShapeMismatch), "overlap");
    EXPECT(refused([](P& p) { p.pattern = static_cast<Pattern>(9); }, ErrorCode::kInvalidArgument),
           "pattern 9");
    AttentionBackwardParams backward;
    backward.out = memory.data();
    backward.q = backward.k = backward.v = memory.data();
    backward.batch = backward.heads = 1;
    backward.head_size = 8;
    backward.out_strides = backward.qkv_strides = {64, 8, 8};
    backward.sizes = {3, 2, 3};
    EXPECT_ERROR(kInvalidArgument, ops->attention_backward(backward, context()));
  }
}

VILG_TEST(attention_cpu_stops) {
  StopFlag stop;
  stop.raise();
  std::vector<float> memory(4096);
  AttentionForwardParams p;
  p.out = memory.data();
  p.q = p.k = p.v = memory.data();
  p.batch = p.heads = 1;
  p.head_size = 8;
  p.out_strides = p.qkv_strides = {64, 8, 8};
  p.sizes = {3, 2, 3};
  OpContext stopped = context();
  stopped.stop = &stop;
  bool thrown = false;
  try {
    cpu_ops().attention_forward(p, stopped);
  } catch (const Stopped&) {
    thrown = true;
  }
  EXPECT(thrown, "went on after the stop");
}

}  // namespace vilg::test
