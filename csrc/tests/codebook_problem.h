// Vectors and codes that are hard to tell apart exactly, for the tests of the op's backends.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "kernels/codebook.h"
#include "tests/data.h"

namespace vilg::test {

// Above the limits from which filters run; odd, and no multiple of any tile.
constexpr int64_t kCodebookRows = 131, kCodebookSize = 2117, kCodebookDim = 67;

struct CodebookProblem {
  const char* name;
  std::vector<float> vectors, codes;
  int64_t dim = kCodebookDim;

  int64_t rows() const { return static_cast<int64_t>(vectors.size()) / dim; }
  int64_t size() const { return static_cast<int64_t>(codes.size()) / dim; }
  float* vector(int64_t i) { return vectors.data() + i * dim; }
  float* code(int64_t j) { return codes.data() + j * dim; }
};

inline CodebookProblem uniform(const char* name, float scale = 1.0f) {
  return {name, random_floats(kCodebookRows * kCodebookDim, 1, scale),
          random_floats(kCodebookSize * kCodebookDim, 2, scale)};
}

// All codes are one code but for `spread` of each element: near-ties everywhere.
inline CodebookProblem cluster(const char* name, float spread) {
  CodebookProblem problem = uniform(name);
  for (int64_t j = 1; j < kCodebookSize; ++j) {
    for (int64_t k = 0; k < kCodebookDim; ++k) {
      float& e = problem.code(j)[k];
      e = problem.code(0)[k] * (1 + spread * e);
    }
  }
  return problem;
}

// As after training: each vector lies near some code.
inline CodebookProblem near_codes(const char* name, float noise) {
  CodebookProblem problem = uniform(name);
  for (int64_t i = 0; i < kCodebookRows; ++i) {
    const float* e = problem.code(i * 997 % kCodebookSize);
    for (int64_t k = 0; k < kCodebookDim; ++k)
      problem.vector(i)[k] = e[k] + noise * problem.vector(i)[k];
  }
  return problem;
}

// Every vector is a code, and its neighbours in other panels differ from it in the last bit of one
// element, or not at all.
inline CodebookProblem last_bits(const char* name) {
  CodebookProblem problem = uniform(name);
  constexpr int64_t kBase = 200;
  for (int64_t j = kBase; j < kCodebookSize; ++j) {
    std::copy_n(problem.code(j % kBase), kCodebookDim, problem.code(j));
    float& e = problem.code(j)[j % kCodebookDim];
    if (j % 3) e = std::nextafter(e, j % 3 == 1 ? 2.0f : -2.0f);
  }
  for (int64_t i = 0; i < kCodebookRows; ++i) {
    std::copy_n(problem.code(i * 997 % kCodebookSize), kCodebookDim, problem.vector(i));
  }
  return problem;
}

// The bound is reached: vectors and code 300 are 1 + 2^-8 less a bit everywhere, which rounds to
// 1, so the filter's score of that best code is too large by nearly all that the bound allows. Code
// 5 is 1, exact and a little worse; a bound of 0.98 times the size would rule code 300 out.
inline CodebookProblem aligned(const char* name) {
  CodebookProblem problem = uniform(name);
  const float best = std::nextafter(1 + 0x1p-8f, 0.0f);
  std::fill(problem.vectors.begin(), problem.vectors.end(), best);
  std::fill_n(problem.code(5), kCodebookDim, 1.0f);
  std::fill_n(problem.code(300), kCodebookDim, best);
  return problem;
}

// The same for what rounding takes from the vectors: it lies along code 300, which is the best, and
// across code 5, which is worse by 0.004 of the bound, and whose bound is the lowest.
inline CodebookProblem aligned_vectors(const char* name) {
  CodebookProblem problem = uniform(name);
  constexpr int64_t kHalf = kCodebookDim / 2;
  std::fill_n(problem.code(5), kCodebookDim, 0.0f);
  std::fill_n(problem.code(300), kCodebookDim, 0.0f);
  std::fill_n(problem.code(300), kHalf, 1.0f);
  std::fill_n(problem.code(5) + kHalf, kHalf, 1.0f);
  problem.code(5)[kHalf] = 1.0625f;  // exact in bfloat16, as all of it
  problem.code(5)[kHalf + 1] = 1.0546875f;
  problem.code(5)[2 * kHalf] = 0.125f;
  for (int64_t i = 0; i < kCodebookRows; ++i) {
    std::copy_n(problem.code(5), kCodebookDim, problem.vector(i));
    std::fill_n(problem.vector(i), kHalf, std::nextafter(1 + 0x1p-8f, 0.0f));
  }
  return problem;
}

// Codes 1234 and 1800 get a score of -infinity, the first by an element that vanishes when it is
// rounded: the filter's product is NaN there.
inline CodebookProblem vanishing_beside_infinity(const char* name) {
  CodebookProblem problem = uniform(name);
  for (int64_t j = 0; j < kCodebookSize; ++j) problem.code(j)[3] = -std::abs(problem.code(j)[3]);
  problem.code(1234)[3] = 1e-40f;
  problem.code(1800)[3] = 0.5f;
  for (int64_t i = 0; i < kCodebookRows; ++i) {
    problem.vector(i)[3] = std::numeric_limits<float>::infinity();
  }
  return problem;
}

// 0 and 2 z are equally far from z, but the bound of 2 z is lower, so the filter goes there first.
inline CodebookProblem unlike_tie(const char* name) {
  CodebookProblem problem = uniform(name, 100.0f);
  for (float& z : problem.vectors) z = 3;
  std::fill_n(problem.code(7), kCodebookDim, 0.0f);
  std::fill_n(problem.code(7 + 32 * 10), kCodebookDim, 6.0f);
  return problem;
}

// The chain stops at infinity, a sum in pairs may meet infinities of both signs.
inline CodebookProblem overflow(const char* name) {
  CodebookProblem problem = uniform(name);
  std::fill(problem.vectors.begin(), problem.vectors.end(), 3e38f);
  for (size_t i = 0; i < problem.codes.size(); ++i)
    problem.codes[i] = i % kCodebookDim % 2 ? -3.0f : 3.0f;
  return problem;
}

inline std::vector<CodebookProblem> codebook_problems() {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float inf = std::numeric_limits<float>::infinity();
  std::vector<CodebookProblem> all = {
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
      aligned_vectors("aligned vectors"),
      vanishing_beside_infinity("vanishing beside infinity"),
      unlike_tie("tie of unlike codes"),
      overflow("overflow on the way"),
  };
  // nothing but the roundings of sums between score and bound
  CodebookProblem exact = near_codes("exact in bfloat16", 0.1f);
  exact.vectors = to_float(to_bf16(exact.vectors));
  exact.codes = to_float(to_bf16(exact.codes));
  all.push_back(exact);
  for (float scale : {1e-22f, 1e-32f}) {  // squares vanish, scores do not
    CodebookProblem tiny = uniform("tiny codes");
    for (float& e : tiny.codes) e *= scale;
    all.push_back(tiny);
  }
  CodebookProblem mixed = uniform("mixed magnitudes");
  for (size_t i = 0; i < mixed.vectors.size(); ++i) mixed.vectors[i] *= std::ldexp(1.0f, i % 50);
  for (size_t i = 0; i < mixed.codes.size(); ++i) mixed.codes[i] *= std::ldexp(1.0f, -(i % 37));
  all.push_back(mixed);
  CodebookProblem shifted = uniform("far from zero");
  for (auto* values : {&shifted.vectors, &shifted.codes}) {
    for (float& value : *values) value += 100;
  }
  all.push_back(shifted);
  // vdpbf16ps reads these elements as zero, and flushes these products
  CodebookProblem tiny = uniform("subnormal elements");
  for (size_t i = 0; i < tiny.codes.size(); ++i) {
    if (i % 3) tiny.codes[i] *= 0x1p-127f;
  }
  all.push_back(tiny);
  tiny = uniform("subnormal products", 1e-18f);
  for (float& value : tiny.codes) value *= 0x1p-10f;
  all.push_back(tiny);
  CodebookProblem zeros = uniform("zeros");
  std::fill_n(zeros.vector(3), 20 * kCodebookDim, 0.0f);
  std::fill_n(zeros.code(40), 100 * kCodebookDim, 0.0f);
  all.push_back(zeros);
  CodebookProblem special = uniform("NaN and infinity");
  for (int64_t i = 0; i < kCodebookRows; i += 3)
    special.vector(i)[i % kCodebookDim] = i % 2 ? nan : inf;
  for (int64_t j = 0; j < kCodebookSize; j += 90)
    special.code(j)[j % kCodebookDim] = j % 4 ? nan : -inf;
  std::fill_n(special.vector(5), kCodebookDim,
              2e19f);  // overflows with a code of the other sign only
  std::fill_n(special.code(700), kCodebookDim, 2e18f);
  std::fill_n(special.code(701), kCodebookDim, 3e38f);
  all.push_back(special);
  return all;
}

struct FoundCodes {
  std::vector<int32_t> indices;
  std::vector<float> distances;
};

template <typename Op>
FoundCodes find_codes(Op op, const CodebookProblem& problem, int64_t rows) {
  Guarded<int32_t> indices(static_cast<size_t>(rows));
  Guarded<float> distances(static_cast<size_t>(rows));
  op({indices.data(), distances.data(), problem.vectors.data(), problem.codes.data(), rows,
      problem.size(), problem.dim},
     context());
  EXPECT(indices.intact() && distances.intact(), "wrote outside");
  return {indices.values(), distances.values()};
}

// NaN of any kind for NaN
inline bool same_numbers(std::vector<float> a, std::vector<float> b) {
  for (auto* values : {&a, &b}) {
    for (float& value : *values) {
      if (std::isnan(value)) value = std::numeric_limits<float>::quiet_NaN();
    }
  }
  return same_bits(a, b);
}

}  // namespace vilg::test
