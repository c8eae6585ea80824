#include <cmath>
#include <cstring>
#include <limits>

#include "cuda/emulation/block.h"
#include "tests/cuda/cuda_backend.h"
#include "tests/matmul_problem.h"

// The kernels by what sends a product to them (csrc/cuda/matmul.cu): skinny up to 64 rows with
// trans_b; otherwise float for float32 products, and for bfloat16 ones direct where they are small
// or bf16, whose operands are packed first where need be.
namespace vilg::test {
namespace {

using Case = MatmulCase;
using Problem = MatmulProblem;

void check(const Case& t) {
  const Problem problem(t);
  const Problem::Result expected = problem.expected(), naive = problem.naive();
  const Problem::Result actual = problem.run(cuda_ops().matmul);
  expect_close(actual.c, naive.c, expected.c, t.c, t.text());
  if (!expected.pre.empty()) {
    expect_close(actual.pre, naive.pre, expected.pre, t.c, "pre_activation, " + t.text());
  }
}

// The same bits when asynchronous copies arrive early or late and threads run in any order.
void check_order(const Case& t) {
  const Problem problem(t);
  const Problem::Result expected = problem.run(cuda_ops().matmul);
  const auto run = [&](const char* how) {
    const Problem::Result again = problem.run(cuda_ops().matmul);
    EXPECT(same_bits(again.c, expected.c), "%s: %s", how, t.text().c_str());
  };
  run("again");
  if (!cuda_emulated()) return;
  using namespace cuda::emulation;
  const Strictness before = strictness();
  set_strictness({CopyTime::kEarliest, 0});
  run("early copies");
  set_strictness({CopyTime::kLatest, 7});
  run("another order");
  set_strictness(before);
}

VILG_TEST(cuda_matmul_every_transposition_and_type) {
  for (int bits = 0; bits < 64; ++bits) {
    for (bool aligned : {false, true}) {
      Case t{67, 45, 38};
      t.trans_a = bits & 1, t.trans_b = bits & 2, t.aligned = aligned;
      t.a = bits & 4 ? kH : kF, t.b = bits & 8 ? kH : kF, t.c = bits & 16 ? kH : kF;
      t.compute = bits & 32 ? kH : kF;
      check(t);
      t.m = 5, t.k = 77;  // skinny where trans_b
      check(t);
      t.m = 21;
      check(t);
    }
  }
}

VILG_TEST(cuda_matmul_sizes_around_tiles) {
  const int64_t sizes[] = {1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 97, 129};
  int i = 0;
  for (int64_t m : sizes) {
    for (int64_t n : sizes) {
      Case t{m, n, sizes[(i * 5 + 3) % 17]};
      t.trans_b = i & 1, t.trans_a = i & 2, t.bias = i % 3 == 0;
      t.compute = i & 4 ? kH : kF, t.b = i & 8 ? kH : kF, t.aligned = i % 5 == 0;
      check(t);
      ++i;
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

// Products so large that other types and layouts are packed first, and that all tile sizes are
// chosen. An element depends on its row, its column and K alone, so parts of it as products of
// their own, which are small, must have the same bits; those are compared with the reference.
VILG_TEST(cuda_matmul_packed_operands) {
  for (int bits = 0; bits < 14; ++bits) {
    const bool trans_a = bits & 1, trans_b = bits & 2;
    const bool unaligned = bits == 12;  // bfloat16 would be, which pays with a longer K
    const int64_t batch = bits == 13 ? 2 : 1;
    const DType a_dtype = bits & 4 && batch == 1 ? kH : kF;
    const DType b_dtype = bits & 8 && batch == 1 ? kH : kF;
    const int64_t k = unaligned ? 105 : batch == 2 ? 66 : 45;
    // tiles of 128 x 256 or, with columns just over a multiple of it, 128 x 128
    const int64_t m = batch == 2 ? 1400 : 2011, n = batch == 2 ? 1400 : bits % 3 ? 1993 : 2060;
    const auto ld = [&](DType dtype, int64_t length) {
      return dtype == kF || unaligned ? length + 3 : (length + 7) / 8 * 8;
    };
    const int64_t lda = ld(a_dtype, trans_a ? m : k), ldb = ld(b_dtype, trans_b ? k : n);
    const int64_t stride_a = (trans_a ? k : m) * lda, stride_b = (trans_b ? n : k) * ldb;
    const Data a(a_dtype, static_cast<size_t>(batch * stride_a), 51);
    const Data b(b_dtype, static_cast<size_t>(batch * stride_b), 52);
    const auto product = [&](auto op, int64_t first_batch, int64_t batches, int64_t row,
                             int64_t rows, int64_t column, int64_t columns) {
      std::vector<float> c(static_cast<size_t>(batches * rows * columns));
      MatmulParams p;
      const auto at = [](const Data& d, int64_t i) {
        return static_cast<const char*>(d.data()) + i * static_cast<int64_t>(dtype_size(d.dtype));
      };
      p.c = c.data();
      p.a = at(a, first_batch * stride_a + (trans_a ? row : row * lda));
      p.b = at(b, first_batch * stride_b + (trans_b ? column * ldb : column));
      p.a_dtype = a_dtype, p.b_dtype = b_dtype, p.compute = kH;
      p.m = rows, p.n = columns, p.k = k, p.batch = batches;
      p.lda = lda, p.ldb = ldb, p.ldc = columns;
      p.stride_a = stride_a, p.stride_b = stride_b, p.stride_c = rows * columns;
      p.trans_a = trans_a, p.trans_b = trans_b;
      op(p, context());
      return c;
    };
    const std::vector<float> whole = product(cuda_ops().matmul, 0, batch, 0, m, 0, n);
    const struct {
      int64_t row, rows, column, columns;
    } parts[] = {{0, 70, 0, 66}, {120, 80, 250, 70}, {m - 65, 65, n - 67, 67}, {m - 90, 90, 3, 30}};
    for (const auto& part : parts) {
      const auto run = [&](auto op) {
        return product(op, batch - 1, 1, part.row, part.rows, part.column, part.columns);
      };
      const std::vector<float> some = run(cuda_ops().matmul), expected = run(ref::matmul);
      // a float32 chain of k products, compared to the size of a typical sum
      EXPECT(relative_error(some, expected) < 0x1p-24 * static_cast<double>(k), "case %d: %g", bits,
             relative_error(some, expected));
      bool equal = true;
      for (int64_t i = 0; i < part.rows; ++i) {
        equal =
            equal && std::memcmp(some.data() + i * part.columns,
                                 whole.data() + ((batch - 1) * m + part.row + i) * n + part.column,
                                 static_cast<size_t>(part.columns) * sizeof(float)) == 0;
      }
      EXPECT(equal, "case %d: rows from %lld, columns from %lld", bits,
             static_cast<long long>(part.row), static_cast<long long>(part.column));
    }
  }
}

// So many tiles that 128 x 128 and 128 x 256 are chosen, copied as the operands lie.
VILG_TEST(cuda_matmul_large_tiles) {
  for (int bits = 0; bits < 8; ++bits) {
    const bool wide = bits & 4;
    Case t{130, wide ? 259 : 127, bits & 1 ? 41 : 20};
    t.batch = wide ? 33 : 66;
    t.trans_a = bits & 1, t.trans_b = bits & 2, t.compute = kH, t.a = t.b = kH, t.aligned = true;
    check(t);
    if (bits == 1 || bits == 6) check_order(t);
  }
  Case t{130, 130, 37};  // float32
  t.batch = 34;
  check(t);
}

// A cut K, whose parts are added by another kernel.
VILG_TEST(cuda_matmul_splits) {
  for (int bits = 0; bits < 12; ++bits) {
    Case t{71, 66, 1111};
    t.trans_a = bits & 1, t.trans_b = bits & 2, t.compute = bits < 8 ? kH : kF;
    t.a = t.b = bits & 4 ? kH : kF, t.aligned = bits & 1;
    t.batch = 1 + bits % 3;
    t.bias = true, t.epilogue = Epilogue::kGelu;
    check(t);
  }
  Case t{129, 140, 1600};
  t.compute = kH, t.a = t.b = kH, t.aligned = true, t.c = kH, t.accumulate = true;
  check(t);
  check_order(t);
}

VILG_TEST(cuda_matmul_epilogues) {
  for (int bits = 0; bits < 192; ++bits) {
    Case t{bits & 1 ? 70 : bits & 64 ? 6 : 11, 37, 50};
    t.trans_b = true;
    t.bias = bits & 2, t.accumulate = bits & 4, t.c = bits & 8 ? kH : kF;
    t.residual = bits & 16, t.residual_is_c = bits % 5 == 0;
    t.keep_pre_activation = bits % 7 != 0;
    t.epilogue = static_cast<Epilogue>(bits / 32 % 3);
    t.alpha = bits % 3 ? 1.0f : 0.37f;
    t.aligned = bits >= 96, t.compute = bits % 4 == 0 ? kH : kF;
    check(t);
  }
}

VILG_TEST(cuda_matmul_batches) {
  for (int bits = 0; bits < 32; ++bits) {
    Case t{bits & 1 ? 66 : bits & 16 ? 3 : 17, 33, 47};
    t.batch = 5, t.trans_b = bits & 2, t.trans_a = bits & 4, t.shared_b = bits & 8;
    t.bias = true, t.epilogue = Epilogue::kGelu, t.compute = bits & 16 ? kH : kF;
    check(t);
  }
}

// K in one to eight slices, more rows of weights than a block has, both ways to add the slices.
VILG_TEST(cuda_matmul_skinny_slices) {
  int i = 0;
  for (int64_t k : {63, 64, 65, 128, 255, 320, 511, 1024, 1288, 2056}) {
    for (int64_t m : {1, 8, 9, 33, 64}) {
      Case t{m, i % 3 ? 45 : 300, k};
      t.trans_b = true, t.b = i & 1 ? kF : kH, t.compute = i & 2 ? kF : kH;
      t.trans_a = i % 7 == 0, t.a = i % 5 == 0 ? kH : kF, t.aligned = i % 4 != 3;
      t.residual_is_c = true, t.bias = true, t.batch = i % 11 == 0 ? 2 : 1;
      check(t);
      ++i;
    }
  }
}

VILG_TEST(cuda_matmul_copies_and_order) {
  for (int bits = 0; bits < 16; ++bits) {
    Case t{bits & 1 ? 61 : 4, 70, 520};
    t.trans_b = true, t.compute = bits & 2 ? kH : kF, t.b = bits & 4 ? kH : kF;
    t.aligned = !(bits & 8);
    check_order(t);
  }
  for (int bits = 0; bits < 16; ++bits) {
    Case t{150, bits & 1 ? 200 : 40, 130};
    t.trans_b = bits & 2, t.trans_a = bits & 4, t.compute = bits & 8 ? kF : kH;
    t.a = t.b = kH, t.aligned = true;
    check_order(t);
  }
}

// What one candidate's tokens rest on: its bits do not depend on how many are drawn with it.
VILG_TEST(cuda_matmul_rows_do_not_depend_on_their_number) {
  for (int bits = 0; bits < 16; ++bits) {
    const int64_t n = 37, k = bits & 8 ? 77 : 704;  // unaligned and aligned
    const bool trans_b = !(bits & 1);
    const DType compute = bits & 2 ? kH : kF;
    const std::vector<float> a = random_floats(static_cast<size_t>(kSkinnyRows * k), 11);
    const Data b(bits & 4 ? kH : kF, static_cast<size_t>(n * k), 12);
    const auto product = [&](int64_t first, int64_t m) {
      std::vector<float> c(static_cast<size_t>(m * n));
      MatmulParams p;
      p.c = c.data(), p.a = a.data() + first * k, p.b = b.data();
      p.b_dtype = b.dtype, p.compute = compute;
      p.m = m, p.n = n, p.k = k;
      p.lda = k, p.ldb = trans_b ? k : n, p.ldc = n;
      p.trans_b = trans_b;
      p.epilogue = Epilogue::kGelu;
      cuda_ops().matmul(p, context());
      return c;
    };
    const std::vector<float> all = product(0, kSkinnyRows);
    for (int64_t m = 1; m < kSkinnyRows; m += m < 20 || m > 58 ? 1 : 5) {
      // the last m rows: other neighbours and another place as well
      const int64_t first = kSkinnyRows - m;
      const std::vector<float> some = product(first, m);
      EXPECT(std::memcmp(some.data(), all.data() + first * n, some.size() * sizeof(float)) == 0,
             "%lld rows, case %d", static_cast<long long>(m), bits);
    }
  }
}

// The same without trans_b, where K is cut by the number of tiles.
VILG_TEST(cuda_matmul_rows_do_not_depend_on_their_number_in_batches) {
  const int64_t n = 8, k = 1030, batch = 132;
  const std::vector<float> a = random_floats(static_cast<size_t>(kSkinnyRows * k), 13);
  const Data b(kH, static_cast<size_t>(batch * n * k), 14);
  const auto product = [&](int64_t m) {
    std::vector<float> c(static_cast<size_t>(batch * m * n));
    MatmulParams p;
    p.c = c.data(), p.a = a.data(), p.b = b.data();
    p.b_dtype = b.dtype;
    p.m = m, p.n = n, p.k = k, p.batch = batch;
    p.lda = k, p.ldb = n, p.ldc = n;
    p.stride_b = n * k, p.stride_c = m * n;
    cuda_ops().matmul(p, context());
    return c;
  };
  const std::vector<float> all = product(kSkinnyRows), some = product(3);
  bool equal = true;
  for (int64_t i = 0; i < batch; ++i) {
    equal = equal && std::memcmp(some.data() + i * 3 * n, all.data() + i * kSkinnyRows * n,
                                 static_cast<size_t>(3 * n) * sizeof(float)) == 0;
  }
  EXPECT(equal, "3 rows and %lld", static_cast<long long>(kSkinnyRows));
}

// c where its rows, but not its first element, would allow wide accesses.
VILG_TEST(cuda_matmul_c_begins_anywhere) {
  const int64_t n = 40, k = 24;
  for (int64_t m : {5, 20, 70}) {
    for (DType compute : {kF, kH}) {
      const Data a(kF, static_cast<size_t>(m * k), 15), b(kF, static_cast<size_t>(n * k), 16);
      Output c(kF, static_cast<size_t>(m * n + 1));
      std::vector<float> expected(static_cast<size_t>(m * n));
      MatmulParams p;
      p.a = a.data(), p.b = b.data(), p.compute = compute, p.trans_b = true;
      p.m = m, p.n = n, p.k = k, p.lda = p.ldb = k, p.ldc = n;
      p.c = expected.data();
      ref::matmul(p, context());
      p.c = c.f32.data() + 1;
      cuda_ops().matmul(p, context());
      const std::vector<float> all = c.values(), actual(all.begin() + 1, all.end());
      EXPECT(relative_error(actual, expected) < 0x1p-24 * k, "%g",
             relative_error(actual, expected));
    }
  }
}

VILG_TEST(cuda_gelu) {
  for (DType dtype : {kF, kH}) {
    for (int64_t n : {1, 3, 8, 15, 257, 20011, 20016}) {
      const auto count = static_cast<size_t>(n);
      const Data x(dtype, count, 21, 6.0f), dout(dtype, count, 22), dx(dtype, count, 23);
      std::vector<float> expected(count), expected_dx;
      GeluForwardParams p;
      p.out = expected.data(), p.x = x.f32.data(), p.num_elements = n;
      ref::gelu_forward(p, context());
      Output out(dtype, count);
      p.out = out.data(), p.x = x.data(), p.dtype = dtype;
      cuda_ops().gelu_forward(p, context());
      Output in_place(dtype, count);
      in_place.fill(x);
      p.out = in_place.data(), p.x = in_place.data();
      cuda_ops().gelu_forward(p, context());
      EXPECT(same_bits(in_place.values(), out.values()), "in place, n %lld",
             static_cast<long long>(n));

      // exp2 is good to 2 units in the last place and half a dozen operations follow; bfloat16 adds
      // half of its unit. The exponent itself carries four roundings, which exp turns from relative
      // into absolute: 4 * 2^-24 |exponent| on top.
      const double allowed = dtype == kF ? 0x1p-20 : 0x1p-8;
      const std::vector<float> actual = out.values();
      for (size_t i = 0; i < count; ++i) {
        const double v = x.f32[i];
        const double exponent = 0x1p-22 * std::abs(v) * 1.5957691216 * (1 + 0.044715 * v * v);
        EXPECT(std::abs(actual[i] - expected[i]) <=
                   (allowed + exponent) * std::abs(expected[i]) + 1e-12,
               "gelu(%g) = %.9g, expected %.9g", v, actual[i], expected[i]);
      }
      EXPECT(out.intact(), "wrote outside");

      for (bool accumulate : {false, true}) {
        expected_dx = dx.f32;
        GeluBackwardParams q;
        q.dx = expected_dx.data(), q.dout = dout.f32.data(), q.x = x.f32.data();
        q.num_elements = n, q.accumulate = accumulate;
        ref::gelu_backward(q, context());
        Output grad(dtype, count);
        grad.fill(dx);
        q.dx = grad.data(), q.dout = dout.data(), q.x = x.data(), q.dtype = dtype;
        cuda_ops().gelu_backward(q, context());
        // |slope| < 1.2 and |dx| < 1
        EXPECT(max_abs_error(grad.values(), expected_dx) <= 2 * allowed, "n %lld: %g",
               static_cast<long long>(n), max_abs_error(grad.values(), expected_dx));
        EXPECT(grad.intact(), "wrote outside");
      }
    }
  }
}

VILG_TEST(cuda_gelu_of_extremes) {
  const float inf = std::numeric_limits<float>::infinity();
  const std::vector<float> x = {inf, 1e30f, 100.0f, -100.0f, -1e20f, std::nanf("")};
  std::vector<float> out(x.size()), dx(x.size()), ones(x.size(), 1.0f);
  GeluForwardParams p;
  p.out = out.data(), p.x = x.data(), p.num_elements = static_cast<int64_t>(x.size());
  cuda_ops().gelu_forward(p, context());
  EXPECT(out[0] == inf && out[1] == 1e30f && out[2] == 100.0f, "%g %g %g", out[0], out[1], out[2]);
  EXPECT(std::abs(out[3]) < 1e-30f && std::abs(out[4]) < 1e-15f && std::isnan(out[5]), "%g %g %g",
         out[3], out[4], out[5]);
  GeluBackwardParams q;
  q.dx = dx.data(), q.dout = ones.data(), q.x = x.data(), q.num_elements = p.num_elements;
  cuda_ops().gelu_backward(q, context());
  EXPECT(dx[0] == 1 && dx[1] == 1 && dx[2] == 1, "%g %g %g", dx[0], dx[1], dx[2]);
  EXPECT(std::abs(dx[3]) < 1e-30f && std::abs(dx[4]) < 1e-30f && std::isnan(dx[5]), "%g %g %g",
         dx[3], dx[4], dx[5]);
}

VILG_TEST(cuda_bias_backward) {
  for (DType dtype : {kF, kH}) {
    for (int64_t rows : {1, 2, 63, 64, 65, 129, 1000}) {
      for (int64_t n : {1, 15, 64, 131, 256, 1030}) {
        const Data dout(dtype, static_cast<size_t>(rows * n), 31);
        const Data before(kF, static_cast<size_t>(n), 32);
        std::vector<float> expected = before.f32;
        BiasBackwardParams p;
        p.dbias = expected.data(), p.dout = dout.data(), p.dtype = dtype;
        p.rows = rows, p.n = n;
        ref::bias_backward(p, context());
        const auto run = [&] {
          Output dbias(kF, static_cast<size_t>(n));
          dbias.fill(before);
          p.dbias = dbias.f32.data();
          cuda_ops().bias_backward(p, context());
          EXPECT(dbias.intact(), "wrote outside");
          return dbias.values();
        };
        const std::vector<float> actual = run();
        // chains of at most 8 + 8 + 2 + 8 terms below 1 with random signs in each of the two passes
        const double allowed = 0x1p-24 * 52 * std::sqrt(static_cast<double>(rows));
        EXPECT(max_abs_error(actual, expected) <= allowed, "%lld x %lld: %g, allowed %g",
               static_cast<long long>(rows), static_cast<long long>(n),
               max_abs_error(actual, expected), allowed);
        EXPECT(same_bits(run(), actual), "again: %lld x %lld", static_cast<long long>(rows),
               static_cast<long long>(n));
      }
    }
  }
}

}  // namespace
}  // namespace vilg::test
