#include "tests/loss_problem.h"

#include <cmath>
#include <limits>

#include "tests/cuda/cuda_backend.h"
#include "tests/data.h"

namespace vilg::test {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

// In registers up to 16384 logits. Bounds as for the CPU (tests/loss_test.cc): a sum of V powers
// has chains of 16 here, or of V / 1024.
VILG_TEST(cuda_cross_entropy) {
  for (int64_t vocab : {1, 2, 15, 16, 17, 63, 65, 1031, 8192, 16384, 16385, 40004}) {
    for (float scale : {1.0f, 30.0f}) {
      CrossEntropyCase c(vocab > 2000 ? 5 : 11, vocab, scale);
      for (int option = 0; option < 3; ++option) {
        c.label_smoothing = option == 1 ? 0.2f : 0;
        c.z_loss = option == 2 ? 1e-2f : 0;
        const auto expected = run(ref_ops(), c), actual = run(cuda_ops(), c);
        const double bound = 0x1p-20 * (1 + scale / 4);
        EXPECT(max_abs_error(actual.loss, expected.loss) < bound, "V %lld scale %g: loss %g",
               static_cast<long long>(vocab), static_cast<double>(scale),
               max_abs_error(actual.loss, expected.loss));
        EXPECT(max_abs_error(actual.dlogits, expected.dlogits) < 0x1p-20,
               "V %lld scale %g: gradient %g", static_cast<long long>(vocab),
               static_cast<double>(scale), max_abs_error(actual.dlogits, expected.dlogits));
        EXPECT(run(cuda_ops(), c, true) == actual, "in place");
      }
    }
  }
}

VILG_TEST(cuda_cross_entropy_extremes) {
  for (int64_t vocab : {5, 40, 20000}) {
    CrossEntropyCase c(6, vocab, 1);
    c.targets.assign(6, 2);
    c.row_scale = 1;
    const auto row = [&](int r) { return c.logits.data() + r * vocab; };
    for (int64_t v = 0; v < vocab; ++v) row(0)[v] = v == 2 ? 1e30f : -1e30f;
    for (int64_t v = 0; v < vocab; ++v) row(1)[v] = v == 2 ? 1e4f : -kInf;
    row(2)[vocab - 1] = kNan;
    row(3)[0] = kInf;
    for (int64_t v = 0; v < vocab; ++v) row(4)[v] = -kInf;
    for (int64_t v = 0; v < vocab; ++v) row(5)[v] = kNan;
    c.targets[5] = -1;  // what is not counted may be anything
    const auto result = run(cuda_ops(), c);
    const auto at = [&](int r, int64_t v) {
      return result.dlogits[static_cast<size_t>(r * vocab + v)];
    };
    EXPECT(result.loss[0] == 0 && at(0, 0) == 0 && at(0, 2) == 0, "sure");
    EXPECT(result.loss[1] == 0 && at(1, 0) == 0 && at(1, 2) == 0, "-inf");
    for (int r : {2, 3, 4}) {
      EXPECT(std::isnan(result.loss[static_cast<size_t>(r)]) && std::isnan(at(r, 0)) &&
                 std::isnan(at(r, vocab - 1)),
             "row %d hides NaN", r);
    }
    EXPECT(result.loss[5] == 0 && at(5, 0) == 0 && at(5, vocab - 1) == 0, "not counted");
  }
}

VILG_TEST(cuda_cross_entropy_refuses_targets) {
  CrossEntropyCase c(3, 5, 1);
  c.targets = {1, 5, 7};
  std::string messages[2];
  for (const OpTable* ops : {&ref_ops(), &cuda_ops()}) {
    try {
      run(*ops, c);
    } catch (const Error& error) {
      messages[ops == &cuda_ops()] = error.what();
    }
  }
  EXPECT(!messages[0].empty() && messages[0] == messages[1], "%s", messages[1].c_str());

  Backend& backend = cuda_backend();
  OpContext device = backend.context(nullptr);
  const Tensor logits = backend.upload(c.logits.data(), kF, {3, 5});
  const Tensor targets = backend.upload(c.targets.data(), DType::kInt32, {3});
  const Tensor loss = backend.empty(kF, {3}), dlogits = backend.empty(kF, {3, 5});
  CrossEntropyParams p;
  p.loss = loss.f32(), p.dlogits = dlogits.f32(), p.logits = logits.f32();
  p.targets = targets.as<int32_t>();
  p.rows = 3, p.vocab = 5;
  backend.record([&] { backend.ops().cross_entropy(p, device); })->run();
  std::vector<float> losses(3), gradients(15);
  backend.copy_out(losses.data(), loss.data(), loss.size_bytes());
  backend.copy_out(gradients.data(), dlogits.data(), dlogits.size_bytes());
  EXPECT(!std::isnan(losses[0]) && std::isnan(losses[1]) && std::isnan(losses[2]), "seen at last");
  EXPECT(!std::isnan(gradients[4]) && std::isnan(gradients[5]) && std::isnan(gradients[9]), "too");
}

// By hand, then against ref over one block of 16384 elements, several, and their ends.
VILG_TEST(cuda_errors_and_norms) {
  const std::vector<float> a = {1, -2, 3, 5}, b = {0, 2, 3, kNan};
  std::vector<float> dx = {10, 10, 10};
  double sum = 0;
  cuda_ops().squared_error({&sum, dx.data(), a.data(), b.data(), 3, 0.5f, true}, context());
  EXPECT(sum == 17 && dx == std::vector<float>({11, 6, 10}), "squared %g", sum);
  cuda_ops().absolute_error({&sum, dx.data(), a.data(), b.data(), 3, 0.5f, true}, context());
  EXPECT(sum == 5 && dx == std::vector<float>({11.5f, 5.5f, 10}), "absolute %g", sum);
  cuda_ops().squared_norm({&sum, a.data(), 3}, context());
  EXPECT(sum == 14, "norm %g", sum);
  cuda_ops().absolute_error({&sum, nullptr, a.data(), b.data(), 4, 1, false}, context());
  EXPECT(std::isnan(sum), "NaN");

  for (int64_t n : {1, 15, 16, 17, 1025, 16383, 16384, 16385, 50021, 50024}) {
    const auto count = static_cast<size_t>(n);
    // one more in front: an address that allows no vectors
    const auto x = random_floats(count + 1, 1, 3), y = random_floats(count + 1, 2);
    struct Result {
      double squared = -1, absolute = -1, norm = -1;
      std::vector<float> squared_dx, absolute_dx;
      bool operator==(const Result&) const = default;
    };
    const auto run = [&](const OpTable& ops, size_t shift) {
      std::vector<float> own_x(x.begin() + 1, x.end()), own_y(y.begin() + 1, y.end());
      own_x.insert(own_x.begin(), shift, 0.0f);
      own_y.insert(own_y.begin(), shift, 0.0f);
      Guarded<float> first(count), second(count);
      Result r;
      SquaredErrorParams p{&r.squared, first.data(), own_x.data() + shift, own_y.data() + shift,
                           n,          0.3f};
      ops.squared_error(p, context());
      AbsoluteErrorParams q{&r.absolute, second.data(), own_x.data() + shift, own_y.data() + shift,
                            n,           0.3f};
      ops.absolute_error(q, context());
      p.sum = q.sum = nullptr;
      p.accumulate = q.accumulate = true;  // twice the gradient now
      ops.squared_error(p, context());
      ops.absolute_error(q, context());
      ops.squared_norm({&r.norm, own_x.data() + shift, n}, context());
      EXPECT(first.intact() && second.intact(), "writes outside");
      r.squared_dx = first.values(), r.absolute_dx = second.values();
      return r;
    };
    const Result expected = run(ref_ops(), 0), actual = run(cuda_ops(), 0);
    // double sums of up to 50024 terms: far below 1e-12
    EXPECT(std::abs(actual.squared / expected.squared - 1) < 1e-12, "%lld", (long long)n);
    EXPECT(std::abs(actual.absolute / expected.absolute - 1) < 1e-12, "%lld", (long long)n);
    EXPECT(std::abs(actual.norm / expected.norm - 1) < 1e-12, "%lld", (long long)n);
    // below 4.8, three roundings
    EXPECT(max_abs_error(actual.squared_dx, expected.squared_dx) < 4 * 0x1p-22, "gradient");
    EXPECT(actual.absolute_dx == expected.absolute_dx, "gradient of the absolute error");
    EXPECT(run(cuda_ops(), 0) == actual && run(cuda_ops(), 1) == actual, "same bits");
  }
}

}  // namespace
}  // namespace vilg::test
