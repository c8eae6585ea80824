// Matrix products for the tests of every backend: their inputs, how an implementation is run on
// them, and what it may differ by.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/op_table.h"
#include "ref/ref_ops.h"
#include "tests/data.h"

namespace vilg::test {

struct MatmulCase {
  int64_t m, n, k;
  bool trans_a = false, trans_b = false;
  DType a = kF, b = kF, c = kF, compute = kF;
  Epilogue epilogue = Epilogue::kNone;
  bool bias = false, residual = false, residual_is_c = false, accumulate = false;
  float alpha = 1.0f;
  int64_t batch = 1;
  bool shared_b = false;
  bool keep_pre_activation = true;
  bool aligned = false;  // 16-byte accesses are possible everywhere

  std::string text() const {
    return format(
        "m %lld n %lld k %lld trans %d%d dtypes %d%d%d compute %d epilogue %d flags %d%d%d%d batch "
        "%lld aligned %d",
        static_cast<long long>(m), static_cast<long long>(n), static_cast<long long>(k), trans_a,
        trans_b, static_cast<int>(a), static_cast<int>(b), static_cast<int>(c),
        static_cast<int>(compute), static_cast<int>(epilogue), bias, residual, residual_is_c,
        accumulate, static_cast<long long>(batch), aligned);
  }
};

// One problem: its inputs, and how each implementation is run on it.
struct MatmulProblem {
  MatmulCase t;
  int64_t lda, ldb, ldc, stride_a, stride_b, stride_c;
  Data a, b, c, residual, pre;
  std::vector<float> bias;

  explicit MatmulProblem(const MatmulCase& test)
      : t(test),
        lda(padded(t.trans_a ? t.m : t.k, 3)),
        ldb(padded(t.trans_b ? t.k : t.n, 1)),
        ldc(padded(t.n, 5)),
        stride_a((t.trans_a ? t.k : t.m) * lda + (t.aligned ? 8 : 2)),
        stride_b(t.shared_b ? 0 : (t.trans_b ? t.n : t.k) * ldb + (t.aligned ? 16 : 7)),
        stride_c(t.m * ldc),
        a(t.a, static_cast<size_t>(t.batch * stride_a), 1),
        b(t.b, static_cast<size_t>(t.batch * ((t.trans_b ? t.n : t.k) * ldb + 16)), 2),
        c(t.c, static_cast<size_t>(t.batch * stride_c), 3),
        residual(t.c, static_cast<size_t>(t.batch * stride_c), 4),
        pre(t.c, static_cast<size_t>(t.batch * stride_c), 5),
        bias(random_floats(static_cast<size_t>(t.n), 6)) {}

  int64_t padded(int64_t length, int64_t gap) const {
    return t.aligned ? (length + 15) / 8 * 8 : length + gap;
  }

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
    return t.c == kF ? run_as<float>(op) : run_as<bf16>(op);
  }

  // The oracle on float32 copies of c, residual and pre_activation (which hold the same values), so
  // that its own output is not rounded to bfloat16.
  Result expected() const {
    std::vector<float> out = c.f32, pre_out = pre.f32;
    ref::matmul(params(out.data(), pre_out.data(), residual.f32.data(), kF), context());
    return gather(out, pre_out);
  }

  // Plain float32 arithmetic, one rounding to c's type: its error is what the type costs.
  Result naive() const {
    std::vector<float> out = c.f32, pre_out = pre.f32;
    const auto round = [&](float x) { return t.c == kF ? x : bf16_to_float(float_to_bf16(x)); };
    const auto operand = [&](float x) {
      return t.compute == kF ? x : bf16_to_float(float_to_bf16(x));
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

inline double max_abs(const std::vector<float>& values) {
  double largest = 0;
  for (float x : values) largest = std::max(largest, std::abs(static_cast<double>(x)));
  return largest;
}

// Twice the naive error of the same types, and a floor of a few units in the last place for where
// the naive result happens to be exact (the exp of GELU alone is good to 2 of them).
inline void expect_close(const std::vector<float>& actual, const std::vector<float>& naive,
                         const std::vector<float>& expected, DType dtype, const std::string& what) {
  const double floor = dtype == kF ? 0x1p-21 : 0x1p-9;
  const double error = relative_error(actual, expected);
  const double allowed = 2 * relative_error(naive, expected) + floor;
  EXPECT(error <= allowed, "relative error %.3g, allowed %.3g: %s", error, allowed, what.c_str());
  const double largest = max_abs_error(actual, expected);
  const double allowed_largest = 2 * max_abs_error(naive, expected) + floor * max_abs(expected);
  EXPECT(largest <= allowed_largest, "largest error %.3g, allowed %.3g: %s", largest,
         allowed_largest, what.c_str());
}

}  // namespace vilg::test
