#include <algorithm>
#include <cmath>
#include <limits>

#include "cpu/cpu_ops.h"
#include "cpu/isa.h"
#include "cpu/simd/codebook.h"
#include "cpu/simd/codebook_filter.h"
#include "ref/ref_ops.h"
#include "tests/codebook_problem.h"

// codebook_lookup where most codes are ruled out by products of bfloat16 first: the bits must be
// those of the definition for all data, and the bounds that rule codes out must be bounds.
namespace vilg::test {
namespace {

float chain(const float* a, const float* b, int64_t n) {
  float sum = 0;
  for (int64_t k = 0; k < n; ++k) sum = std::fma(a[k], b[k], sum);
  return sum;
}
double length(const float* a, int64_t n) {
  double sum = 0;
  for (int64_t k = 0; k < n; ++k) sum += static_cast<double>(a[k]) * a[k];
  return std::sqrt(sum);
}

}  // namespace

VILG_TEST(codebook_filter_keeps_the_bits) {
  for (const CodebookProblem& problem : codebook_problems()) {
    const FoundCodes expected = find_codes(ref::codebook_lookup, problem, kCodebookRows);
    const auto check = [&](const char* isa, int64_t rows) {
      const FoundCodes actual = find_codes(cpu::codebook_lookup, problem, rows);
      EXPECT(std::equal(actual.indices.begin(), actual.indices.end(), expected.indices.begin()),
             "%s, %s, %d rows: indices", problem.name, isa, (int)rows);
      EXPECT(same_numbers(actual.distances,
                          {expected.distances.begin(), expected.distances.begin() + rows}),
             "%s, %s, %d rows: distances", problem.name, isa, (int)rows);
    };
    for_each_isa([&](const char* isa) {
      check(isa, 20);  // divided over the codes, without the filter
      if (VILG_SIMD(codebook_filter)) check(isa, kCodebookRows);
    });
  }
}

VILG_TEST(codebook_threads_do_not_change_the_filter) {
  const CodebookProblem problem = cluster("cluster of 1e-2", 1e-2f);
  FoundCodes one;
  with_threads(1, [&] { one = find_codes(cpu::codebook_lookup, problem, kCodebookRows); });
  for (int threads : {2, 3}) {
    with_threads(threads, [&] {
      const FoundCodes many = find_codes(cpu::codebook_lookup, problem, kCodebookRows);
      EXPECT(many.indices == one.indices && same_bits(many.distances, one.distances), "%d threads",
             threads);
    });
  }
}

// The bounds themselves, which the results seldom depend on: never above the lowest score of the
// panel, and for ordinary data not further below than twice the worst case of rounding to bfloat16
// (4 x 2^-8 |z| |e|), which would rule nothing out. Only machines with AVX512-BF16 have the filter.
VILG_TEST(codebook_filter_bounds_the_scores) {
  const auto* filter = VILG_SIMD(codebook_filter);
  if (!filter) return;
  const auto* simd = VILG_SIMD(codebook);
  const auto& gemm = VILG_SIMD(gemm)->f32;
  const int64_t width = simd->tile_columns;
  for (CodebookProblem& problem : codebook_problems()) {
    const std::string name = problem.name;
    const bool ordinary = name == "uniform" || name == "near codes" || name == "1e-10";
    std::vector<float> panel(static_cast<size_t>(kCodebookDim * width)),
        norms(static_cast<size_t>(width));
    std::vector<char> vectors(
        static_cast<size_t>(kCodebookRows * filter->vector_bytes(kCodebookDim)));
    std::vector<char> codes(static_cast<size_t>(filter->panel_bytes(kCodebookDim)));
    std::vector<float> bounds(2 * kCodebookRows);
    filter->round_vectors(vectors.data(), bounds.data(), problem.vectors.data(), kCodebookRows,
                          kCodebookDim);
    int64_t known = 0;
    for (int64_t first = 0; first < kCodebookSize; first += width) {
      const int64_t columns = std::min(width, kCodebookSize - first);
      gemm.pack_b(panel.data(), problem.code(first), kVilgFloat32, kCodebookDim, true, columns,
                  kCodebookDim);
      simd->norms(norms.data(), panel.data(), kCodebookDim);
      filter->round_codes(codes.data(), panel.data(), norms.data(), kCodebookDim, columns);
      for (int64_t row = 0; row < kCodebookRows; row += 8) {
        Guarded<float> lowest(1);
        filter->lowest(lowest.data(), vectors.data() + row * filter->vector_bytes(kCodebookDim),
                       bounds.data() + 2 * row, 1, codes.data(), kCodebookDim);
        EXPECT(lowest.intact(), "wrote outside");
        const float bound = lowest.values()[0];
        EXPECT(!std::isnan(bound), "%s: NaN", problem.name);
        float least = std::numeric_limits<float>::infinity();
        double furthest = 0;
        for (int64_t j = first; j < first + columns; ++j) {
          const float* e = problem.code(j);
          const float score = std::fma(-2.0f, chain(problem.vector(row), e, kCodebookDim),
                                       chain(e, e, kCodebookDim));
          if (score < least) least = score;
          furthest = std::max(furthest, length(e, kCodebookDim));
        }
        EXPECT(bound <= least, "%s, row %d, codes from %d: bound %.9g, score %.9g", problem.name,
               (int)row, (int)first, bound, least);
        known += bound > -std::numeric_limits<float>::infinity();
        if (ordinary) {
          const double slack = 2 * 0x1p-6 * length(problem.vector(row), kCodebookDim) * furthest;
          EXPECT(bound >= least - slack, "%s, row %d, codes from %d: bound %.9g, score %.9g",
                 problem.name, (int)row, (int)first, bound, least);
        }
      }
    }
    EXPECT(known > 0 || name == "1e30" || name == "1e38" || name == "overflow on the way" ||
               name == "vanishing beside infinity",
           "%s: nothing is bounded", problem.name);
  }
}

}  // namespace vilg::test
