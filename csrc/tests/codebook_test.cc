#include <cmath>
#include <limits>

#include "cpu/cpu_ops.h"
#include "ref/ref_ops.h"
#include "tests/data.h"

namespace vilg::test {
namespace {

struct Found {
  std::vector<int32_t> indices;
  std::vector<float> distances;
};

Found find(void (*op)(const CodebookLookupParams&, OpContext&), const std::vector<float>& vectors,
           const std::vector<float>& codebook, int64_t dim) {
  const size_t rows = vectors.size() / static_cast<size_t>(dim);
  Guarded<int32_t> indices(rows);
  Guarded<float> distances(rows);
  op({indices.data(), distances.data(), vectors.data(), codebook.data(), static_cast<int64_t>(rows),
      static_cast<int64_t>(codebook.size()) / dim, dim},
     context());
  EXPECT(indices.intact() && distances.intact(), "wrote outside");
  return {indices.values(), distances.values()};
}

}  // namespace

VILG_TEST(codebook_bits_are_the_same_everywhere) {
  for (int64_t dim : {1, 3, 16, 17, 64, 256}) {
    for (int64_t size : {1, 2, 15, 16, 17, 31, 32, 33, 100}) {
      const int64_t rows = dim == 3 ? 59 : 7;
      auto vectors = random_floats(static_cast<size_t>(rows * dim), 1);
      auto codebook = random_floats(static_cast<size_t>(size * dim), 2);
      // duplicates far apart, and vectors that are codes
      if (size > 2) {
        std::copy_n(codebook.begin(), dim, codebook.end() - dim);
        std::copy_n(codebook.end() - dim, dim, vectors.begin());
      }
      const Found expected = find(ref::codebook_lookup, vectors, codebook, dim);
      if (size > 2) EXPECT(expected.indices[0] == 0, "the lower of two equal codes");
      for_each_isa([&](const char* isa) {
        for (int threads : {1, 3}) {
          with_threads(threads, [&] {
            const Found actual = find(cpu::codebook_lookup, vectors, codebook, dim);
            EXPECT(actual.indices == expected.indices, "%s, %d codes of %d: indices", isa,
                   (int)size, (int)dim);
            EXPECT(same_bits(actual.distances, expected.distances), "%s, %d codes of %d: distances",
                   isa, (int)size, (int)dim);
          });
        }
      });
    }
  }
}

// Coarse values: whole classes of codes tie exactly.
VILG_TEST(codebook_ties_go_to_the_lowest_index) {
  const int64_t dim = 4, size = 300, rows = 40;
  auto vectors = random_floats(rows * dim, 3), codebook = random_floats(size * dim, 4);
  for (auto* values : {&vectors, &codebook}) {
    for (float& value : *values) value = std::round(value);
  }
  const Found expected = find(ref::codebook_lookup, vectors, codebook, dim);
  int64_t ties = 0;
  for (int64_t row = 0; row < rows; ++row) {
    int64_t best = -1, count = 0;
    double least = 1e9;
    for (int64_t j = 0; j < size; ++j) {
      double distance = 0;
      for (int64_t k = 0; k < dim; ++k) {
        const double d = static_cast<double>(vectors[static_cast<size_t>(row * dim + k)]) -
                         codebook[static_cast<size_t>(j * dim + k)];
        distance += d * d;
      }
      count = distance < least ? 1 : count + (distance == least);
      if (distance < least) {
        least = distance;
        best = j;
      }
    }
    ties += count > 1;
    // small integers: the chain is exact
    EXPECT(expected.indices[static_cast<size_t>(row)] == best, "row %d", (int)row);
    EXPECT(expected.distances[static_cast<size_t>(row)] == least, "row %d", (int)row);
  }
  EXPECT(ties > 30, "the test needs ties, has %d", (int)ties);
  for_each_isa([&](const char* isa) {
    const Found actual = find(cpu::codebook_lookup, vectors, codebook, dim);
    EXPECT(actual.indices == expected.indices, "%s", isa);
  });
}

VILG_TEST(codebook_agrees_with_double_where_the_margin_is_clear) {
  const int64_t dim = 64, size = 777, rows = 100;
  const auto vectors = random_floats(rows * dim, 5), codebook = random_floats(size * dim, 6);
  const Found actual = find(cpu::codebook_lookup, vectors, codebook, dim);
  int64_t compared = 0;
  for (int64_t row = 0; row < rows; ++row) {
    double least = 1e9, second = 1e9;
    int64_t best = -1;
    for (int64_t j = 0; j < size; ++j) {
      double distance = 0;
      for (int64_t k = 0; k < dim; ++k) {
        const double d = static_cast<double>(vectors[static_cast<size_t>(row * dim + k)]) -
                         codebook[static_cast<size_t>(j * dim + k)];
        distance += d * d;
      }
      if (distance < least) {
        second = least;
        least = distance;
        best = j;
      } else if (distance < second) {
        second = distance;
      }
    }
    const size_t i = static_cast<size_t>(row);
    EXPECT(std::abs(actual.distances[i] - least) <= 1e-5 * (least + dim), "row %d: %g, is %g",
           (int)row, actual.distances[i], least);
    if (second - least < 1e-5 * dim) continue;
    ++compared;
    EXPECT(actual.indices[i] == best, "row %d: %d, expected %d", (int)row, actual.indices[i],
           (int)best);
  }
  EXPECT(compared > 90, "only %d rows were clear", (int)compared);
}

VILG_TEST(codebook_and_argmax_with_nan_and_infinity) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float inf = std::numeric_limits<float>::infinity();
  std::vector<float> codebook = {nan, 0, 1, 1, 3, 3}, vectors = {1, 1, nan, 0, 3, 2.5f};
  const auto check = [&](const char* name, auto lookup, auto largest) {
    const Found found = find(lookup, vectors, codebook, 2);
    EXPECT(found.indices == (std::vector<int32_t>{1, 0, 2}), "%s: %d %d %d", name, found.indices[0],
           found.indices[1], found.indices[2]);
    EXPECT(found.distances[0] == 0 && !std::isfinite(found.distances[1]) &&
               found.distances[2] == 0.25f,
           "%s: %g %g %g", name, found.distances[0], found.distances[1], found.distances[2]);
    for (int64_t n : {3, 16, 40}) {
      std::vector<float> values(static_cast<size_t>(3 * n), -inf);
      values[0] = nan;  // NaN first, then a number
      values[static_cast<size_t>(n - 1)] = -5;
      values[static_cast<size_t>(n)] = nan;  // nothing but NaN and -infinity
      values[static_cast<size_t>(2 * n + 1)] = inf;
      std::vector<int32_t> indices(3, -1);
      largest({indices.data(), values.data(), 3, n}, context());
      EXPECT(indices[0] == n - 1 && indices[1] == 0 && indices[2] == 1, "%s, n %d: %d %d %d", name,
             (int)n, indices[0], indices[1], indices[2]);
    }
  };
  check("ref", ref::codebook_lookup, ref::argmax);
  for_each_isa([&](const char* isa) { check(isa, cpu::codebook_lookup, cpu::argmax); });
}

