#include <algorithm>
#include <cmath>
#include <limits>

#include "cpu/cpu_ops.h"
#include "cpu/isa.h"
#include "cpu/simd/codebook.h"
#include "cpu/simd/codebook_filter.h"
#include "ref/ref_ops.h"
#include "tests/data.h"

// codebook_lookup where most codes are ruled out by products of bfloat16 first: the bits must be
// those of the definition for all data, and the bounds that rule codes out must be bounds.
namespace vilg::test {
namespace {

// Above the limits from which the filter runs; odd, and no multiple of any tile.
constexpr int64_t kRows = 131, kSize = 2117, kDim = 67;

struct Problem {
  const char* name;
  std::vector<float> vectors, codes;
  int64_t dim = kDim;

  int64_t rows() const { return static_cast<int64_t>(vectors.size()) / dim; }
  int64_t size() const { return static_cast<int64_t>(codes.size()) / dim; }
  float* vector(int64_t i) { return vectors.data() + i * dim; }
  float* code(int64_t j) { return codes.data() + j * dim; }
};

Problem uniform(const char* name, float scale = 1.0f) {
  return {name, random_floats(kRows * kDim, 1, scale), random_floats(kSize * kDim, 2, scale)};
}

// All codes are one code but for `spread` of each element: near-ties everywhere.
Problem cluster(const char* name, float spread) {
  Problem problem = uniform(name);
  for (int64_t j = 1; j < kSize; ++j) {
    for (int64_t k = 0; k < kDim; ++k) {
      float& e = problem.code(j)[k];
      e = problem.code(0)[k] * (1 + spread * e);
    }
  }
  return problem;
}

// As after training: each vector lies near some code.
Problem near_codes(const char* name, float noise) {
  Problem problem = uniform(name);
  for (int64_t i = 0; i < kRows; ++i) {
    const float* e = problem.code(i * 997 % kSize);
    for (int64_t k = 0; k < kDim; ++k) problem.vector(i)[k] = e[k] + noise * problem.vector(i)[k];
  }
  return problem;
}

// Every vector is a code, and its neighbours in other panels differ from it in the last bit of one
// element, or not at all.
Problem last_bits(const char* name) {
  Problem problem = uniform(name);
  constexpr int64_t kBase = 200;
  for (int64_t j = kBase; j < kSize; ++j) {
    std::copy_n(problem.code(j % kBase), kDim, problem.code(j));
    float& e = problem.code(j)[j % kDim];
    if (j % 3) e = std::nextafter(e, j % 3 == 1 ? 2.0f : -2.0f);
  }
  for (int64_t i = 0; i < kRows; ++i) {
    std::copy_n(problem.code(i * 997 % kSize), kDim, problem.vector(i));
  }
  return problem;
}

// The bound is reached: vectors and code 300 are 1 + 2^-8 less a bit everywhere, which rounds to
// 1, so the filter's score of that best code is too large by nearly all that the bound allows. Code
// 5 is 1, exact and a little worse; a bound of 0.98 times the size would rule code 300 out.
Problem aligned(const char* name) {
  Problem problem = uniform(name);
  const float best = std::nextafter(1 + 0x1p-8f, 0.0f);
  std::fill(problem.vectors.begin(), problem.vectors.end(), best);
  std::fill_n(problem.code(5), kDim, 1.0f);
  std::fill_n(problem.code(300), kDim, best);
  return problem;
}

// 0 and 2 z are equally far from z, but the bound of 2 z is lower, so the filter goes there first.
Problem unlike_tie(const char* name) {
  Problem problem = uniform(name, 100.0f);
  for (float& z : problem.vectors) z = 3;
  std::fill_n(problem.code(7), kDim, 0.0f);
  std::fill_n(problem.code(7 + 32 * 10), kDim, 6.0f);
  return problem;
}

// The chain stops at infinity, a sum in pairs may meet infinities of both signs.
Problem overflow(const char* name) {
  Problem problem = uniform(name);
  std::fill(problem.vectors.begin(), problem.vectors.end(), 3e38f);
  for (size_t i = 0; i < problem.codes.size(); ++i) problem.codes[i] = i % kDim % 2 ? -3.0f : 3.0f;
  return problem;
}

std::vector<Problem> problems() {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float inf = std::numeric_limits<float>::infinity();
  std::vector<Problem> all = {
      uniform("uniform"),
      uniform("1e-45", 2e-44f),
      uniform("1e-38", 1e-38f),
      uniform("1e-30", 1e-30f),
      uniform("1e-17", 1e-17f),
      uniform("1e-10", 1e-10f),
      uniform("1e15", 1e15f),
      uniform("1e17", 1e17f),
      uniform("1e30", 1e30f),
      uniform("1e38", 3e38f),
      near_codes("near codes", 0.3f),
      near_codes("very near codes", 1e-3f),
      cluster("cluster of 1e-1", 1e-1f),
      cluster("cluster of 1e-2", 1e-2f),
      cluster("cluster of 1e-4", 1e-4f),
      cluster("cluster of 1e-7", 1e-7f),
      cluster("all the same", 0),
      last_bits("last bits"),
      aligned("aligned"),
      unlike_tie("tie of unlike codes"),
      overflow("overflow on the way"),
  };
  // nothing but the roundings of sums between score and bound
  Problem exact = near_codes("exact in bfloat16", 0.1f);
  exact.vectors = to_float(to_bf16(exact.vectors));
  exact.codes = to_float(to_bf16(exact.codes));
  all.push_back(exact);
  for (float scale : {1e-22f, 1e-32f}) {  // squares vanish, scores do not
    Problem tiny = uniform("tiny codes");
    for (float& e : tiny.codes) e *= scale;
    all.push_back(tiny);
  }
  Problem mixed = uniform("mixed magnitudes");
  for (size_t i = 0; i < mixed.vectors.size(); ++i) mixed.vectors[i] *= std::ldexp(1.0f, i % 50);
  for (size_t i = 0; i < mixed.codes.size(); ++i) mixed.codes[i] *= std::ldexp(1.0f, -(i % 37));
  all.push_back(mixed);
  Problem shifted = uniform("far from zero");
  for (auto* values : {&shifted.vectors, &shifted.codes}) {
    for (float& value : *values) value += 100;
  }
  all.push_back(shifted);
  // vdpbf16ps reads these elements as zero, and flushes these products
  Problem tiny = uniform("subnormal elements");
  for (size_t i = 0; i < tiny.codes.size(); ++i) {
    if (i % 3) tiny.codes[i] *= 0x1p-127f;
  }
  all.push_back(tiny);
  tiny = uniform("subnormal products", 1e-18f);
  for (float& value : tiny.codes) value *= 0x1p-10f;
  all.push_back(tiny);
  Problem zeros = uniform("zeros");
  std::fill_n(zeros.vector(3), 20 * kDim, 0.0f);
  std::fill_n(zeros.code(40), 100 * kDim, 0.0f);
  all.push_back(zeros);
  Problem special = uniform("NaN and infinity");
  for (int64_t i = 0; i < kRows; i += 3) special.vector(i)[i % kDim] = i % 2 ? nan : inf;
  for (int64_t j = 0; j < kSize; j += 90) special.code(j)[j % kDim] = j % 4 ? nan : -inf;
  std::fill_n(special.vector(5), kDim, 2e19f);  // overflows with a code of the other sign only
  std::fill_n(special.code(700), kDim, 2e18f);
  std::fill_n(special.code(701), kDim, 3e38f);
  all.push_back(special);
  return all;
}

struct Found {
  std::vector<int32_t> indices;
  std::vector<float> distances;
};

Found find(void (*op)(const CodebookLookupParams&, OpContext&), const Problem& problem,
           int64_t rows) {
  Guarded<int32_t> indices(static_cast<size_t>(rows));
  Guarded<float> distances(static_cast<size_t>(rows));
  op({indices.data(), distances.data(), problem.vectors.data(), problem.codes.data(), rows,
      problem.size(), problem.dim},
     context());
  EXPECT(indices.intact() && distances.intact(), "wrote outside");
  return {indices.values(), distances.values()};
}

// NaN of any kind for NaN
bool same_numbers(std::vector<float> a, std::vector<float> b) {
  for (auto* values : {&a, &b}) {
    for (float& value : *values) {
      if (std::isnan(value)) value = std::numeric_limits<float>::quiet_NaN();
    }
  }
  return same_bits(a, b);
}

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
  for (const Problem& problem : problems()) {
    const Found expected = find(ref::codebook_lookup, problem, kRows);
    const auto check = [&](const char* isa, int64_t rows) {
      const Found actual = find(cpu::codebook_lookup, problem, rows);
      EXPECT(std::equal(actual.indices.begin(), actual.indices.end(), expected.indices.begin()),
             "%s, %s, %d rows: indices", problem.name, isa, (int)rows);
      EXPECT(same_numbers(actual.distances,
                          {expected.distances.begin(), expected.distances.begin() + rows}),
             "%s, %s, %d rows: distances", problem.name, isa, (int)rows);
    };
    for_each_isa([&](const char* isa) {
      check(isa, 20);  // divided over the codes, without the filter
      if (VILG_SIMD(codebook_filter)) check(isa, kRows);
    });
  }
}

VILG_TEST(codebook_threads_do_not_change_the_filter) {
  const Problem problem = cluster("cluster of 1e-2", 1e-2f);
  Found one;
  with_threads(1, [&] { one = find(cpu::codebook_lookup, problem, kRows); });
  for (int threads : {2, 3}) {
    with_threads(threads, [&] {
      const Found many = find(cpu::codebook_lookup, problem, kRows);
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
  for (Problem& problem : problems()) {
    const std::string name = problem.name;
    const bool ordinary = name == "uniform" || name == "near codes" || name == "1e-10";
    std::vector<float> panel(static_cast<size_t>(kDim * width)), norms(static_cast<size_t>(width));
    std::vector<char> vectors(static_cast<size_t>(kRows * filter->vector_bytes(kDim)));
    std::vector<char> codes(static_cast<size_t>(filter->panel_bytes(kDim)));
    std::vector<float> bounds(2 * kRows);
    filter->round_vectors(vectors.data(), bounds.data(), problem.vectors.data(), kRows, kDim);
    int64_t known = 0;
    for (int64_t first = 0; first < kSize; first += width) {
      const int64_t columns = std::min(width, kSize - first);
      gemm.pack_b(panel.data(), problem.code(first), kVilgFloat32, kDim, true, columns, kDim);
      simd->norms(norms.data(), panel.data(), kDim);
      filter->round_codes(codes.data(), panel.data(), norms.data(), kDim, columns);
      for (int64_t row = 0; row < kRows; row += 8) {
        Guarded<float> lowest(1);
        filter->lowest(lowest.data(), vectors.data() + row * filter->vector_bytes(kDim),
                       bounds.data() + 2 * row, 1, codes.data(), kDim);
        EXPECT(lowest.intact(), "wrote outside");
        const float bound = lowest.values()[0];
        EXPECT(!std::isnan(bound), "%s: NaN", problem.name);
        float least = std::numeric_limits<float>::infinity();
        double furthest = 0;
        for (int64_t j = first; j < first + columns; ++j) {
          const float* e = problem.code(j);
          const float score =
              std::fma(-2.0f, chain(problem.vector(row), e, kDim), chain(e, e, kDim));
          if (score < least) least = score;
          furthest = std::max(furthest, length(e, kDim));
        }
        EXPECT(bound <= least, "%s, row %d, codes from %d: bound %.9g, score %.9g", problem.name,
               (int)row, (int)first, bound, least);
        known += bound > -std::numeric_limits<float>::infinity();
        if (ordinary) {
          const double slack = 2 * 0x1p-6 * length(problem.vector(row), kDim) * furthest;
          EXPECT(bound >= least - slack, "%s, row %d, codes from %d: bound %.9g, score %.9g",
                 problem.name, (int)row, (int)first, bound, least);
        }
      }
    }
    EXPECT(known > 0 || name == "1e30" || name == "1e38" || name == "overflow on the way",
           "%s: nothing is bounded", problem.name);
  }
}

}  // namespace vilg::test
