// The nearest codes must be those of the definition bit for bit, by the exact search as behind the
// filter.
#include "tests/codebook_problem.h"

#include <cmath>
#include <limits>
#include <utility>

#include "cpu/cpu_ops.h"
#include "cuda/codebook_search.h"
#include "ref/ref_ops.h"
#include "tests/cuda/cuda_backend.h"
#include "tests/cuda/emulation.h"

namespace vilg::test {
namespace {

void check(const CodebookProblem& problem, int64_t rows) {
  // codebook_filter_test.cc holds the CPU to the reference, for the same problems; it is faster
  const FoundCodes expected = find_codes(cpu::codebook_lookup, problem, rows);
  const FoundCodes actual = find_codes(cuda_ops().codebook_lookup, problem, rows);
  EXPECT(actual.indices == expected.indices, "%s, %d rows, %d codes of %d: indices", problem.name,
         (int)rows, (int)problem.size(), (int)problem.dim);
  EXPECT(same_numbers(actual.distances, expected.distances),
         "%s, %d rows, %d codes of %d: distances", problem.name, (int)rows, (int)problem.size(),
         (int)problem.dim);
}

CodebookProblem random_problem(int64_t rows, int64_t size, int64_t dim) {
  CodebookProblem problem{"random", random_floats(static_cast<size_t>(rows * dim), 1),
                          random_floats(static_cast<size_t>(size * dim), 2), dim};
  // duplicates far apart, and a vector that is a code
  if (size > 2) {
    std::copy_n(problem.code(0), dim, problem.code(size - 1));
    std::copy_n(problem.code(0), dim, problem.vector(0));
  }
  return problem;
}

}  // namespace

VILG_TEST(cuda_codebook_bits_are_the_same) {
  for (int64_t dim : {1, 3, 31, 32, 33, 64, 256}) {
    for (int64_t size : {1, 2, 16, 127, 128, 129, 300}) {
      check(random_problem(dim == 3 ? 300 : 7, size, dim), dim == 3 ? 300 : 7);
    }
  }
  // enough blocks of vectors that few parts of the codes are left
  check(random_problem(3000, 40, 8), 3000);
}

VILG_TEST(cuda_codebook_filter_keeps_the_bits) {
  for (const CodebookProblem& problem : codebook_problems()) {
    check(problem, 20);  // without the filter
    check(problem, kCodebookRows);
  }
  check(random_problem(128, 1024, 64), 128);
  check(random_problem(129, 1025, 256), 129);
  check(random_problem(200, 1100, 512), 200);
  check(random_problem(200, 1100, 516), 200);  // too long for the filter
}

// Some vectors of a block have more candidates than the filter scores, others have few.
VILG_TEST(cuda_codebook_filter_leaves_alike_codes_to_the_exact_search) {
  CodebookProblem problem = uniform("half alike");
  for (int64_t j = 1000; j < kCodebookSize; ++j) {
    for (int64_t k = 0; k < kCodebookDim; ++k) {
      problem.code(j)[k] = problem.code(999)[k] * (1 + 1e-5f * problem.code(j)[k]);
    }
  }
  for (int64_t i = 0; i < kCodebookRows; i += 2) {
    std::copy_n(problem.code(999), kCodebookDim, problem.vector(i));
  }
  check(problem, kCodebookRows);
}

// What the filter does shows in the time only, or here: it leaves few codes, and for ordinary data
// nothing to the exact search.
VILG_TEST(cuda_codebook_filter_filters) {
  if (!cuda_emulated()) return;
  const auto flags_of = [&](const CodebookProblem& problem) {
    constexpr int64_t kPitch = 68;
    static_assert(kPitch >= kCodebookDim && kPitch % 4 == 0);
    const auto padded = [](const std::vector<float>& values, int64_t rows) {
      std::vector<float> result(static_cast<size_t>(rows * kPitch));
      for (int64_t i = 0; i < rows; ++i) {
        std::copy_n(values.begin() + i * kCodebookDim, kCodebookDim, result.begin() + i * kPitch);
      }
      return result;
    };
    const auto vectors = padded(problem.vectors, kCodebookRows);
    const auto codes = padded(problem.codes, kCodebookSize);
    std::vector<float> norms(kCodebookSize), scores(kCodebookRows);
    for (size_t j = 0; j < norms.size(); ++j) {
      for (size_t k = 0; k < kPitch; ++k) {
        norms[j] = std::fma(codes[j * kPitch + k], codes[j * kPitch + k], norms[j]);
      }
    }
    std::vector<int32_t> indices(kCodebookRows, -1), flags(2);
    const cuda::CodebookSearch search{vectors.data(), codes.data(),  norms.data(),
                                      kCodebookRows,  kCodebookSize, kCodebookDim,
                                      kPitch,         scores.data(), indices.data()};
    EXPECT(cuda::CodebookFilter::pays(search, emulated_queue()), "%s: no filter", problem.name);
    cuda::CodebookFilter::run(search, flags.data(), emulated_queue());
    const FoundCodes expected = find_codes(cpu::codebook_lookup, problem, kCodebookRows);
    for (size_t i = 0; i < kCodebookRows; ++i) {
      EXPECT(flags[i / cuda::kCodebookRows] || indices[i] == expected.indices[i], "%s: row %zu, %d",
             problem.name, i, indices[i]);
    }
    return flags;
  };
  EXPECT(flags_of(uniform("uniform")) == (std::vector<int32_t>{0, 0}), "uniform");
  EXPECT(flags_of(near_codes("near codes", 0.3f)) == (std::vector<int32_t>{0, 0}), "near codes");
  EXPECT(flags_of(cluster("cluster of 1e-7", 1e-7f)) == (std::vector<int32_t>{1, 1}), "cluster");
}

VILG_TEST(cuda_codebook_ties_go_to_the_lowest_index) {
  // coarse values: whole classes of codes tie exactly
  for (int64_t dim : {4, 64}) {
    CodebookProblem problem = random_problem(140, 1500, dim);
    for (auto* values : {&problem.vectors, &problem.codes}) {
      for (float& value : *values) value = std::round(value);
    }
    // and every code comes twice
    std::copy_n(problem.codes.begin(), 700 * dim, problem.codes.begin() + 750 * dim);
    check(problem, 140);
  }
}

VILG_TEST(cuda_codebook_nan_and_no_distances) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  CodebookProblem problem{"NaN", {1, 1, nan, 0, 3, 2.5f}, {nan, 0, 1, 1, 3, 3}, 2};
  check(problem, 3);
  Guarded<int32_t> indices(3);
  cuda_ops().codebook_lookup(
      {indices.data(), nullptr, problem.vectors.data(), problem.codes.data(), 3, 3, 2}, context());
  EXPECT(indices.values() == (std::vector<int32_t>{1, 0, 2}) && indices.intact(),
         "without distances");
}

