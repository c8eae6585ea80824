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
    double value = read(p.x, p.dtype, pixel * p.in_channels + c);
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
          double sum = (p.bias ? p.bias[co] : 0) + (p.residual ? read(p.residual, p.dtype, at) : 0);
          for (int64_t ky = 0; ky < p.kernel_y; ++ky) {
            for (int64_t kx = 0; kx < p.kernel_x; ++kx) {
              for (int64_t c = 0; c < p.in_channels; ++c) {
                const int64_t w = ((co * p.kernel_y + ky) * p.kernel_x + kx) * p.in_channels + c;
                sum += operand(read(p.weight, p.weight_dtype, w), p.compute) *
                       input(b, y * p.stride + ky - p.pad_top, x * p.stride + kx - p.pad_left, c);
              }
            }
          }
          write(p.out, p.dtype, at, sum);
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
  const auto dout = [&](int64_t i) { return read(p.dout, p.dtype, i); };
  if (p.dx) {
    const int64_t count = p.batch * p.height * p.width * p.in_channels;
    Workspace sums(*ctx.allocator, static_cast<size_t>(count) * sizeof(double));
    double* dx = sums.as<double>();
    for (int64_t i = 0; i < count; ++i) dx[i] = p.accumulate ? read(p.dx, p.dtype, i) : 0;
    for_each_tap(p, [&](int64_t out, int64_t in, int64_t tap) {
      for (int64_t co = 0; co < p.out_channels; ++co) {
        for (int64_t c = 0; c < p.in_channels; ++c) {
          const double w = read(p.weight, p.weight_dtype, (co * taps + tap) * p.in_channels + c);
          dx[in + c] += operand(dout(out + co), p.compute) * operand(w, p.compute);
        }
      }
    });
    for (int64_t i = 0; i < count; ++i) write(p.dx, p.dtype, i, dx[i]);
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
              operand(dout(out + co), p.compute) * operand(read(p.x, p.dtype, in + c), p.compute);
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
          write(p.out, p.dtype, to, read(p.x, p.dtype, from));
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
            sum += read(p.dout, p.dtype, (row * 2 * p.width + column) * p.channels + c);
          }
          write(p.dx, p.dtype, ((b * p.height + y) * p.width + x) * p.channels + c, sum);
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
        write(p.out, p.out_dtype, (b * p.columns + c) * p.rows + r,
              read(p.x, p.x_dtype, (b * p.rows + r) * p.columns + c));
      }
    }
  }
}

}  // namespace vilg::ref
