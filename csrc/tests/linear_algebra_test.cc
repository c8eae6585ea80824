#include "kernels/linear_algebra.h"

#include <cmath>
#include <cstring>
#include <limits>

#include "tests/harness.h"

namespace vilg::test {
namespace {

std::vector<double> random_doubles(size_t count, uint32_t seed) {
  const std::vector<float> values = random_floats(count, seed);
  return {values.begin(), values.end()};
}

void expect_close(double actual, double expected, double tolerance, const char* what) {
  EXPECT(std::abs(actual - expected) <= tolerance, "%s: %.17g, %.17g", what, actual, expected);
}

// c += alpha a^T b with rows further apart than they are long
struct Product {
  int64_t m, n, k;
  double alpha;
  bool lower_only;
  std::vector<double> a, b, before;
  Guarded<double> c;

  Product(int64_t m, int64_t n, int64_t k, double alpha, bool lower_only)
      : m(m),
        n(n),
        k(k),
        alpha(alpha),
        lower_only(lower_only),
        a(random_doubles(k * (m + 3), 1)),
        b(lower_only ? a : random_doubles(k * (n + 1), 2)),
        before(random_doubles(m * (n + 2), 3)),
        c(m * (n + 2)) {
    std::copy(before.begin(), before.end(), c.data());
  }
  int64_t ldb() const { return lower_only ? m + 3 : n + 1; }
  void run() {
    add_transposed_product({.c = c.data(),
                            .a = a.data(),
                            .b = b.data(),
                            .m = m,
                            .n = n,
                            .k = k,
                            .lda = m + 3,
                            .ldb = ldb(),
                            .ldc = n + 2,
                            .alpha = alpha,
                            .lower_only = lower_only},
                           context());
  }
  void check(const char* isa) {
    for (int64_t i = 0; i < m; ++i) {
      for (int64_t j = 0; j < n + 2; ++j) {
        const int64_t at = i * (n + 2) + j;
        long double sum = 0;
        if (j < n && (!lower_only || j <= i)) {
          for (int64_t p = 0; p < k; ++p) sum += a[p * (m + 3) + i] * b[p * ldb() + j];
        } else if (lower_only && j < n) {
          continue;
        }
        // k + 2 roundings of terms below 1 each
        const double tolerance = static_cast<double>((k + 2) * (k + 2)) * 0x1p-53;
        expect_close(c.data()[at], before[at] + static_cast<double>(alpha * sum), tolerance, isa);
      }
    }
    EXPECT(c.intact(), "%s", isa);
  }
};

}  // namespace

VILG_TEST(transposed_product_against_its_definition) {
  for_each_isa([](const char* isa) {
    const int64_t sizes[][3] = {{1, 1, 1},    {3, 6, 2},     {7, 23, 127},  {8, 24, 128},
                                {9, 25, 129}, {191, 5, 300}, {192, 193, 7}, {200, 385, 257}};
    for (const auto& size : sizes) {
      Product product(size[0], size[1], size[2], -0.5, false);
      product.run();
      product.check(isa);
    }
    for (int64_t m : {1, 5, 24, 192, 193, 400}) {
      Product product(m, m, 130, 1, true);
      product.run();
      product.check(isa);
    }
  });
}

VILG_TEST(reflect_pass_and_matrix_vector_against_their_definitions) {
  for_each_isa([](const char* isa) {
    for (int64_t m : {1, 3, 4, 127, 129, 301}) {
      for (int64_t n : {1, 7, 8, 31, 33, 100}) {
        const int64_t lda = n + 3;
        const std::vector<double> before = random_doubles(m * lda, 1), u = random_doubles(m, 2),
                                  y = random_doubles(n, 3), x = random_doubles(m, 4),
                                  v = random_doubles(n, 5), w = random_doubles(m, 6);
        Guarded<double> a(m * lda), sums(n), out(m);
        std::copy(before.begin(), before.end(), a.data());
        reflect_pass({.a = a.data(),
                      .u = u.data(),
                      .y = y.data(),
                      .x = x.data(),
                      .v = v.data(),
                      .w = w.data(),
                      .sums = sums.data(),
                      .m = m,
                      .n = n,
                      .lda = lda},
                     context());
        matrix_vector({.out = out.data(), .a = a.data(), .v = v.data(), .m = m, .n = n, .lda = lda},
                      context());
        const double size = static_cast<double>(m + n + 4);
        for (int64_t j = 0; j < n; ++j) {
          long double sum = 0;
          for (int64_t i = 0; i < m; ++i) {
            const double value = before[i * lda + j] - u[i] * y[j] - x[i] * v[j];
            expect_close(a.data()[i * lda + j], value, 8 * 0x1p-53, isa);
            sum += w[i] * value;
          }
          expect_close(sums.data()[j], static_cast<double>(sum), 3 * size * size * 0x1p-53, isa);
        }
        for (int64_t i = 0; i < m; ++i) {
          long double sum = 0;
          for (int64_t j = 0; j < n; ++j) sum += a.data()[i * lda + j] * v[j];
          expect_close(out.data()[i], static_cast<double>(sum), 3 * size * size * 0x1p-53, isa);
          for (int64_t j = n; j < lda; ++j) {
            EXPECT(a.data()[i * lda + j] == before[i * lda + j], "%s wrote beside a row", isa);
          }
        }
        EXPECT(a.intact() && sums.intact() && out.intact(), "%s", isa);
      }
    }
  });
}

VILG_TEST(linear_algebra_refuses) {
  double x[4] = {};
  const TransposedProductParams good{
      .c = x, .a = x, .b = x, .m = 2, .n = 2, .k = 1, .lda = 2, .ldb = 2, .ldc = 2};
  const auto refused = [&](auto change) {
    TransposedProductParams p = good;
    change(p);
    add_transposed_product(p, context());
  };
  EXPECT_ERROR(kInvalidArgument, refused([](auto& p) { p.a = nullptr; }));
  EXPECT_ERROR(kInvalidArgument, refused([](auto& p) { p.k = 0; }));
  EXPECT_ERROR(kShapeMismatch, refused([](auto& p) { p.ldc = 1; }));
  EXPECT_ERROR(kShapeMismatch, refused([](auto& p) { p.n = 1, p.lower_only = true; }));
  EXPECT_ERROR(kInvalidArgument,
               matrix_vector({.out = x, .a = x, .m = 1, .n = 1, .lda = 1}, context()));
  EXPECT_ERROR(kInvalidArgument, reflect_pass({.a = x, .m = 1, .n = 1, .lda = 1}, context()));
}

}  // namespace vilg::test