VILG_TEST(cuda_codebook_whenever_copies_arrive) {
  using cuda::emulation::CopyTime;
  if (!cuda_emulated()) return;
  const CodebookProblem problem = cluster("cluster of 1e-2", 1e-2f);
  for (const auto& [copies, order_seed] :
       {std::pair{CopyTime::kEarliest, 0u}, {CopyTime::kLatest, 5u}, {CopyTime::kEarliest, 6u}}) {
    const Strict strict(copies, order_seed);
    check(problem, 20);
    check(problem, kCodebookRows);
  }
}

VILG_TEST(cuda_argmax) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float inf = std::numeric_limits<float>::infinity();
  for (int64_t n : {1, 2, 31, 33, 255, 256, 257, 1000, 8192}) {
    const int64_t rows = 37;
    auto values = random_floats(static_cast<size_t>(rows * n), 1);
    for (float& value : values) value = std::round(4 * value);  // ties
    const auto row = [&](int64_t i) { return values.data() + i * n; };
    row(0)[0] = nan;
    std::fill_n(row(1), n, -inf);
    row(1)[n - 1] = nan;
    std::fill_n(row(2), n, nan);
    row(2)[n - 1] = -5;
    row(3)[n / 2] = inf;
    std::fill_n(row(4), n, -0.0f);
    row(4)[n - 1] = 0.0f;  // equal
    const auto run = [&](auto op) {
      Guarded<int32_t> indices(static_cast<size_t>(rows));
      op({indices.data(), values.data(), rows, n}, context());
      EXPECT(indices.intact(), "wrote outside");
      return indices.values();
    };
    EXPECT(run(cuda_ops().argmax) == run(ref::argmax), "n %d", (int)n);
  }
}

}  // namespace vilg::test