VILG_TEST(argmax_against_ref) {
  for (int64_t n : {1, 2, 7, 15, 16, 17, 31, 33, 64, 1000}) {
    const int64_t rows = 37;
    auto values = random_floats(static_cast<size_t>(rows * n), 1);
    for (float& value : values) value = std::round(4 * value);  // ties
    const auto run = [&](auto op) {
      Guarded<int32_t> indices(rows);
      op({indices.data(), values.data(), rows, n}, context());
      EXPECT(indices.intact(), "wrote outside");
      return indices.values();
    };
    const auto expected = run(ref::argmax);
    for_each_isa(
        [&](const char* isa) { EXPECT(run(cpu::argmax) == expected, "%s, n %d", isa, (int)n); });
  }
}

VILG_TEST(codebook_refuses_what_it_cannot_do) {
  std::vector<float> m(64, 1.0f);
  std::vector<int32_t> indices(4);
  for (auto op : {ref::codebook_lookup, cpu::codebook_lookup}) {
    EXPECT_ERROR(kInvalidArgument, op({nullptr, nullptr, m.data(), m.data(), 1, 2, 3}, context()));
    EXPECT_ERROR(kInvalidArgument,
                 op({indices.data(), nullptr, nullptr, m.data(), 1, 2, 3}, context()));
    EXPECT_ERROR(kShapeMismatch,
                 op({indices.data(), nullptr, m.data(), m.data(), 0, 2, 3}, context()));
    EXPECT_ERROR(
        kShapeMismatch,
        op({indices.data(), nullptr, m.data(), m.data(), 1, int64_t{1} << 31, 3}, context()));
    op({indices.data(), nullptr, m.data(), m.data(), 1, 2, 3}, context());  // no distances
  }
  EXPECT_ERROR(kShapeMismatch, cpu::argmax({indices.data(), m.data(), 1, 0}, context()));
}

}  // namespace vilg::test
