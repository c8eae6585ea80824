// One GroupNorm and its gradients, for the tests of the op's backends.
#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include "kernels/normalization.h"
#include "ref/ref_ops.h"
#include "tests/data.h"

namespace vilg::test {

struct GroupNormCase {
  int64_t batch, pixels, channels, groups;
  float offset = 0;  // added to x: the mean in standard deviations, nearly
};
constexpr GroupNormCase kGroupNormCases[] = {
    {1, 1, 15, 3}, {2, 5, 6, 3},     {1, 17, 16, 4},  {2, 7, 32, 32},           {1, 33, 33, 11},
    {3, 4, 48, 8}, {1, 600, 64, 32}, {2, 1031, 5, 5}, {1, 1500, 128, 32, 30.0f}};

struct GroupNormResult {
  std::vector<float> out, mean, rstd;
};
struct GroupNormGradients {
  std::vector<float> dx, dgamma, dbeta;
};

class GroupNormProblem {
 public:
  GroupNormProblem(const GroupNormCase& c, DType dtype, bool swish)
      : case_(c),
        dtype_(dtype),
        swish_(swish),
        accumulate_(swish != (dtype == kH)),
        x_(dtype, static_cast<size_t>(c.batch * c.pixels * c.channels), 1),
        dout_(dtype, x_.f32.size(), 2),
        before_(dtype, x_.f32.size(), 3),
        gamma_(random_floats(static_cast<size_t>(c.channels), 4)),
        beta_(random_floats(gamma_.size(), 5)),
        dgamma_before_(random_floats(gamma_.size(), 6)),
        dbeta_before_(random_floats(gamma_.size(), 7)),
        mean_(static_cast<size_t>(c.batch * c.groups)),
        rstd_(mean_.size()) {
    for (float& value : x_.f32) value += c.offset;
    if (dtype == kH) {
      x_.half = to_bf16(x_.f32);
      x_.f32 = to_float(x_.half);
    }
    GroupNormForwardParams p = forward_params();
    p.mean = mean_.data(), p.rstd = rstd_.data();
    ref::group_norm_forward(p, context());
  }
  GroupNormProblem(const GroupNormProblem&) = delete;

  std::string name() const {
    return format("batch %d, %d pixels, %d channels, %d groups, offset %g, %s%s", (int)case_.batch,
                  (int)case_.pixels, (int)case_.channels, (int)case_.groups,
                  static_cast<double>(case_.offset), dtype_name(dtype_), swish_ ? ", swish" : "");
  }

  template <typename Op>
  GroupNormResult forward(Op op, bool with_out = true) const {
    Output out(dtype_, x_.f32.size());
    Guarded<float> mean(mean_.size()), rstd(mean_.size());
    GroupNormForwardParams p = forward_params();
    p.out = with_out ? out.data() : nullptr;
    p.mean = mean.data(), p.rstd = rstd.data();
    op(p, context());
    EXPECT(out.intact() && mean.intact() && rstd.intact(), "%s: wrote outside", name().c_str());
    return {out.values(), mean.values(), rstd.values()};
  }
  template <typename Op>
  GroupNormGradients backward(Op op) const {
    Output dx(dtype_, x_.f32.size());
    if (accumulate_) dx.fill(before_);
    Guarded<float> dgamma(gamma_.size()), dbeta(gamma_.size());
    std::copy(dgamma_before_.begin(), dgamma_before_.end(), dgamma.data());
    std::copy(dbeta_before_.begin(), dbeta_before_.end(), dbeta.data());
    GroupNormBackwardParams p;
    p.dx = dx.data(), p.dgamma = dgamma.data(), p.dbeta = dbeta.data();
    p.dout = dout_.data(), p.x = x_.data();
    p.gamma = gamma_.data(), p.beta = beta_.data();
    p.mean = mean_.data(), p.rstd = rstd_.data();
    p.dtype = dtype_;
    p.batch = case_.batch, p.pixels = case_.pixels;
    p.channels = case_.channels, p.groups = case_.groups;
    p.swish = swish_, p.accumulate = accumulate_;
    op(p, context());
    EXPECT(dx.intact() && dgamma.intact() && dbeta.intact(), "%s: wrote outside", name().c_str());
    return {dx.values(), dgamma.values(), dbeta.values()};
  }

  void check(const char* who, const GroupNormResult& actual,
             const GroupNormResult& expected) const {
    // (x - mean) * rstd with a mean rounded to float32: off by offset * 2^-24 of a deviation of a
    // uniform's 1 / sqrt(3)
    const double cancelled = static_cast<double>(case_.offset) * 2 * 0x1p-24;
    compare(who, "out", actual.out, expected.out, tolerance() + cancelled);
    // values of few bits are rounded alike, not at random, by the subtraction of a block's mean
    // (2^-25 of them) and by the additions: absolute, for the mean may be near 0
    const double off = max_abs_error(actual.mean, expected.mean);
    EXPECT(off <= 0x1p-23 * (1 + case_.offset), "%s, %s, mean: off by %.3g", who, name().c_str(),
           off);
    compare(who, "rstd", actual.rstd, expected.rstd, kSingle);
  }
  void check(const char* who, const GroupNormGradients& actual,
             const GroupNormGradients& expected) const {
    compare(who, "dx", actual.dx, expected.dx, tolerance());
    compare(who, "dgamma", actual.dgamma, expected.dgamma, 2 * kSingle);
    compare(who, "dbeta", actual.dbeta, expected.dbeta, 2 * kSingle);
  }
  static bool same(const GroupNormGradients& a, const GroupNormGradients& b) {
    return same_bits(a.dx, b.dx) && same_bits(a.dgamma, b.dgamma) && same_bits(a.dbeta, b.dbeta);
  }

 private:
  // float32: a handful of roundings and a 2 ulp exponential on values of the result's size; sums
  // are finished in double. bfloat16: results that round the other way are fewer than one in a
  // hundred.
  static constexpr double kSingle = 16 * 0x1p-24;
  double tolerance() const { return dtype_ == kH ? 0x1p-11 : kSingle; }

  GroupNormForwardParams forward_params() const {
    GroupNormForwardParams p;
    p.x = x_.data();
    p.gamma = gamma_.data(), p.beta = beta_.data();
    p.dtype = dtype_;
    p.batch = case_.batch, p.pixels = case_.pixels;
    p.channels = case_.channels, p.groups = case_.groups;
    p.swish = swish_;
    return p;
  }
  void compare(const char* who, const char* what, const std::vector<float>& actual,
               const std::vector<float>& expected, double bound) const {
    const double error = relative_error(actual, expected);
    EXPECT(error <= bound, "%s, %s, %s: %.3g, bound %.3g", who, name().c_str(), what, error, bound);
  }

  GroupNormCase case_;
  DType dtype_;
  bool swish_, accumulate_;
  Data x_, dout_, before_;
  std::vector<float> gamma_, beta_, dgamma_before_, dbeta_before_;
  std::vector<float> mean_, rstd_;  // of the reference
};

template <typename Body>
void for_each_group_norm(const Body& body) {
  for (const GroupNormCase& c : kGroupNormCases) {
    for (DType dtype : {kF, kH}) {
      for (bool swish : {false, true}) body(GroupNormProblem(c, dtype, swish));
    }
  }
}

}  // namespace vilg::test
