#include <cmath>
#include <cstring>
#include <limits>
#include <type_traits>

#include "cpu/cpu_ops.h"
#include "kernels/op_table.h"
#include "ref/ref_ops.h"
#include "tests/harness.h"

namespace vilg::test {
namespace {

constexpr DType kF32 = DType::kFloat32, kBf16 = DType::kBFloat16;

// Values as they lie in memory of either type.
struct Buffer {
  DType dtype;
  std::vector<float> f32;
  std::vector<bf16> half;
  Buffer(DType type, size_t count, uint32_t seed) : dtype(type), f32(random_floats(count, seed)) {
    half = to_bf16(f32);
    if (type == kBf16) f32 = to_float(half);  // what both hold
  }
  const void* data() const {
    return dtype == kF32 ? static_cast<const void*>(f32.data()) : half.data();
  }
};

struct Case {
  int64_t m, n, k;
  bool trans_a = false, trans_b = false;
  DType a = kF32, b = kF32, c = kF32, compute = kF32;
  Epilogue epilogue = Epilogue::kNone;
  bool bias = false, residual = false, residual_is_c = false, accumulate = false;
  float alpha = 1.0f;
  int64_t batch = 1;
  bool shared_b = false;
  bool keep_pre_activation = true;

  std::string text() const {
    return format(
        "m %lld n %lld k %lld trans %d%d dtypes %d%d%d compute %d epilogue %d flags %d%d%d%d batch "
        "%lld",
        static_cast<long long>(m), static_cast<long long>(n), static_cast<long long>(k), trans_a,
        trans_b, static_cast<int>(a), static_cast<int>(b), static_cast<int>(c),
        static_cast<int>(compute), static_cast<int>(epilogue), bias, residual, residual_is_c,
        accumulate, static_cast<long long>(batch));
  }
};

// One problem: its inputs, and how each implementation is run on it.
struct Problem {
  Case t;
  int64_t lda, ldb, ldc, stride_a, stride_b, stride_c;
  Buffer a, b, c, residual, pre;
  std::vector<float> bias;

  explicit Problem(const Case& test)
      : t(test),
        lda((t.trans_a ? t.m : t.k) + 3),
        ldb((t.trans_b ? t.k : t.n) + 1),
        ldc(t.n + 5),
        stride_a((t.trans_a ? t.k : t.m) * lda + 2),
        stride_b(t.shared_b ? 0 : (t.trans_b ? t.n : t.k) * ldb + 7),
        stride_c(t.m * ldc),
        a(t.a, static_cast<size_t>(t.batch * stride_a), 1),
        b(t.b, static_cast<size_t>(t.batch * ((t.trans_b ? t.n : t.k) * ldb + 7)), 2),
        c(t.c, static_cast<size_t>(t.batch * stride_c), 3),
        residual(t.c, static_cast<size_t>(t.batch * stride_c), 4),
        pre(t.c, static_cast<size_t>(t.batch * stride_c), 5),
        bias(random_floats(static_cast<size_t>(t.n), 6)) {}

  MatmulParams params(void* c_data, void* pre_data, const void* residual_data,
                      DType c_dtype) const {
    MatmulParams p;
    p.c = c_data;
    if (t.epilogue == Epilogue::kGeluBackward ||
        (t.epilogue == Epilogue::kGelu && t.keep_pre_activation)) {
      p.pre_activation = pre_data;
    }
    p.a = a.data(), p.b = b.data();
    p.bias = t.bias ? bias.data() : nullptr;
    p.residual = t.residual_is_c ? c_data : t.residual ? residual_data : nullptr;
    p.a_dtype = t.a, p.b_dtype = t.b, p.c_dtype = c_dtype, p.compute = t.compute;
    p.m = t.m, p.n = t.n, p.k = t.k;
    p.lda = lda, p.ldb = ldb, p.ldc = ldc;
    p.batch = t.batch;
    p.stride_a = stride_a, p.stride_b = stride_b, p.stride_c = stride_c;
    p.trans_a = t.trans_a, p.trans_b = t.trans_b;
    p.accumulate = t.accumulate, p.alpha = t.alpha, p.epilogue = t.epilogue;
    return p;
  }

  bool needs_c() const { return t.accumulate || t.residual_is_c; }
  bool is_gap(size_t i) const { return static_cast<int64_t>(i) % ldc >= t.n; }

