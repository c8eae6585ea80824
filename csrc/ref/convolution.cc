#include <cmath>

#include "ref/element.h"
#include "ref/ref_ops.h"

namespace vilg::ref {

void conv2d_forward(const Conv2dForwardParams& p, OpContext&) {
  validate(p);
  const int64_t out_height = p.out_height(), out_width = p.out_width();
  // x after norm, swish and upsampling; 0 in the padding
  const auto input = [&](int64_t b, int64_t y, int64_t x, int64_t c) {
    if (y < 0 || y >= p.height * p.upsample || x < 0 || x >= p.width * p.upsample) return 0.0;
    const int64_t pixel = (b * p.height + y / p.upsample) * p.width + x / p.upsample;
    double value = get(p.x, pixel * p.in_channels + c, p.dtype);
    if (p.norm_mean) {
      const int64_t g = b * p.norm_groups + c / (p.in_channels / p.norm_groups);
      value = (value - p.norm_mean[g]) * p.norm_rstd[g] * p.norm_gamma[c] + p.norm_beta[c];
      value = value / (1 + std::exp(-value));
    }
    return operand(value, p.compute);
  };
  for (int64_t b = 0; b < p.batch; ++b) {
    for (int64_t y = 0; y < out_height; ++y) {
      for (int64_t x = 0; x < out_width; ++x) {
        for (int64_t co = 0; co < p.out_channels; ++co) {
          const int64_t at = ((b * out_height + y) * out_width + x) * p.out_channels + co;
          double sum = (p.bias ? p.bias[co] : 0) + (p.residual ? get(p.residual, at, p.dtype) : 0);
          for (int64_t ky = 0; ky < p.kernel_y; ++ky) {
            for (int64_t kx = 0; kx < p.kernel_x; ++kx) {
              for (int64_t c = 0; c < p.in_channels; ++c) {
                const int64_t w = ((co * p.kernel_y + ky) * p.kernel_x + kx) * p.in_channels + c;
                sum += operand(get(p.weight, w, p.weight_dtype), p.compute) *
                       input(b, y * p.stride + ky - p.pad_top, x * p.stride + kx - p.pad_left, c);
              }
            }
          }
          set(p.out, at, p.dtype, sum);
        }
      }
    }
  }
}

namespace {

// Calls body(dout index, x index or -1 in the padding, weight index) for every product but the sum
// over channels: the last index of each is the channel of 0.
template <typename Body>
void for_each_tap(const Conv2dBackwardParams& p, const Body& body) {
  const int64_t out_height = p.out_height(), out_width = p.out_width();
  for (int64_t b = 0; b < p.batch; ++b) {
    for (int64_t oy = 0; oy < out_height; ++oy) {
      for (int64_t ox = 0; ox < out_width; ++ox) {
        for (int64_t ky = 0; ky < p.kernel_y; ++ky) {
          for (int64_t kx = 0; kx < p.kernel_x; ++kx) {
            const int64_t y = oy * p.stride + ky - p.pad_top, x = ox * p.stride + kx - p.pad_left;
            if (y < 0 || y >= p.height || x < 0 || x >= p.width) continue;
            body(((b * out_height + oy) * out_width + ox) * p.out_channels,
                 ((b * p.height + y) * p.width + x) * p.in_channels, ky * p.kernel_x + kx);
          }
        }
      }
    }
  }
}

}  // namespace

void conv2d_backward(const Conv2dBackwardParams& p, OpContext& ctx) {
  validate(p);
  const int64_t taps = p.kernel_y * p.kernel_x;
  const auto dout = [&](int64_t i) { return get(p.dout, i, p.dtype); };
  if (p.dx) {
    const int64_t count = p.batch * p.height * p.width * p.in_channels;
    Workspace sums(*ctx.allocator, static_cast<size_t>(count) * sizeof(double));
    double* dx = sums.as<double>();
    for (int64_t i = 0; i < count; ++i) dx[i] = p.accumulate ? get(p.dx, i, p.dtype) : 0;
    for_each_tap(p, [&](int64_t out, int64_t in, int64_t tap) {
      for (int64_t co = 0; co < p.out_channels; ++co) {
        for (int64_t c = 0; c < p.in_channels; ++c) {
          const double w = get(p.weight, (co * taps + tap) * p.in_channels + c, p.weight_dtype);
          dx[in + c] += operand(dout(out + co), p.compute) * operand(w, p.compute);
        }
      }
    });
    for (int64_t i = 0; i < count; ++i) set(p.dx, i, p.dtype, dx[i]);
  }
  if (p.dweight) {
    const int64_t count = p.out_channels * taps * p.in_channels;
    Workspace sums(*ctx.allocator, static_cast<size_t>(count) * sizeof(double));
    double* dweight = sums.as<double>();
    for (int64_t i = 0; i < count; ++i) dweight[i] = p.dweight[i];
    for_each_tap(p, [&](int64_t out, int64_t in, int64_t tap) {
      for (int64_t co = 0; co < p.out_channels; ++co) {
        for (int64_t c = 0; c < p.in_channels; ++c) {
          dweight[(co * taps + tap) * p.in_channels + c] +=
              operand(dout(out + co), p.compute) * operand(get(p.x, in + c, p.dtype), p.compute);
        }
      }
    });
    for (int64_t i = 0; i < count; ++i) p.dweight[i] = static_cast<float>(dweight[i]);
  }
  if (p.dbias) {
    const int64_t rows = p.batch * p.out_height() * p.out_width();
    for (int64_t co = 0; co < p.out_channels; ++co) {
      double sum = p.dbias[co];
      for (int64_t row = 0; row < rows; ++row) sum += dout(row * p.out_channels + co);
      p.dbias[co] = static_cast<float>(sum);
    }
  }
}

void upsample_forward(const UpsampleForwardParams& p, OpContext&) {
  validate(p);
  for (int64_t b = 0; b < p.batch; ++b) {
    for (int64_t y = 0; y < 2 * p.height; ++y) {
      for (int64_t x = 0; x < 2 * p.width; ++x) {
        for (int64_t c = 0; c < p.channels; ++c) {
          const int64_t from = ((b * p.height + y / 2) * p.width + x / 2) * p.channels + c;
          const int64_t to = ((b * 2 * p.height + y) * 2 * p.width + x) * p.channels + c;
          set(p.out, to, p.dtype, get(p.x, from, p.dtype));
        }
      }
    }
  }
}

void upsample_backward(const UpsampleBackwardParams& p, OpContext&) {
  validate(p);
  for (int64_t b = 0; b < p.batch; ++b) {
    for (int64_t y = 0; y < p.height; ++y) {
      for (int64_t x = 0; x < p.width; ++x) {
        for (int64_t c = 0; c < p.channels; ++c) {
          double sum = 0;
          for (int64_t i = 0; i < 4; ++i) {
            const int64_t row = b * 2 * p.height + 2 * y + i / 2, column = 2 * x + i % 2;
            sum += get(p.dout, (row * 2 * p.width + column) * p.channels + c, p.dtype);
          }
          set(p.dx, ((b * p.height + y) * p.width + x) * p.channels + c, p.dtype, sum);
        }
      }
    }
  }
}

void transpose(const TransposeParams& p, OpContext&) {
  validate(p);
  for (int64_t b = 0; b < p.batch; ++b) {
    for (int64_t r = 0; r < p.rows; ++r) {
      for (int64_t c = 0; c < p.columns; ++c) {
        set(p.out, (b * p.columns + c) * p.rows + r, p.out_dtype,
            get(p.x, (b * p.rows + r) * p.columns + c, p.x_dtype));
      }
    }
  }
}

}  // namespace vilg::ref
