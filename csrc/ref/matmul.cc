#include "kernels/matmul.h"

#include <cmath>

#include "ref/ref_ops.h"

namespace vilg::ref {
namespace {

constexpr double kCubic = 0.044715;
const double kScale = std::sqrt(2.0 / std::acos(-1.0));

double read(const void* data, DType dtype, int64_t i) {
  return dtype == DType::kFloat32 ? static_cast<const float*>(data)[i]
                                  : bf16_to_float(static_cast<const bf16*>(data)[i]);
}

void write(void* data, DType dtype, int64_t i, double value) {
  if (dtype == DType::kFloat32) {
    static_cast<float*>(data)[i] = static_cast<float>(value);
  } else {
    static_cast<bf16*>(data)[i] = float_to_bf16(static_cast<float>(value));
  }
}

double operand(const void* data, DType dtype, int64_t i, DType compute) {
  const double value = read(data, dtype, i);
  if (compute == DType::kFloat32) return value;
  return bf16_to_float(float_to_bf16(static_cast<float>(value)));
}

double gelu(double x) { return 0.5 * x * (1 + std::tanh(kScale * (x + kCubic * x * x * x))); }

double gelu_slope(double x) {
  const double t = std::tanh(kScale * (x + kCubic * x * x * x));
  return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * kScale * (1 + 3 * kCubic * x * x);
}

}  // namespace

void matmul(const MatmulParams& p, OpContext&) {
  validate(p);
  for (int64_t batch = 0; batch < p.batch; ++batch) {
    for (int64_t i = 0; i < p.m; ++i) {
      for (int64_t j = 0; j < p.n; ++j) {
        double sum = 0;
        for (int64_t k = 0; k < p.k; ++k) {
          const int64_t at_a = batch * p.stride_a + (p.trans_a ? k * p.lda + i : i * p.lda + k);
          const int64_t at_b = batch * p.stride_b + (p.trans_b ? j * p.ldb + k : k * p.ldb + j);
          sum +=
              operand(p.a, p.a_dtype, at_a, p.compute) * operand(p.b, p.b_dtype, at_b, p.compute);
        }
        const int64_t at = batch * p.stride_c + i * p.ldc + j;
        double x = p.alpha * sum + (p.bias ? p.bias[j] : 0.0);
        if (p.epilogue == Epilogue::kGelu) {
          if (p.pre_activation) write(p.pre_activation, p.c_dtype, at, x);
          x = gelu(x);
        } else if (p.epilogue == Epilogue::kGeluBackward) {
          x *= gelu_slope(read(p.pre_activation, p.c_dtype, at));
        }
        if (p.residual) x += read(p.residual, p.c_dtype, at);
        if (p.accumulate) x += read(p.c, p.c_dtype, at);
        write(p.c, p.c_dtype, at, x);
      }
    }
  }
}

void bias_backward(const BiasBackwardParams& p, OpContext&) {
  validate(p);
  for (int64_t j = 0; j < p.n; ++j) {
    double sum = p.dbias[j];
    for (int64_t i = 0; i < p.rows; ++i) sum += read(p.dout, p.dtype, i * p.n + j);
    p.dbias[j] = static_cast<float>(sum);
  }
}

void gelu_forward(const GeluForwardParams& p, OpContext&) {
  validate(p);
  for (int64_t i = 0; i < p.num_elements; ++i) {
    write(p.out, p.dtype, i, gelu(read(p.x, p.dtype, i)));
  }
}

void gelu_backward(const GeluBackwardParams& p, OpContext&) {
  validate(p);
  for (int64_t i = 0; i < p.num_elements; ++i) {
    double grad = read(p.dout, p.dtype, i) * gelu_slope(read(p.x, p.dtype, i));
    if (p.accumulate) grad += read(p.dx, p.dtype, i);
    write(p.dx, p.dtype, i, grad);
  }
}

}  // namespace vilg::ref
