// Convolutions of every kind, for the tests of the op's backends.
#pragma once

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "kernels/convolution.h"
#include "tests/data.h"

namespace vilg::test {

struct ConvolutionTypes {
  DType dtype, weight, compute;
  std::string name() const {
    return format("%s/%s/%s", dtype_name(dtype), dtype_name(weight), dtype_name(compute));
  }
};
constexpr ConvolutionTypes kConvolutionTypes[] = {
    {kF, kF, kF}, {kH, kH, kH}, {kH, kF, kF}, {kF, kF, kH}, {kF, kH, kH}};

// Against the same sum in double. float32: each of the n additions rounds a partial sum that is no
// larger (in the mean) than the result, n * 2^-24 at worst and sqrt(n) * 2^-24 when errors are
// independent; 8 more for what an operand went through (swish: 4 ulp; summed taps: 2).
// bfloat16: products are exact, the results are rounded alike but for values next to a tie; those
// are fewer than one in a hundred and off by 2^-8, so sqrt(0.01) * 2^-8 < 2^-11.
inline double convolution_tolerance(int64_t terms, DType dtype, DType compute) {
  const double single = (8 + 2 * std::sqrt(static_cast<double>(terms))) * 0x1p-24;
  return dtype == DType::kBFloat16 || compute == DType::kBFloat16 ? 0x1p-11 + single : single;
}

struct ConvolutionCase {
  int64_t batch, height, width, cin, cout, kernel_y, kernel_x, stride;
  int64_t top, left, bottom, right;
  int64_t groups = 0;  // 0: no norm
  int64_t upsample = 1;
  bool bias = true, residual = false;

  std::string name() const {
    return format(
        "batch %d, %dx%d, %d -> %d, kernel %dx%d, stride %d, pad %d %d %d %d, groups %d, "
        "upsample %d",
        (int)batch, (int)height, (int)width, (int)cin, (int)cout, (int)kernel_y, (int)kernel_x,
        (int)stride, (int)top, (int)left, (int)bottom, (int)right, (int)groups, (int)upsample);
  }
  template <typename Params>
  void set_sizes(Params& p) const {
    p.batch = batch, p.height = height, p.width = width;
    p.in_channels = cin, p.out_channels = cout;
    p.kernel_y = kernel_y, p.kernel_x = kernel_x, p.stride = stride;
    p.pad_top = top, p.pad_left = left, p.pad_bottom = bottom, p.pad_right = right;
  }
  size_t in_count() const { return static_cast<size_t>(batch * height * width * cin); }
  size_t weight_count() const { return static_cast<size_t>(cout * kernel_y * kernel_x * cin); }
};

// The operands of one forward convolution. run(op) gives a result, checked for its edges.
class ForwardConvolution {
 public:
  ForwardConvolution(const ConvolutionCase& c, const ConvolutionTypes& types)
      : case_(c),
        types_(types),
        x_(types.dtype, c.in_count(), 1),
        weight_(types.weight, c.weight_count(), 2),
        bias_(random_floats(static_cast<size_t>(c.cout), 3)),
        mean_(random_floats(static_cast<size_t>(c.batch * std::max<int64_t>(c.groups, 1)), 4)),
        rstd_(random_floats(mean_.size(), 5)),
        gamma_(random_floats(static_cast<size_t>(c.cin), 6, 2.0f)),
        beta_(random_floats(static_cast<size_t>(c.cin), 7)) {
    for (float& value : rstd_) value = 1.5f + value;
    c.set_sizes(params_);
    params_.upsample = c.upsample;
    params_.x = x_.data();
    params_.weight = weight_.data();
    params_.bias = c.bias ? bias_.data() : nullptr;
    if (c.groups) {
      params_.norm_mean = mean_.data(), params_.norm_rstd = rstd_.data();
      params_.norm_gamma = gamma_.data(), params_.norm_beta = beta_.data();
      params_.norm_groups = c.groups;
    }
    params_.dtype = types.dtype, params_.weight_dtype = types.weight;
    params_.compute = types.compute;
    out_count_ = static_cast<size_t>(c.batch * params_.out_height() * params_.out_width() * c.cout);
    residual_ = Data(types.dtype, c.residual ? out_count_ : 0, 8);
    params_.residual = c.residual ? residual_.data() : nullptr;
  }
  ForwardConvolution(const ForwardConvolution&) = delete;