  struct Result {
    std::vector<float> c, pre;
  };

  // Runs in guarded memory; what lies between the rows of c must stay as it was.
  template <typename T>
  Result run_as(void (*op)(const MatmulParams&, OpContext&)) const {
    Guarded<T> out(c.f32.size()), pre_out(c.f32.size());
    const auto* before = static_cast<const T*>(c.data());
    const auto* pre_before = static_cast<const T*>(pre.data());
    for (size_t i = 0; i < c.f32.size(); ++i) {
      if (is_gap(i)) continue;
      if (needs_c()) out.data()[i] = before[i];
      if (t.epilogue == Epilogue::kGeluBackward) pre_out.data()[i] = pre_before[i];
    }
    op(params(out.data(), pre_out.data(), residual.data(), t.c), context());
    EXPECT(out.intact() && pre_out.intact(), "wrote outside c: %s", t.text().c_str());
    Result result;
    bool gaps_untouched = true;
    for (size_t i = 0; i < c.f32.size(); ++i) {
      if (is_gap(i)) {
        const unsigned char* bytes = reinterpret_cast<const unsigned char*>(out.data() + i);
        gaps_untouched = gaps_untouched && bytes[0] == 0xFF && bytes[1] == 0xFF;
      } else {
        result.c.push_back(as_float(out.data()[i]));
        if (t.epilogue == Epilogue::kGelu && t.keep_pre_activation) {
          result.pre.push_back(as_float(pre_out.data()[i]));
        }
      }
    }
    EXPECT(gaps_untouched, "wrote between the rows of c: %s", t.text().c_str());
    return result;
  }
  static float as_float(float x) { return x; }
  static float as_float(bf16 x) { return bf16_to_float(x); }

  Result run(void (*op)(const MatmulParams&, OpContext&)) const {
    return t.c == kF32 ? run_as<float>(op) : run_as<bf16>(op);
  }

  // The oracle on float32 copies of c, residual and pre_activation (which hold the same values), so
  // that its own output is not rounded to bfloat16.
  Result expected() const {
    std::vector<float> out = c.f32, pre_out = pre.f32;
    ref::matmul(params(out.data(), pre_out.data(), residual.f32.data(), kF32), context());
    return gather(out, pre_out);
  }

  // Plain float32 arithmetic, one rounding to c's type: its error is what the type costs.
  Result naive() const {
    std::vector<float> out = c.f32, pre_out = pre.f32;
    const auto round = [&](float x) { return t.c == kF32 ? x : bf16_to_float(float_to_bf16(x)); };
    const auto operand = [&](float x) {
      return t.compute == kF32 ? x : bf16_to_float(float_to_bf16(x));
    };
    for (int64_t s = 0; s < t.batch; ++s) {
      for (int64_t i = 0; i < t.m; ++i) {
        for (int64_t j = 0; j < t.n; ++j) {
          float sum = 0;
          for (int64_t k = 0; k < t.k; ++k) {
            const int64_t at_a = s * stride_a + (t.trans_a ? k * lda + i : i * lda + k);
            const int64_t at_b = s * stride_b + (t.trans_b ? j * ldb + k : k * ldb + j);
            sum += operand(a.f32[static_cast<size_t>(at_a)]) *
                   operand(b.f32[static_cast<size_t>(at_b)]);
          }
          const auto at = static_cast<size_t>(s * stride_c + i * ldc + j);
          float x = t.alpha * sum + (t.bias ? bias[static_cast<size_t>(j)] : 0.0f);
          const auto inner = [](float v) {
            return std::tanh(0.79788456f * (v + 0.044715f * v * v * v));
          };
          if (t.epilogue == Epilogue::kGelu) {
            pre_out[at] = round(x);
            x = 0.5f * x * (1.0f + inner(x));
          } else if (t.epilogue == Epilogue::kGeluBackward) {
            const float v = pre.f32[at], u = inner(v);
            x *= 0.5f * (1 + u) + 0.5f * v * (1 - u * u) * 0.79788456f * (1 + 0.134145f * v * v);
          }
          if (t.residual_is_c) {
            x += c.f32[at];
          } else if (t.residual) {
            x += residual.f32[at];
          }
          if (t.accumulate) x += c.f32[at];
          out[at] = round(x);
        }
      }
    }
    return gather(out, pre_out);
  }

