#include <cmath>
#include <vector>

#include "kernels/attention_pattern.h"
#include "ref/ref_ops.h"

namespace vilg::ref {
namespace {

double get(const void* data, DType dtype, int64_t i) {
  return dtype == DType::kFloat32 ? static_cast<const float*>(data)[i]
                                  : bf16_to_float(static_cast<const bf16*>(data)[i]);
}

void put(void* data, DType dtype, int64_t i, double value) {
  if (dtype == DType::kFloat32) {
    static_cast<float*>(data)[i] = static_cast<float>(value);
  } else {
    static_cast<bf16*>(data)[i] = float_to_bf16(static_cast<float>(value));
  }
}

int64_t offset(const AttentionStrides& s, int64_t b, int64_t n, int64_t h) {
  return b * s.batch + n * s.token + h * s.head;
}

// scores[j] = scale * q_i . k_j, -infinity where query i does not see key j; returns the log of
// the sum of their exponentials
double score_row(const AttentionParams& p, int64_t b, int64_t h, int64_t i,
                 std::vector<double>& scores) {
  const int64_t N = p.sizes.stream_length(), D = p.head_size;
  const uint8_t* valid = p.text_valid ? p.text_valid + b * p.sizes.text_length : nullptr;
  const int64_t q = offset(p.qkv_strides, b, i, h);
  double largest = -INFINITY;
  for (int64_t j = 0; j < N; ++j) {
    scores[j] = -INFINITY;
    if (!attends(p.pattern, p.direction, i, j, p.sizes, valid)) continue;
    const int64_t k = offset(p.qkv_strides, b, j, h);
    double dot = 0;
    for (int64_t d = 0; d < D; ++d) dot += get(p.q, p.dtype, q + d) * get(p.k, p.dtype, k + d);
    scores[j] = p.scale * dot;
    largest = std::max(largest, scores[j]);
  }
  double sum = 0;
  for (int64_t j = 0; j < N; ++j) sum += std::exp(scores[j] - largest);
  return largest + std::log(sum);
}

}  // namespace

void attention_forward(const AttentionForwardParams& p, OpContext&) {
  validate(p);
  const int64_t N = p.sizes.stream_length(), D = p.head_size;
  std::vector<double> scores(N), out(D);
  for (int64_t b = 0; b < p.batch; ++b) {
    for (int64_t h = 0; h < p.heads; ++h) {
      for (int64_t i = 0; i < N; ++i) {
        const double lse = score_row(p, b, h, i, scores);
        out.assign(D, 0.0);
        for (int64_t j = 0; j < N; ++j) {
          if (scores[j] == -INFINITY) continue;
          const double weight = std::exp(scores[j] - lse);
          const int64_t v = offset(p.qkv_strides, b, j, h);
          for (int64_t d = 0; d < D; ++d) out[d] += weight * get(p.v, p.dtype, v + d);
        }
        const int64_t o = offset(p.out_strides, b, i, h);
        for (int64_t d = 0; d < D; ++d) put(p.out, p.dtype, o + d, out[d]);
        if (p.lse) p.lse[(b * p.heads + h) * N + i] = static_cast<float>(lse);
      }
    }
  }
}

// With P = softmax(S), dP = dO v^T and delta_i = dO_i . O_i: dS = P (dP - delta),
// dq = scale dS k, dk = scale dS^T q, dv = P^T dO. Everything is computed again from q, k, v here;
// `out` and `lse` are what a fast version would start from.
void attention_backward(const AttentionBackwardParams& p, OpContext&) {
  validate(p);
  const int64_t N = p.sizes.stream_length(), D = p.head_size;
  std::vector<double> scores(N), dp(N), dq(D), dk(N * D), dv(N * D);
  for (int64_t b = 0; b < p.batch; ++b) {
    for (int64_t h = 0; h < p.heads; ++h) {
      dk.assign(N * D, 0.0);
      dv.assign(N * D, 0.0);
      for (int64_t i = 0; i < N; ++i) {
        const double lse = score_row(p, b, h, i, scores);
        const int64_t q = offset(p.qkv_strides, b, i, h), o = offset(p.out_strides, b, i, h);
        double delta = 0;
        for (int64_t j = 0; j < N; ++j) {
          if (scores[j] == -INFINITY) continue;
          const int64_t k = offset(p.qkv_strides, b, j, h);
          dp[j] = 0;
          for (int64_t d = 0; d < D; ++d) {
            dp[j] += get(p.dout, p.dtype, o + d) * get(p.v, p.dtype, k + d);
          }
          delta += std::exp(scores[j] - lse) * dp[j];  // = dO . O
        }
        dq.assign(D, 0.0);
        for (int64_t j = 0; j < N; ++j) {
          if (scores[j] == -INFINITY) continue;
          const double weight = std::exp(scores[j] - lse);
          const double ds = p.scale * weight * (dp[j] - delta);
          const int64_t k = offset(p.qkv_strides, b, j, h);
          for (int64_t d = 0; d < D; ++d) {
            dq[d] += ds * get(p.k, p.dtype, k + d);
            dk[j * D + d] += ds * get(p.q, p.dtype, q + d);
            dv[j * D + d] += weight * get(p.dout, p.dtype, o + d);
          }
        }
        for (int64_t d = 0; d < D; ++d) put(p.dq, p.dtype, q + d, dq[d]);
      }
      for (int64_t j = 0; j < N; ++j) {
        const int64_t k = offset(p.qkv_strides, b, j, h);
        for (int64_t d = 0; d < D; ++d) {
          put(p.dk, p.dtype, k + d, dk[j * D + d]);
          put(p.dv, p.dtype, k + d, dv[j * D + d]);
        }
      }
    }
  }
}

void attention_decode(const AttentionDecodeParams& params, OpContext&) {
  const AttentionDecodeParams p = resolved(params);
  const int64_t D = p.head_size, num_keys = p.prefix_length + p.num_slots;
  std::vector<double> scores(num_keys), out(D);
  for (int64_t row = 0; row < p.rows; ++row) {
    for (int64_t h = 0; h < p.heads; ++h) {
      const auto key_offset = [&](int64_t j) {
        if (j < p.prefix_length) return (h * p.prefix_capacity + j) * D;
        return ((row * p.heads + h) * p.own_capacity + p.slots[j - p.prefix_length]) * D;
      };
      const float* q = p.q + row * p.q_stride + h * D;
      double largest = -INFINITY, sum = 0;
      for (int64_t j = 0; j < num_keys; ++j) {
        const void* k = j < p.prefix_length ? p.prefix_k : p.own_k;
        double dot = 0;
        for (int64_t d = 0; d < D; ++d) dot += q[d] * get(k, p.cache_dtype, key_offset(j) + d);
        scores[j] = p.scale * dot;
        largest = std::max(largest, scores[j]);
      }
      for (int64_t j = 0; j < num_keys; ++j) sum += scores[j] = std::exp(scores[j] - largest);
      out.assign(D, 0.0);
      for (int64_t j = 0; j < num_keys; ++j) {
        const void* v = j < p.prefix_length ? p.prefix_v : p.own_v;
        for (int64_t d = 0; d < D; ++d) {
          out[d] += scores[j] / sum * get(v, p.cache_dtype, key_offset(j) + d);
        }
      }
      for (int64_t d = 0; d < D; ++d) {
        p.out[row * p.out_stride + h * D + d] = static_cast<float>(out[d]);
      }
    }
  }
}

}  // namespace vilg::ref
