#include "kernels/convolution.h"

#include "core/error.h"

namespace vilg {
namespace {

void check_float(DType dtype, const char* op, const char* name) {
  VILG_CHECK(dtype == DType::kFloat32 || dtype == DType::kBFloat16, kUnsupported,
             "Expected float32 or bfloat16 for %s of %s, received %s", name, op, dtype_name(dtype));
}
void check_pointer(const void* pointer, const char* op, const char* name) {
  VILG_CHECK(pointer, kInvalidArgument, "Expected memory for %s of %s, received null", name, op);
}
void check_size(int64_t value, const char* op, const char* name) {
  VILG_CHECK(value >= 1, kShapeMismatch, "Expected a positive %s for %s, received %lld", name, op,
             static_cast<long long>(value));
}

// What the two directions share. `upsample` is 1 in the backward.
template <typename Params>
void check_geometry(const Params& p, int64_t upsample, const char* op) {
  check_float(p.dtype, op, "dtype");
  check_float(p.weight_dtype, op, "weight_dtype");
  check_float(p.compute, op, "compute");
  check_size(p.batch, op, "batch");
  check_size(p.height, op, "height");
  check_size(p.width, op, "width");
  check_size(p.in_channels, op, "in_channels");
  check_size(p.out_channels, op, "out_channels");
  check_size(p.kernel_y, op, "kernel_y");
  check_size(p.kernel_x, op, "kernel_x");
  check_size(p.stride, op, "stride");
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
  check_pointer(p.out, op, "out");
  check_pointer(p.x, op, "x");
  check_pointer(p.weight, op, "weight");
  if (p.norm_mean || p.norm_rstd || p.norm_gamma || p.norm_beta) {
    check_pointer(p.norm_mean, op, "norm_mean");
    check_pointer(p.norm_rstd, op, "norm_rstd");
    check_pointer(p.norm_gamma, op, "norm_gamma");
    check_pointer(p.norm_beta, op, "norm_beta");
    VILG_CHECK(p.norm_groups >= 1 && p.in_channels % p.norm_groups == 0, kShapeMismatch,
               "Expected norm_groups that divide the %lld channels for %s, received %lld",
               static_cast<long long>(p.in_channels), op, static_cast<long long>(p.norm_groups));
  }
}

void validate(const Conv2dBackwardParams& p) {
  const char* op = "conv2d_backward";
  check_geometry(p, 1, op);
  check_pointer(p.dout, op, "dout");
  VILG_CHECK(p.dx || p.dweight || p.dbias, kInvalidArgument,
             "Expected at least one of dx, dweight and dbias for %s, received none", op);
  if (p.dx) check_pointer(p.weight, op, "weight");
  if (p.dweight) check_pointer(p.x, op, "x");
}

namespace {
template <typename Params>
void check_upsample(const Params& p, const void* out, const void* in, const char* op) {
  check_pointer(out, op, "the result");
  check_pointer(in, op, "the input");
  check_float(p.dtype, op, "dtype");
  check_size(p.batch, op, "batch");
  check_size(p.height, op, "height");
  check_size(p.width, op, "width");
  check_size(p.channels, op, "channels");
}
}  // namespace

void validate(const UpsampleForwardParams& p) { check_upsample(p, p.out, p.x, "upsample_forward"); }
void validate(const UpsampleBackwardParams& p) {
  check_upsample(p, p.dx, p.dout, "upsample_backward");
}

void validate(const TransposeParams& p) {
  const char* op = "transpose";
  check_pointer(p.out, op, "out");
  check_pointer(p.x, op, "x");
  VILG_CHECK(p.out != p.x, kInvalidArgument, "Expected different memory for out and x of %s", op);
  check_float(p.x_dtype, op, "x_dtype");
  check_float(p.out_dtype, op, "out_dtype");
  check_size(p.batch, op, "batch");
  check_size(p.rows, op, "rows");
  check_size(p.columns, op, "columns");
}

}  // namespace vilg