  template <typename Op>
  std::vector<float> run(Op op) {
    Output out(types_.dtype, out_count_);
    params_.out = out.data();
    op(params_, context());
    EXPECT(out.intact(), "%s: wrote outside", case_.name().c_str());
    return out.values();
  }
  double tolerance() const {
    // taps that read one input are summed before they are rounded, where the reference sums
    // rounded ones: each rounding is off by at most 2^-9 of its weight
    if (case_.upsample == 2 && types_.compute == kH) return 0x1p-8;
    return convolution_tolerance(case_.kernel_y * case_.kernel_x * case_.cin, types_.dtype,
                                 types_.compute);
  }

 private:
  ConvolutionCase case_;
  ConvolutionTypes types_;
  Data x_, weight_;
  std::vector<float> bias_, mean_, rstd_, gamma_, beta_;
  Data residual_{kF, 0, 0};
  size_t out_count_ = 0;
  Conv2dForwardParams params_;
};

struct ConvolutionGradients {
  std::vector<float> dx, dweight, dbias;
};

// The operands of one backward convolution, like ForwardConvolution.
class BackwardConvolution {
 public:
  BackwardConvolution(const ConvolutionCase& c, const ConvolutionTypes& types, bool accumulate)
      : case_(c),
        types_(types),
        x_(types.dtype, c.in_count(), 11),
        dout_(types.dtype, out_count(c), 12),
        weight_(types.weight, c.weight_count(), 13),
        before_(types.dtype, c.in_count(), 14),
        dweight_before_(random_floats(c.weight_count(), 15)),
        dbias_before_(random_floats(static_cast<size_t>(c.cout), 16)) {
    c.set_sizes(params_);
    params_.dout = dout_.data();
    params_.x = x_.data();
    params_.weight = weight_.data();
    params_.dtype = types.dtype, params_.weight_dtype = types.weight;
    params_.compute = types.compute;
    params_.accumulate = accumulate;
  }
  BackwardConvolution(const BackwardConvolution&) = delete;

  template <typename Op>
  ConvolutionGradients run(Op op) {
    Output dx(types_.dtype, case_.in_count());
    if (params_.accumulate) dx.fill(before_);
    Guarded<float> dweight(dweight_before_.size()), dbias(dbias_before_.size());
    std::copy(dweight_before_.begin(), dweight_before_.end(), dweight.data());
    std::copy(dbias_before_.begin(), dbias_before_.end(), dbias.data());
    params_.dx = dx.data();
    params_.dweight = dweight.data();
    params_.dbias = dbias.data();
    op(params_, context());
    EXPECT(dx.intact() && dweight.intact() && dbias.intact(), "%s: wrote outside",
           case_.name().c_str());
    return {dx.values(), dweight.values(), dbias.values()};
  }
  void check(const char* who, const ConvolutionGradients& actual,
             const ConvolutionGradients& expected) const {
    const auto compare = [&](const char* name, const std::vector<float>& a,
                             const std::vector<float>& e, double bound) {
      const double error = relative_error(a, e);
      EXPECT(error <= bound, "%s, %s, %s, %s: error %.3g, bound %.3g", who, case_.name().c_str(),
             types_.name().c_str(), name, error, bound);
    };
    compare("dx", actual.dx, expected.dx,
            convolution_tolerance(case_.kernel_y * case_.kernel_x * case_.cout, types_.dtype,
                                  types_.compute));
    // parameter gradients are float32, and products of bfloat16 are exact in it
    const int64_t pixels = case_.batch * params_.out_height() * params_.out_width();
    compare("dweight", actual.dweight, expected.dweight, convolution_tolerance(pixels, kF, kF));
    compare("dbias", actual.dbias, expected.dbias, convolution_tolerance(pixels, kF, kF));
  }
  static bool same(const ConvolutionGradients& a, const ConvolutionGradients& b) {
    return same_bits(a.dx, b.dx) && same_bits(a.dweight, b.dweight) && same_bits(a.dbias, b.dbias);
  }

 private:
  static size_t out_count(const ConvolutionCase& c) {
    Conv2dBackwardParams p;
    c.set_sizes(p);
    return static_cast<size_t>(p.batch * p.out_height() * p.out_width() * p.out_channels);
  }

  ConvolutionCase case_;
  ConvolutionTypes types_;
  Data x_, dout_, weight_, before_;
  std::vector<float> dweight_before_, dbias_before_;
  Conv2dBackwardParams params_;
};

}  // namespace vilg::test