  Result gather(const std::vector<float>& out, const std::vector<float>& pre_out) const {
    Result result;
    for (size_t i = 0; i < out.size(); ++i) {
      if (is_gap(i)) continue;
      result.c.push_back(out[i]);
      if (t.epilogue == Epilogue::kGelu && t.keep_pre_activation) result.pre.push_back(pre_out[i]);
    }
    return result;
  }
};

double max_abs(const std::vector<float>& values) {
  double largest = 0;
  for (float x : values) largest = std::max(largest, std::abs(static_cast<double>(x)));
  return largest;
}

// Twice the naive error of the same types, and a floor of a few units in the last place for where
// the naive result happens to be exact (the exp of GELU alone is good to 2 of them).
void expect_close(const std::vector<float>& actual, const std::vector<float>& naive,
                  const std::vector<float>& expected, DType dtype, const std::string& what) {
  const double floor = dtype == kF32 ? 0x1p-21 : 0x1p-9;
  const double error = relative_error(actual, expected);
  const double allowed = 2 * relative_error(naive, expected) + floor;
  EXPECT(error <= allowed, "relative error %.3g, allowed %.3g: %s", error, allowed, what.c_str());
  const double largest = max_abs_error(actual, expected);
  const double allowed_largest = 2 * max_abs_error(naive, expected) + floor * max_abs(expected);
  EXPECT(largest <= allowed_largest, "largest error %.3g, allowed %.3g: %s", largest,
         allowed_largest, what.c_str());
}

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

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
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
    t.a = bits & 4 ? kBf16 : kF32, t.b = bits & 8 ? kBf16 : kF32, t.c = bits & 16 ? kBf16 : kF32;
    t.compute = bits & 32 ? kBf16 : kF32;
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
      t.compute = i & 4 ? kBf16 : kF32, t.b = i & 8 ? kBf16 : kF32;
      check(t);
      ++i;
    }
  }
  // K around the blocks of 256 and 512
  for (int64_t k : {255, 256, 257, 511, 512, 513, 769, 1031}) {
    for (int bits = 0; bits < 4; ++bits) {
      Case t{bits & 1 ? 71 : 9, 35, k};
      t.trans_b = true, t.compute = bits & 2 ? kBf16 : kF32, t.b = t.compute;
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
    t.trans_a = bits == 1 || bits == 2, t.trans_b = bits & 1, t.compute = bits & 4 ? kBf16 : kF32;
    t.accumulate = bits == 2, t.residual = bits == 3;
    if (bits == 5) t.a = t.b = t.c = kBf16;
    check(t);
  }
}

VILG_TEST(matmul_epilogues) {
  for (int bits = 0; bits < 96; ++bits) {
    Case t{bits & 1 ? 70 : 6, 37, 50};
    t.trans_b = true;
    t.bias = bits & 2, t.accumulate = bits & 4, t.c = bits & 8 ? kBf16 : kF32;
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
    t.trans_b = !(bits & 2), t.trans_a = bits & 2, t.compute = bits & 4 ? kBf16 : kF32;
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
      const DType compute = bits & 2 ? kBf16 : kF32;
      const DType b_dtype = bits & 4 ? kBf16 : kF32;
      const std::vector<float> a = random_floats(static_cast<size_t>(kSkinnyRows * k), 11);
      const Buffer b(b_dtype, static_cast<size_t>(n * k), 12);
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
    cpu::matmul(problem.params(c.data(), nullptr, nullptr, kF32), own);
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
  for (DType dtype : {kF32, kBf16}) {
    for (int64_t n : {1, 3, 15, 16, 17, 33, 20011}) {
      const auto count = static_cast<size_t>(n);
      Buffer x(dtype, count, 21), dout(dtype, count, 22), dx(dtype, count, 23);
      for (float& value : x.f32) value *= 6;
      x.half = to_bf16(x.f32);
      if (dtype == kBf16) x.f32 = to_float(x.half);
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
      const double allowed = dtype == kF32 ? 0x1p-20 : 0x1p-8;
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
        if (dtype == kF32) {
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
  for (DType dtype : {kF32, kBf16}) {
    for (int64_t rows : {1, 2, 127, 128, 129, 700}) {
      for (int64_t n : {1, 15, 17, 63, 64, 65, 131}) {
        const Buffer dout(dtype, static_cast<size_t>(rows * n), 31);
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
