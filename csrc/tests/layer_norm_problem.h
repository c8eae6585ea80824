// Operands of layer_norm, and the ops of any table run on them.
#pragma once

#include "tests/harness.h"

namespace vilg::test {

struct LayerNormCase {
  int64_t rows, channels;
  DType dtype;
  std::vector<float> x, dout, gamma, beta, dgamma, dbeta, dx;

  LayerNormCase(int64_t rows_, int64_t channels_, DType dtype_, uint32_t seed)
      : rows(rows_), channels(channels_), dtype(dtype_) {
    const auto n = static_cast<size_t>(rows * channels), c = static_cast<size_t>(channels);
    x = random_floats(n, seed, 3);
    for (float& v : x) v += 1.5f;  // a mean that the second pass has to take away
    dout = random_floats(n, seed + 1);
    gamma = random_floats(c, seed + 2);
    beta = random_floats(c, seed + 3);
    dgamma = random_floats(c, seed + 4);
    dbeta = random_floats(c, seed + 5);
    dx = random_floats(n, seed + 6);
  }
};

// Storage of the case's dtype, with what was rounded on the way in.
class Stored {
 public:
  Stored(const std::vector<float>& values, DType dtype)
      : dtype_(dtype), floats_(values.size()), halves_(values.size()) {
    for (size_t i = 0; i < values.size(); ++i) {
      floats_.data()[i] = values[i];
      halves_.data()[i] = float_to_bf16(values[i]);
    }
  }
  Stored(size_t count, DType dtype) : dtype_(dtype), floats_(count), halves_(count) {}
  void* data() {
    return dtype_ == DType::kBFloat16 ? static_cast<void*>(halves_.data()) : floats_.data();
  }
  std::vector<float> values() const {
    return dtype_ == DType::kBFloat16 ? to_float(halves_.values()) : floats_.values();
  }
  bool intact() const { return floats_.intact() && halves_.intact(); }

 private:
  DType dtype_;
  Guarded<float> floats_;
  Guarded<bf16> halves_;
};

struct LayerNormForward {
  std::vector<float> out, mean, rstd;
  bool operator==(const LayerNormForward&) const = default;
};

inline LayerNormForward forward(const OpTable& ops, const LayerNormCase& c) {
  Stored x(c.x, c.dtype), out(c.x.size(), c.dtype);
  Guarded<float> mean(static_cast<size_t>(c.rows)), rstd(static_cast<size_t>(c.rows));
  LayerNormForwardParams p;
  p.out = out.data();
  p.mean = mean.data();
  p.rstd = rstd.data();
  p.x = x.data();
  p.gamma = c.gamma.data();
  p.beta = c.beta.data();
  p.dtype = c.dtype;
  p.rows = c.rows;
  p.channels = c.channels;
  ops.layer_norm_forward(p, context());
  EXPECT(out.intact() && mean.intact() && rstd.intact(), "writes outside");
  return {out.values(), mean.values(), rstd.values()};
}

struct LayerNormBackward {
  std::vector<float> dx, dgamma, dbeta;
  bool operator==(const LayerNormBackward&) const = default;
};

inline LayerNormBackward backward(const OpTable& ops, const LayerNormCase& c,
                                  const LayerNormForward& f, bool accumulate) {
  Stored x(c.x, c.dtype), dout(c.dout, c.dtype), dx(c.dx, c.dtype);
  Stored dgamma(c.dgamma, DType::kFloat32), dbeta(c.dbeta, DType::kFloat32);
  LayerNormBackwardParams p;
  p.dx = dx.data();
  p.dgamma = static_cast<float*>(dgamma.data());
  p.dbeta = static_cast<float*>(dbeta.data());
  p.dout = dout.data();
  p.x = x.data();
  p.gamma = c.gamma.data();
  p.mean = f.mean.data();
  p.rstd = f.rstd.data();
  p.dtype = c.dtype;
  p.rows = c.rows;
  p.channels = c.channels;
  p.accumulate = accumulate;
  ops.layer_norm_backward(p, context());
  EXPECT(dx.intact() && dgamma.intact() && dbeta.intact(), "writes outside");
  return {dx.values(), dgamma.values(), dbeta.values()};
}

}  // namespace vilg::test
