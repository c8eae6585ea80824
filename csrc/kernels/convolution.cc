#include "kernels/convolution.h"

#include "kernels/checks.h"

namespace vilg {
namespace {

// What the two directions share. `upsample` is 1 in the backward.
template <typename Params>
void check_geometry(const Params& p, int64_t upsample, const char* op) {
  check_float_dtype(op, "dtype", p.dtype);
  check_float_dtype(op, "weight_dtype", p.weight_dtype);
  check_float_dtype(op, "compute", p.compute);
  check_positive(op, "batch", p.batch);
  check_positive(op, "height", p.height);
  check_positive(op, "width", p.width);
  check_positive(op, "in_channels", p.in_channels);
  check_positive(op, "out_channels", p.out_channels);
  check_positive(op, "kernel_y", p.kernel_y);
  check_positive(op, "kernel_x", p.kernel_x);
  check_positive(op, "stride", p.stride);
  VILG_CHECK(p.kernel_y <= 63 && p.kernel_x <= 63, kUnsupported,
             "Expected a kernel of at most 63 x 63 for %s, received %lld x %lld", op,
             static_cast<long long>(p.kernel_y), static_cast<long long>(p.kernel_x));
  VILG_CHECK(
      p.pad_top >= 0 && p.pad_left >= 0 && p.pad_bottom >= 0 && p.pad_right >= 0, kShapeMismatch,
      "Expected no negative padding for %s, received top %lld, left %lld, bottom %lld, right "
      "%lld",
      op, static_cast<long long>(p.pad_top), static_cast<long long>(p.pad_left),
      static_cast<long long>(p.pad_bottom), static_cast<long long>(p.pad_right));
  const int64_t height = p.height * upsample + p.pad_top + p.pad_bottom;
  const int64_t width = p.width * upsample + p.pad_left + p.pad_right;
  VILG_CHECK(height >= p.kernel_y && width >= p.kernel_x, kShapeMismatch,
             "Expected a padded picture of at least the kernel's %lld x %lld for %s, received %lld "
             "x %lld",
             static_cast<long long>(p.kernel_y), static_cast<long long>(p.kernel_x), op,
             static_cast<long long>(height), static_cast<long long>(width));
}

}  // namespace

void validate(const Conv2dForwardParams& p) {
  const char* op = "conv2d_forward";
  VILG_CHECK(p.upsample == 1 || p.upsample == 2, kUnsupported,
             "Expected upsample 1 or 2 for %s, received %lld", op,
             static_cast<long long>(p.upsample));
  check_geometry(p, p.upsample, op);
  check_pointer(op, "out", p.out);
  check_pointer(op, "x", p.x);
  check_pointer(op, "weight", p.weight);
  if (p.norm_mean || p.norm_rstd || p.norm_gamma || p.norm_beta) {
    check_pointer(op, "norm_mean", p.norm_mean);
    check_pointer(op, "norm_rstd", p.norm_rstd);
    check_pointer(op, "norm_gamma", p.norm_gamma);
    check_pointer(op, "norm_beta", p.norm_beta);
    VILG_CHECK(p.norm_groups >= 1 && p.in_channels % p.norm_groups == 0, kShapeMismatch,
               "Expected norm_groups that divide the %lld channels for %s, received %lld",
               static_cast<long long>(p.in_channels), op, static_cast<long long>(p.norm_groups));
  }
}

void validate(const Conv2dBackwardParams& p) {
  const char* op = "conv2d_backward";
  check_geometry(p, 1, op);
  check_pointer(op, "dout", p.dout);
  VILG_CHECK(p.dx || p.dweight || p.dbias, kInvalidArgument,
             "Expected at least one of dx, dweight and dbias for %s, received none", op);
  if (p.dx) check_pointer(op, "weight", p.weight);
  if (p.dweight) check_pointer(op, "x", p.x);
}

namespace {
template <typename Params>
void check_upsample(const Params& p, const void* out, const void* in, const char* op) {
  check_pointer(op, "the result", out);
  check_pointer(op, "the input", in);
  check_float_dtype(op, "dtype", p.dtype);
  check_positive(op, "batch", p.batch);
  check_positive(op, "height", p.height);
  check_positive(op, "width", p.width);
  check_positive(op, "channels", p.channels);
}
}  // namespace

void validate(const UpsampleForwardParams& p) { check_upsample(p, p.out, p.x, "upsample_forward"); }
void validate(const UpsampleBackwardParams& p) {
  check_upsample(p, p.dx, p.dout, "upsample_backward");
}

void validate(const TransposeParams& p) {
  const char* op = "transpose";
  check_pointer(op, "out", p.out);
  check_pointer(op, "x", p.x);
  VILG_CHECK(p.out != p.x, kInvalidArgument, "Expected different memory for out and x of %s", op);
  check_float_dtype(op, "x_dtype", p.x_dtype);
  check_float_dtype(op, "out_dtype", p.out_dtype);
  check_positive(op, "batch", p.batch);
  check_positive(op, "rows", p.rows);
  check_positive(op, "columns", p.columns);
}

}  // namespace vilg
