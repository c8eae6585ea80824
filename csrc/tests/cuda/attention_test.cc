#include "cuda/emulation/block.h"
#include "tests/attention_problem.h"
#include "tests/cuda/cuda_backend.h"

namespace vilg::test {
namespace {

constexpr DType kF = DType::kFloat32, kH = DType::kBFloat16;

struct Precision {
  DType storage, compute;
};
constexpr Precision kPrecisions[] = {{kF, kF}, {kH, kF}, {kF, kH}, {kH, kH}};

void expect_close(const AttentionProblem& problem, const AttentionResult& expected,
                  const Precision& precision) {
  const Errors e =
      errors(problem.run(cuda_ops(), true, precision.storage, precision.compute), expected);
  // In float32 as attention_cpu_close_to_ref: scores reach 10 in size and so carry errors of up to
  // 1e-6, which is then the relative error of every weight. exp2 adds two units in the last place.
  // Storing bfloat16 rounds each element by at most 2^-9 of it, which is all for out and dv; dq and
  // dk also inherit the rounding of the stored `out` through delta, at most 2^-9 of sum |dout out|
  // for each of the two factors of their sums.
  // Inputs are bfloat16 where the products are, so what products in bfloat16 add is the rounding of
  // weights (for out and dv) and of the scores' gradients (for dq and dk), at most 2^-9 of each
  // term; and an error in out that delta hands on to dq and dk as above.
  const bool stored = precision.storage == kH, rounded = precision.compute == kH;
  const double once = 0x1p-9 * (stored + rounded);
  const double gradient = stored || rounded ? 3 * 0x1p-9 + 0x1p-9 * rounded : 0;
  const std::string name = format("%s, stored %s, computed %s", problem.shape().name().c_str(),
                                  dtype_name(precision.storage), dtype_name(precision.compute));
  EXPECT(e.out <= 2e-6 + once, "%s: out %.3g", name.c_str(), e.out);
  EXPECT(e.lse <= 4e-6, "%s: lse %.3g", name.c_str(), e.lse);
  EXPECT(e.dq <= 3e-6 + gradient, "%s: dq %.3g", name.c_str(), e.dq);
  EXPECT(e.dk <= 3e-6 + gradient, "%s: dk %.3g", name.c_str(), e.dk);
  EXPECT(e.dv <= 3e-6 + once, "%s: dv %.3g", name.c_str(), e.dv);
}

AttentionProblem problem_of(AttentionCase c, DType inputs) {
  c.dtype = inputs;
  return AttentionProblem(c);
}

bool same(const AttentionResult& a, const AttentionResult& b) {
  return a.out == b.out && a.lse == b.lse && a.dq == b.dq && a.dk == b.dk && a.dv == b.dv;
}

// Inputs of full precision for products in float32, rounded ones for all others.
VILG_TEST(cuda_attention_close_to_ref) {
  for (const AttentionCase& c : varied_cases()) {
    for (DType inputs : {kF, kH}) {
      const AttentionProblem problem = problem_of(c, inputs);
      const AttentionResult expected = problem.run(ref_ops(), true, kF);
      for (const Precision& precision : kPrecisions) {
        const bool exact = precision.storage == kF && precision.compute == kF;
        if (exact == (inputs == kF)) expect_close(problem, expected, precision);
      }
    }
  }
}

// Lines wider than a tile and lines that do not fill one; every width of a kernel.
VILG_TEST(cuda_attention_grids_and_head_sizes) {
  const struct {
    int64_t grid, head_size;
  } sizes[] = {{7, 128}, {33, 40}, {20, 96}, {24, 64}, {11, 136}};
  size_t i = 0;
  for (Pattern pattern : kPatterns) {
    for (Direction direction : kDirections) {
      for (int repeat = 0; repeat < 2; ++repeat, ++i) {
        AttentionCase c;
        c.pattern = pattern, c.direction = direction;
        c.grid = sizes[i % 5].grid, c.head_size = sizes[i % 5].head_size;
        c.text = i % 3 ? 50 : 130, c.kernel = i % 2 ? 5 : 15;
        c.batch = c.grid < 10 ? 2 : 1;
        c.padded = i % 3 == 0;
        c.layout = i % 2 ? Layout::kByHead : Layout::kFused;
        const AttentionProblem problem = problem_of(c, kH);
        expect_close(problem, problem.run(ref_ops(), true, kF), {i / 2 % 2 ? kH : kF, kH});
      }
    }
  }
}

// What the model has: the shared keys' gradients come in parts here.
VILG_TEST(cuda_attention_full_size) {
  for (Pattern pattern : kPatterns) {
    for (Direction direction : kDirections) {
      AttentionCase c;
      c.pattern = pattern, c.direction = direction;
      c.text = 127, c.grid = 32, c.kernel = 11, c.head_size = 64;
      c.padded = pattern == Pattern::kConv;
      const AttentionProblem problem = problem_of(c, kH);
      expect_close(problem, problem.run(ref_ops(), true, kF), {kH, kH});
    }
  }
}

// Asynchronous copies as late and as early as they may come, threads in an order of chance: a
// missing wait or barrier shows in the bits.
VILG_TEST(cuda_attention_same_bits_in_any_order) {
  if (!cuda_emulated()) return;
  for (Pattern pattern : {Pattern::kRow, Pattern::kConv, Pattern::kFull}) {
    for (const Precision& precision : kPrecisions) {
      AttentionCase c;
      c.pattern = pattern, c.direction = Direction::kTextToImage;
      if (pattern == Pattern::kConv) c.direction = Direction::kImageToText;
      // more chunks than lie in shared memory at a time
      c.text = 150, c.grid = 18, c.kernel = 7, c.head_size = 32, c.padded = true;
      const AttentionProblem problem = problem_of(c, kH);
      const auto run = [&](const cuda::emulation::Strictness& strictness) {
        cuda::emulation::set_strictness(strictness);
        const AttentionResult result =
            problem.run(cuda_ops(), true, precision.storage, precision.compute);
        cuda::emulation::set_strictness({});
        return result;
      };
      using enum cuda::emulation::CopyTime;
      const AttentionResult latest = run({kLatest, 0});
      EXPECT(same(run({kEarliest, 0}), latest), "%s: early copies", c.name().c_str());
      EXPECT(same(run({kLatest, 5}), latest), "%s: another order", c.name().c_str());
    }
  }
}

VILG_TEST(cuda_attention_same_bits_every_time) {
  AttentionCase c;
  c.text = 127, c.grid = 16, c.head_size = 64, c.batch = 2, c.heads = 2;
  const AttentionProblem problem = problem_of(c, kH);
  for (const Precision& precision : kPrecisions) {
    const auto run = [&] {
      return problem.run(cuda_ops(), true, precision.storage, precision.compute);
    };
    EXPECT(same(run(), run()), "%s", dtype_name(precision.compute));
  }
}

VILG_TEST(cuda_attention_scales) {
  for (float factor : {-1.0f, 0.0f, 1e-20f}) {
    for (const Precision& precision : kPrecisions) {
      AttentionCase c;
      c.pattern = Pattern::kConv, c.grid = 6, c.scale_factor = factor, c.padded = true;
      const AttentionProblem problem = problem_of(c, kH);
      expect_close(problem, problem.run(ref_ops(), true, kF), precision);
    }
  }
}

VILG_TEST(cuda_attention_large_scores) {
  // scores of some hundreds: the weights of a row become one and many zeros
  AttentionCase c;
  c.pattern = Pattern::kFull, c.grid = 20;
  AttentionProblem problem = problem_of(c, kH);
  for (float& x : problem.qkv()) x *= 8.0f;
  const AttentionResult expected = problem.run(ref_ops(), true, kF);
  for (DType compute : {kF, kH}) {
    const AttentionResult actual = problem.run(cuda_ops(), true, kF, compute);
    // scores reach about 250, so float32 keeps 1.5e-5 of them: that is the relative error of a
    // weight; for rounded products see expect_close
    const double rounding = compute == kH ? 0x1p-9 : 0;
    const double bound = 16 * 250 * 0x1p-24 + rounding;
    EXPECT(relative_error(actual.out, expected.out) <= bound, "out %g",
           relative_error(actual.out, expected.out));
    EXPECT(relative_error(actual.dv, expected.dv) <= bound, "dv %g",
           relative_error(actual.dv, expected.dv));
    EXPECT(relative_error(actual.dq, expected.dq) <= 2 * bound + 2 * rounding, "dq %g",
           relative_error(actual.dq, expected.dq));
  }
}

VILG_TEST(cuda_attention_nan_is_not_hidden) {
  AttentionCase c;
  c.pattern = Pattern::kFull, c.direction = Direction::kImageToText;
  AttentionProblem problem(c);
  problem.qkv()[problem.index(0, 0, 3, 0, 2)] = NAN;  // one query
  for (DType compute : {kF, kH}) {
    const AttentionResult result = problem.run(cuda_ops(), false, kF, compute);
    for (int64_t n = 0; n < problem.length(); ++n) {
      const float value = result.out[static_cast<size_t>(n * c.head_size)];
      EXPECT(std::isnan(value) == (n == 3), "token %d gives %g", static_cast<int>(n),
             static_cast<double>(value));
      EXPECT(std::isnan(result.lse[static_cast<size_t>(n)]) == (n == 3), "lse of token %d",
             static_cast<int>(n));
    }
  }
}

VILG_TEST(cuda_attention_without_lse) {
  AttentionCase c;
  c.padded = true;
  const AttentionProblem problem = problem_of(c, kH);
  for (DType compute : {kF, kH}) {
    EXPECT(problem.run(cuda_ops(), false, kF, compute).out ==
               problem.run(cuda_ops(), false, kF, compute, false).out,
           "the output depends on whether lse is asked for");
  }
}

VILG_TEST(cuda_attention_pad_does_not_matter) {
  AttentionCase c;
  c.padded = true;
  for (DType compute : {kF, kH}) {
    AttentionProblem problem = problem_of(c, kH);
    const AttentionResult before = problem.run(cuda_ops(), true, kF, compute);
    const int64_t pad = c.text - 1;
    for (int part = 0; part < 3; ++part) {
      for (int64_t d = 0; d < c.head_size; ++d) {
        problem.qkv()[problem.index(part, 0, pad, 0, d)] = 9;
      }
    }
    const AttentionResult after = problem.run(cuda_ops(), true, kF, compute);
    for (int64_t n = 0; n < problem.length(); ++n) {
      for (int64_t d = 0; d < c.head_size; ++d) {
        const size_t i = static_cast<size_t>(n * c.head_size + d);
        if (n == pad) {
          // it sees itself: the weight is 1, as far as float32 holds a score of 324
          const double bound = 324 * 0x1p-22;
          EXPECT(std::abs(after.out[i] / 9 - 1) <= bound &&
                     std::abs(after.dv[i] / problem.dout()[i] - 1) <= bound,
                 "PAD element %d", static_cast<int>(d));
        } else {
          EXPECT(after.out[i] == before.out[i] && after.dq[i] == before.dq[i] &&
                     after.dk[i] == before.dk[i] && after.dv[i] == before.dv[i],
                 "token %d changed with a PAD token", static_cast<int>(n));
        }
      }
    }
  }
}

VILG_TEST(cuda_attention_refuses_a_wrapped_window) {
  AttentionCase c;
  c.pattern = Pattern::kConv;
  c.wrapped_window = true;
  const AttentionProblem problem = problem_of(c, kF);
  EXPECT_ERROR(kUnsupported, problem.run(cuda_ops(), false, kF));
}

}  // namespace
}  // namespace vilg::test
