#include <cmath>
#include <cstring>
#include <limits>

#include "tests/optimizer_problem.h"

namespace vilg::test {
VILG_TEST(adamw_by_hand) {
  for (const OpTable* ops : {&ref_ops(), &cpu_ops()}) {
    // after the first step the corrections undo the betas: m / c1 = g, v / c2 = g^2
    float parameter[2] = {1, -2}, m[2] = {}, v[2] = {};
    const float grad[2] = {8, -0.5f};
    AdamWParams p;
    p.parameter = parameter;
    p.m = m;
    p.v = v;
    p.grad = grad;
    p.num_elements = 2;
    p.learning_rate = 0.125f;
    p.beta1 = 0.5f;
    p.beta2 = 0.75f;
    p.weight_decay = 0.5f;
    p.grad_scale = 0.5f;
    ops->adamw(p, context());
    EXPECT(m[0] == 2 && m[1] == -0.125f && v[0] == 4 && v[1] == 0.015625f, "%s moments", ops->name);
    EXPECT(std::abs(parameter[0] - (1 - 0.125 * (0.5 + 1))) < 2e-7, "%s %g", ops->name,
           static_cast<double>(parameter[0]));
    EXPECT(std::abs(parameter[1] - (-2 - 0.125 * (-1 - 1))) < 3e-7, "%s %g", ops->name,
           static_cast<double>(parameter[1]));
    // second step, gradient 0: m = 1, v = 3; m / (1 - 1/4) = 4/3, v / (1 - 9/16) = 48/7
    const float zeros[2] = {};
    const double before = parameter[0];
    p.grad = zeros;
    p.step = 2;
    ops->adamw(p, context());
    const double expected = before - 0.125 * (0.5 * before + 4.0 / 3 / std::sqrt(48.0 / 7));
    EXPECT(std::abs(parameter[0] - expected) < 2e-7, "%s %g, %g", ops->name,
           static_cast<double>(parameter[0]), expected);
  }
}

VILG_TEST(adamw_cpu_against_ref) {
  for_each_isa([](const char* isa) {
    for (size_t count : {1, 15, 16, 17, 31, 33, 1021, 16385}) {
      for (float weight_decay : {0.0f, 0.1f}) {
        const AdamWState expected = train(ref_ops(), count, 4, weight_decay);
        const AdamWState actual = train(cpu_ops(), count, 4, weight_decay);
        // one step's update is at most about lr and off by some 6 ulp; the parameter rounds once:
        // four steps of (6 * 0.01 + 0.5) * 2^-23
        EXPECT(max_abs_error(actual.parameter, expected.parameter) < 4 * 0x1p-23, "%s %zu: %g", isa,
               count, max_abs_error(actual.parameter, expected.parameter));
        EXPECT(relative_error(actual.m, expected.m) < 5e-7, "%s m", isa);
        EXPECT(relative_error(actual.v, expected.v) < 5e-7, "%s v", isa);
        EXPECT(actual.low_precision == to_bf16(actual.parameter), "%s rounded copy", isa);
      }
    }
  });
}

VILG_TEST(adamw_same_bits_with_any_thread_count) {
  AdamWState expected;
  with_threads(1, [&] { expected = train(cpu_ops(), 70001, 3, 0.1f); });
  for (int threads : {2, 3}) {
    with_threads(threads,
                 [&] { EXPECT(train(cpu_ops(), 70001, 3, 0.1f) == expected, "%d", threads); });
  }
}

VILG_TEST(adamw_refuses) {
  float x[2] = {1, 2}, m[2] = {}, v[2] = {};
  for (const OpTable* ops : {&ref_ops(), &cpu_ops()}) {
    AdamWParams good;
    good.parameter = x;
    good.m = m;
    good.v = v;
    good.grad = x;
    good.num_elements = 2;
    const auto refused = [&](auto change) {
      AdamWParams p = good;
      change(p);
      EXPECT_ERROR(kInvalidArgument, ops->adamw(p, context()));
    };
    refused([](AdamWParams& p) { p.num_elements = 0; });
    refused([](AdamWParams& p) { p.grad = nullptr; });
    refused([](AdamWParams& p) { p.step = 0; });
    refused([](AdamWParams& p) { p.beta1 = 1; });
    refused([](AdamWParams& p) { p.beta2 = -0.1f; });
    refused([](AdamWParams& p) { p.epsilon = 0; });
    refused([](AdamWParams& p) { p.learning_rate = std::numeric_limits<float>::infinity(); });
    refused([](AdamWParams& p) { p.grad_scale = std::numeric_limits<float>::quiet_NaN(); });
    ops->adamw(good, context());
  }
}

VILG_TEST(add_cpu_against_ref) {
  for_each_isa([](const char* isa) {
    for (size_t count : {1, 15, 16, 17, 31, 33, 32767, 32769}) {
      const auto x = random_floats(count, 1), y = random_floats(count, 2);
      const auto x_half = to_bf16(x), y_half = to_bf16(y);
      for (bool with_y : {false, true}) {
        std::vector<float> results[2], halves[2];
        for (const OpTable* ops : {&ref_ops(), &cpu_ops()}) {
          Guarded<float> out(count);
          Guarded<bf16> out_half(count);
          AddParams p;
          p.out = out.data();
          p.x = x.data();
          p.y = with_y ? y.data() : nullptr;
          p.num_elements = static_cast<int64_t>(count);
          p.alpha = 0.5f;
          p.beta = -1.5f;
          ops->add(p, context());
          p.dtype = DType::kBFloat16;
          p.out = out_half.data();  // in place
          std::copy(x_half.begin(), x_half.end(), out_half.data());
          p.x = out_half.data();
          p.y = with_y ? y_half.data() : nullptr;
          ops->add(p, context());
          EXPECT(out.intact() && out_half.intact(), "writes outside");
          results[ops == &cpu_ops()] = out.values();
          halves[ops == &cpu_ops()] = to_float(out_half.values());
        }
        // below 2: at most two roundings of 2^-24 each; bfloat16: one of the same float32 value or
        // of a neighbour of it, so one step of 2^-7 at most
        EXPECT(max_abs_error(results[1], results[0]) <= 0x1p-23, "%s %zu", isa, count);
        EXPECT(max_abs_error(halves[1], halves[0]) <= 0x1p-7, "%s %zu", isa, count);
        const float expected = 0.5f * x.back() - (with_y ? 1.5f * y.back() : 0);
        EXPECT(std::abs(results[0].back() - expected) < 2e-7, "%s by hand", isa);
      }
    }
  });
}

VILG_TEST(convert_is_exact) {
  // every bfloat16, and float32 around every one of them: halves, their neighbours, NaN, infinity
  std::vector<bf16> halves;
  std::vector<float> floats;
  for (uint32_t high = 0; high < 65536; ++high) {
    halves.push_back(static_cast<bf16>(high));
    for (uint32_t low : {0x0000u, 0x0001u, 0x7fffu, 0x8000u, 0x8001u, 0xffffu}) {
      const uint32_t bits = high << 16 | low;
      float value;
      std::memcpy(&value, &bits, 4);
      floats.push_back(value);
    }
  }
  for_each_isa([&](const char* isa) {
    for (size_t skip : {0, 1, 5}) {  // other tails, other alignment
      for (const OpTable* ops : {&ref_ops(), &cpu_ops()}) {
        Guarded<bf16> rounded(floats.size() - skip);
        ConvertParams p;
        p.out = rounded.data();
        p.x = floats.data() + skip;
        p.out_dtype = DType::kBFloat16;
        p.num_elements = static_cast<int64_t>(rounded.size());
        ops->convert(p, context());
        size_t wrong = 0;
        for (size_t i = 0; i < rounded.size(); ++i) {
          wrong += rounded.data()[i] != float_to_bf16(floats[i + skip]);
        }
        EXPECT(wrong == 0 && rounded.intact(), "%s %s: %zu differ", isa, ops->name, wrong);
        Guarded<float> widened(halves.size() - skip);
        p.out = widened.data();
        p.x = halves.data() + skip;
        p.x_dtype = DType::kBFloat16;
        p.out_dtype = DType::kFloat32;
        p.num_elements = static_cast<int64_t>(widened.size());
        ops->convert(p, context());
        wrong = 0;
        for (size_t i = 0; i < widened.size(); ++i) {
          const float expected = bf16_to_float(halves[i + skip]);
          const bool both_nan = std::isnan(expected) && std::isnan(widened.data()[i]);
          wrong += !both_nan && std::memcmp(&expected, widened.data() + i, 4) != 0;
        }
        EXPECT(wrong == 0 && widened.intact(), "%s %s: %zu differ", isa, ops->name, wrong);
      }
    }
  });
  for (const OpTable* ops : {&ref_ops(), &cpu_ops()}) {
    const std::vector<int32_t> ids = {1, -2, 3};
    Guarded<int32_t> copy(3);
    ConvertParams p{copy.data(), ids.data(), DType::kInt32, DType::kInt32, 3};
    ops->convert(p, context());
    EXPECT(copy.values() == ids && copy.intact(), "%s copy", ops->name);
    p.out_dtype = DType::kFloat32;
    EXPECT_ERROR(kUnsupported, ops->convert(p, context()));
    p.num_elements = 0;
    EXPECT_ERROR(kInvalidArgument, ops->convert(p, context()));
    EXPECT_ERROR(kInvalidArgument, ops->add({}, context()));
  }
}

}  // namespace vilg::test
