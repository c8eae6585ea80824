#include <cmath>
#include <cstring>
#include <limits>
#include <type_traits>

#include "cpu/cpu_ops.h"
#include "tests/matmul_problem.h"

namespace vilg::test {
namespace {

using Case = MatmulCase;
using Problem = MatmulProblem;

void check(const Case& t) {
  const Problem problem(t);
  const Problem::Result expected = problem.expected(), naive = problem.naive();
  for_each_isa([&](const char* isa) {
    const Problem::Result actual = problem.run(cpu::matmul);
    const std::string what = std::string(isa) + ": " + t.text();
    expect_close(actual.c, naive.c, expected.c, t.c, what);
    if (!expected.pre.empty()) {
      expect_close(actual.pre, naive.pre, expected.pre, t.c, "pre_activation, " + what);
    }
  });
}

}  // namespace

VILG_TEST(matmul_ref_by_hand) {
  // [1 2; 3 4] . [5 6; 7 8] = [19 22; 43 50]
  const std::vector<float> a = {1, 2, 3, 4}, b = {5, 6, 7, 8}, bias = {1, -1};
  const std::vector<float> a_t = {1, 3, 2, 4}, b_t = {5, 7, 6, 8};
  std::vector<float> c(4), residual = {100, 200, 300, 400};
  MatmulParams p;
  p.c = c.data(), p.a = a.data(), p.b = b.data();
  p.m = p.n = p.k = 2;
  p.lda = p.ldb = p.ldc = 2;
  ref::matmul(p, context());
  EXPECT(c == (std::vector<float>{19, 22, 43, 50}), "%g %g %g %g", c[0], c[1], c[2], c[3]);
  p.a = a_t.data(), p.b = b_t.data(), p.trans_a = p.trans_b = true;
  p.alpha = 2, p.bias = bias.data(), p.residual = residual.data(), p.accumulate = true;
  ref::matmul(p, context());
  EXPECT(c == (std::vector<float>{39 + 119, 43 + 222, 87 + 343, 99 + 450}), "%g %g %g %g", c[0],
         c[1], c[2], c[3]);
}

VILG_TEST(matmul_every_transposition_and_type) {
  for (int bits = 0; bits < 64; ++bits) {
    Case t{67, 45, 38};
    t.trans_a = bits & 1, t.trans_b = bits & 2;
    t.a = bits & 4 ? kH : kF, t.b = bits & 8 ? kH : kF, t.c = bits & 16 ? kH : kF;
    t.compute = bits & 32 ? kH : kF;
    check(t);
    t.m = 5, t.k = 39;  // the skinny path where trans_b
    check(t);
  }
}

VILG_TEST(matmul_sizes_around_tiles) {
  const int64_t sizes[] = {1, 2, 3, 7, 13, 14, 15, 16, 17, 31, 32, 33, 65, 97};
  int i = 0;
  for (int64_t m : sizes) {
    for (int64_t n : sizes) {
      Case t{m, n, sizes[(i * 5 + 3) % 14]};
      t.trans_b = i & 1, t.trans_a = i & 2, t.bias = i % 3 == 0;
      t.compute = i & 4 ? kH : kF, t.b = i & 8 ? kH : kF;
      check(t);
      ++i;
    }
  }
  // K around the blocks of 256 and 512
  for (int64_t k : {255, 256, 257, 511, 512, 513, 769, 1031}) {
    for (int bits = 0; bits < 4; ++bits) {
      Case t{bits & 1 ? 71 : 9, 35, k};
      t.trans_b = true, t.compute = bits & 2 ? kH : kF, t.b = t.compute;
      t.epilogue = Epilogue::kGelu, t.bias = true;
      check(t);
    }
  }
  // long and thin
  check({1, 60, 5000});
  check({3001, 1, 3});
  check({1, 3001, 2});
  check({2000, 65, 1});
  Case thin{1, 60, 5001};  // enough sums for the naive error to be a typical one
  thin.trans_b = true;
  check(thin);
}

VILG_TEST(matmul_several_tasks) {
  // more than one block of rows, columns and K in one call
  for (int bits = 0; bits < 8; ++bits) {
    Case t{185, 403, 523};
    t.trans_a = bits == 1 || bits == 2, t.trans_b = bits & 1, t.compute = bits & 4 ? kH : kF;
    t.accumulate = bits == 2, t.residual = bits == 3;
    if (bits == 5) t.a = t.b = t.c = kH;
    check(t);
  }
}

VILG_TEST(matmul_epilogues) {
  for (int bits = 0; bits < 96; ++bits) {
    Case t{bits & 1 ? 70 : 6, 37, 50};
    t.trans_b = true;
    t.bias = bits & 2, t.accumulate = bits & 4, t.c = bits & 8 ? kH : kF;
    t.residual = bits & 16, t.residual_is_c = bits % 5 == 0;
    t.keep_pre_activation = bits % 7 != 0;
    t.epilogue = static_cast<Epilogue>(bits / 32);
    t.alpha = bits % 3 ? 1.0f : 0.37f;
    check(t);
  }
}

VILG_TEST(matmul_batches) {
  for (int bits = 0; bits < 16; ++bits) {
    Case t{bits & 1 ? 66 : 17, 33, 47};
    t.batch = 5, t.trans_b = bits & 2, t.trans_a = bits & 4, t.shared_b = bits & 8;
    t.bias = true, t.epilogue = Epilogue::kGelu;
    check(t);
  }
}

// So large a b is packed in several stages. An element depends on its row, its column and K alone,
// so the halves of the product must agree with the whole, bit for bit.
VILG_TEST(matmul_stages) {
  const int64_t m = 3, n = 4200, k = 1030;
  const std::vector<float> a = random_floats(static_cast<size_t>(m * k), 41);
  const std::vector<float> b = random_floats(static_cast<size_t>(n * k), 42);
  std::vector<float> whole(static_cast<size_t>(m * n)), halves = whole, batch = whole;
  MatmulParams p;
  p.a = a.data(), p.b = b.data(), p.c = whole.data();
  p.m = m, p.n = n, p.k = k;
  p.lda = k, p.ldb = n, p.ldc = n;
  cpu::matmul(p, context());
  p.n = n / 2;
  for (int64_t half = 0; half < 2; ++half) {
    p.b = b.data() + half * p.n;
    p.c = halves.data() + half * p.n;
    cpu::matmul(p, context());
  }
  EXPECT(same_bits(whole, halves), "columns in two calls");
  // the same columns as a batch of 28 matrices that share a
  p.n = n / 28, p.batch = 28, p.b = b.data(), p.c = batch.data();
  p.ldc = p.n, p.stride_b = p.n, p.stride_c = m * p.n;
  cpu::matmul(p, context());
  bool equal = true;
  for (int64_t i = 0; i < m; ++i) {
    for (int64_t j = 0; j < n; ++j) {
      const auto at = static_cast<size_t>(j / p.n * p.stride_c + i * p.ldc + j % p.n);
      equal = equal && batch[at] == whole[static_cast<size_t>(i * n + j)];
    }
  }
  EXPECT(equal, "columns as a batch");
}

VILG_TEST(matmul_same_bits_for_any_number_of_threads) {
  for (int bits = 0; bits < 8; ++bits) {
    Case t{bits & 1 ? 500 : 40, 700, bits & 1 ? 600 : 900};
    t.trans_b = !(bits & 2), t.trans_a = bits & 2, t.compute = bits & 4 ? kH : kF;
    t.b = t.compute;
    const Problem problem(t);
    Problem::Result one, other;
    with_threads(1, [&] { one = problem.run(cpu::matmul); });
    for (int threads : {2, 3}) {
      with_threads(threads, [&] { other = problem.run(cpu::matmul); });
      EXPECT(same_bits(one.c, other.c), "%d threads: %s", threads, t.text().c_str());
    }
  }
}

// What one candidate's tokens rest on: its bits do not depend on how many are drawn with it.
VILG_TEST(matmul_rows_do_not_depend_on_their_number) {
  for_each_isa([](const char* isa) {
    for (int bits = 0; bits < 16; ++bits) {
      const int64_t n = 37, k = bits & 8 ? 77 : 700;
      const bool trans_b = bits & 1;
      const DType compute = bits & 2 ? kH : kF;
      const DType b_dtype = bits & 4 ? kH : kF;
      const std::vector<float> a = random_floats(static_cast<size_t>(kSkinnyRows * k), 11);
      const Data b(b_dtype, static_cast<size_t>(n * k), 12);
      const auto product = [&](int64_t first, int64_t m) {
        std::vector<float> c(static_cast<size_t>(m * n));
        MatmulParams p;
        p.c = c.data(), p.a = a.data() + first * k, p.b = b.data();
        p.b_dtype = b_dtype, p.compute = compute;
        p.m = m, p.n = n, p.k = k;
        p.lda = k, p.ldb = trans_b ? k : n, p.ldc = n;
        p.trans_b = trans_b;
        p.epilogue = Epilogue::kGelu;
        cpu::matmul(p, context());
        return c;
      };
      const std::vector<float> all = product(0, kSkinnyRows);
      for (int64_t m = 1; m < kSkinnyRows; ++m) {
        // the last m rows: other neighbours and another place as well
        const int64_t first = kSkinnyRows - m;
        const std::vector<float> some = product(first, m);
        EXPECT(std::memcmp(some.data(), all.data() + first * n, some.size() * sizeof(float)) == 0,
               "%s, %lld rows, case %d", isa, static_cast<long long>(m), bits);
      }
    }
  });
}

VILG_TEST(matmul_refuses) {
  std::vector<float> memory(64);
  MatmulParams good;
  good.c = memory.data(), good.a = memory.data() + 16, good.b = memory.data() + 32;
  good.m = good.n = good.k = 4;
  good.lda = good.ldb = good.ldc = 4;
  for (auto op : {ref::matmul, cpu::matmul}) {
    op(good, context());
    const auto bad = [&](auto change) {
      MatmulParams p = good;
      change(p);
      return p;
    };
    using P = MatmulParams;
    EXPECT_ERROR(kInvalidArgument, op(bad([](P& p) { p.c = nullptr; }), context()));
    EXPECT_ERROR(kInvalidArgument, op(bad([](P& p) { p.a = nullptr; }), context()));
    EXPECT_ERROR(kInvalidArgument, op(bad([](P& p) { p.b = nullptr; }), context()));
    EXPECT_ERROR(kInvalidArgument, op(bad([](P& p) { p.m = 0; }), context()));
    EXPECT_ERROR(kInvalidArgument, op(bad([](P& p) { p.k = -1; }), context()));
    EXPECT_ERROR(kInvalidArgument, op(bad([](P& p) { p.lda = 3; }), context()));
    EXPECT_ERROR(kInvalidArgument, op(bad([](P& p) { p.ldc = 3; }), context()));
    EXPECT_ERROR(kInvalidArgument, op(bad([](P& p) { p.batch = 2, p.stride_c = 15; }), context()));
    EXPECT_ERROR(kUnsupported, op(bad([](P& p) { p.a_dtype = DType::kInt32; }), context()));
    EXPECT_ERROR(kUnsupported, op(bad([](P& p) { p.compute = DType::kUInt8; }), context()));
    EXPECT_ERROR(kInvalidArgument,
                 op(bad([](P& p) { p.epilogue = Epilogue::kGeluBackward; }), context()));
    EXPECT_ERROR(kInvalidArgument,
                 op(bad([&](P& p) { p.pre_activation = memory.data() + 48; }), context()));
  }
}

VILG_TEST(matmul_stops) {
  Case t{300, 300, 300};
  const Problem problem(t);
  StopFlag stop;
  stop.raise();
  bool stopped = false;
  OpContext own = context();
  own.stop = &stop;
  std::vector<float> c(problem.c.f32.size());
  try {
    cpu::matmul(problem.params(c.data(), nullptr, nullptr, kF), own);
  } catch (const Stopped&) {
    stopped = true;
  }
  EXPECT(stopped, "a raised flag stops it");
}

VILG_TEST(gelu_ref_by_hand) {
  // tanh form: gelu(1) = 0.841192, gelu(-1) = -0.158808, gelu(3) = 2.996363
  std::vector<float> x = {0.0f, 1.0f, -1.0f, 3.0f}, out(4), ones(4, 1.0f), dx(4);
  GeluForwardParams p;
  p.out = out.data(), p.x = x.data(), p.num_elements = 4;
  ref::gelu_forward(p, context());
  EXPECT(out[0] == 0 && std::abs(out[1] - 0.841192f) < 1e-6f &&
             std::abs(out[2] + 0.158808f) < 1e-6f && std::abs(out[3] - 2.996363f) < 1e-6f,
         "%g %g %g %g", out[0], out[1], out[2], out[3]);

  GeluBackwardParams q;
  q.dx = dx.data(), q.dout = ones.data(), q.x = x.data(), q.num_elements = 4;
  ref::gelu_backward(q, context());
  for (size_t i = 0; i < 4; ++i) {
    const double slope = finite_difference(x, i, 1e-3, [&] {
      ref::gelu_forward(p, context());
      return static_cast<double>(out[i]);
    });
    // the step's own error is h^2 / 6 |gelu'''| < 1e-6, float32 outputs add 2^-23 / 1e-3
    EXPECT(std::abs(slope - dx[i]) < 4e-4, "x %g: %g, difference %g", x[i], dx[i], slope);
  }
}

VILG_TEST(gelu_against_ref) {
  for (DType dtype : {kF, kH}) {
    for (int64_t n : {1, 3, 15, 16, 17, 33, 20011}) {
      const auto count = static_cast<size_t>(n);
      Data x(dtype, count, 21), dout(dtype, count, 22), dx(dtype, count, 23);
      for (float& value : x.f32) value *= 6;
      x.half = to_bf16(x.f32);
      if (dtype == kH) x.f32 = to_float(x.half);
      std::vector<float> expected(count), expected_dx = dx.f32;
      GeluForwardParams p;
      p.out = expected.data(), p.x = x.f32.data(), p.num_elements = n;
      ref::gelu_forward(p, context());
      GeluBackwardParams q;
      q.dx = expected_dx.data(), q.dout = dout.f32.data(), q.x = x.f32.data();
      q.num_elements = n, q.accumulate = true;
      ref::gelu_backward(q, context());

      // exp is good to 2 units in the last place and half a dozen operations follow; bfloat16 adds
      // half of its unit. The exponent itself carries four roundings, which exp turns from relative
      // into absolute: 4 * 2^-24 |exponent| on top.
      const double allowed = dtype == kF ? 0x1p-20 : 0x1p-8;
      const auto of_exponent = [](double v) {
        return 0x1p-22 * std::abs(v) * 1.5957691216 * (1 + 0.044715 * v * v);
      };
      for_each_isa([&](const char* isa) {
        const auto run = [&](auto* type) {
          typedef std::remove_reference_t<decltype(*type)> T;
          Guarded<T> out(count), grad(count);
          std::memcpy(grad.data(), dx.data(), count * sizeof(T));
          p.out = out.data(), p.x = x.data(), p.dtype = dtype;
          cpu::gelu_forward(p, context());
          q.dx = grad.data(), q.dout = dout.data(), q.x = x.data(), q.dtype = dtype;
          cpu::gelu_backward(q, context());
          EXPECT(out.intact() && grad.intact(), "%s wrote outside", isa);
          for (size_t i = 0; i < count; ++i) {
            const double y = Problem::as_float(out.data()[i]);
            const double g = Problem::as_float(grad.data()[i]);
            EXPECT(std::abs(y - expected[i]) <=
                       (allowed + of_exponent(x.f32[i])) * std::abs(expected[i]) + 1e-12,
                   "%s: gelu(%g) = %.9g, expected %.9g", isa, x.f32[i], y, expected[i]);
            EXPECT(std::abs(g - expected_dx[i]) <= 2 * allowed,
                   "%s: slope at %g gives %.9g, expected %.9g", isa, x.f32[i], g, expected_dx[i]);
          }
        };
        if (dtype == kF) {
          run(static_cast<float*>(nullptr));
        } else {
          run(static_cast<bf16*>(nullptr));
        }
      });
    }
  }
}

VILG_TEST(gelu_of_extremes) {
  const float inf = std::numeric_limits<float>::infinity();
  const std::vector<float> x = {inf, 1e30f, 100.0f, -100.0f, -1e20f, std::nanf("")};
  std::vector<float> out(x.size()), dx(x.size()), ones(x.size(), 1.0f);
  for_each_isa([&](const char* isa) {
    GeluForwardParams p;
    p.out = out.data(), p.x = x.data(), p.num_elements = static_cast<int64_t>(x.size());
    cpu::gelu_forward(p, context());
    EXPECT(out[0] == inf && out[1] == 1e30f && out[2] == 100.0f, "%s: %g %g %g", isa, out[0],
           out[1], out[2]);
    EXPECT(std::abs(out[3]) < 1e-30f && std::abs(out[4]) < 1e-15f && std::isnan(out[5]),
           "%s: %g %g %g", isa, out[3], out[4], out[5]);
    GeluBackwardParams q;
    q.dx = dx.data(), q.dout = ones.data(), q.x = x.data(), q.num_elements = p.num_elements;
    cpu::gelu_backward(q, context());
    EXPECT(dx[0] == 1 && dx[1] == 1 && dx[2] == 1, "%s: %g %g %g", isa, dx[0], dx[1], dx[2]);
    EXPECT(std::abs(dx[3]) < 1e-30f && std::abs(dx[4]) < 1e-30f && std::isnan(dx[5]),
           "%s: %g %g %g", isa, dx[3], dx[4], dx[5]);
  });
}

VILG_TEST(bias_backward_against_ref) {
  for (DType dtype : {kF, kH}) {
    for (int64_t rows : {1, 2, 127, 128, 129, 700}) {
      for (int64_t n : {1, 15, 17, 63, 64, 65, 131}) {
        const Data dout(dtype, static_cast<size_t>(rows * n), 31);
        const std::vector<float> before = random_floats(static_cast<size_t>(n), 32);
        std::vector<float> expected = before;
        BiasBackwardParams p;
        p.dbias = expected.data(), p.dout = dout.data(), p.dtype = dtype;
        p.rows = rows, p.n = n;
        ref::bias_backward(p, context());
        for_each_isa([&](const char* isa) {
          const auto run = [&] {
            Guarded<float> dbias(static_cast<size_t>(n));
            std::copy(before.begin(), before.end(), dbias.data());
            p.dbias = dbias.data();
            cpu::bias_backward(p, context());
            EXPECT(dbias.intact(), "%s wrote outside", isa);
            return dbias.values();
          };
          const std::vector<float> actual = run();
          // blocks of 128 rows: sums of at most 128 + 6 terms below 1, random signs
          const double allowed = 0x1p-24 * 134 * std::sqrt(static_cast<double>(rows));
          EXPECT(max_abs_error(actual, expected) <= allowed, "%s: %lld x %lld: %g, allowed %g", isa,
                 static_cast<long long>(rows), static_cast<long long>(n),
                 max_abs_error(actual, expected), allowed);
          with_threads(3, [&] { EXPECT(same_bits(run(), actual), "%s: 3 threads", isa); });
        });
      }
    }
  }
}

}  // namespace vilg::test
