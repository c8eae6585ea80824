// One attention problem in the layouts that the model uses, for the tests of the op's backends.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "kernels/attention_pattern.h"
#include "tests/harness.h"

namespace vilg::test {

inline constexpr Pattern kPatterns[] = {Pattern::kRow, Pattern::kColumn, Pattern::kConv,
                                        Pattern::kFull};
inline constexpr Direction kDirections[] = {Direction::kTextToImage, Direction::kImageToText};

enum class Layout { kFused, kByHead };  // [B, N, 3, H, D] and [B, H, N, D]

struct AttentionCase {
  Pattern pattern = Pattern::kRow;
  Direction direction = Direction::kTextToImage;
  int64_t text = 7, grid = 4, kernel = 3, head_size = 16, batch = 1, heads = 1;
  Layout layout = Layout::kFused;
  bool padded = false;
  DType dtype = DType::kFloat32;
  float scale_factor = 1;  // of 1 / sqrt(head_size)
  bool causal_text = false, wrapped_window = false;

  StreamSizes sizes() const { return {text, grid, kernel, causal_text, wrapped_window}; }
  std::string name() const {
    return format("pattern %d direction %d T %d G %d K %d D %d B %d H %d layout %d pad %d%s%s %s",
                  static_cast<int>(pattern), static_cast<int>(direction), static_cast<int>(text),
                  static_cast<int>(grid), static_cast<int>(kernel), static_cast<int>(head_size),
                  static_cast<int>(batch), static_cast<int>(heads), static_cast<int>(layout),
                  padded, causal_text ? " causal text" : "",
                  wrapped_window ? " wrapped window" : "", dtype_name(dtype));
  }
};

struct AttentionResult {
  std::vector<float> out, lse, dq, dk, dv;  // (B, N, H, D) and (B, H, N)
};

class AttentionProblem {
 public:
  explicit AttentionProblem(const AttentionCase& c, uint32_t seed = 1) : c_(c) {
    sizes_ = c.sizes();
    N_ = sizes_.stream_length();
    const size_t count = static_cast<size_t>(c.batch * N_ * c.heads * c.head_size);
    // large enough scores to make the softmax uneven
    qkv_ = random_floats(3 * count, seed, 2.0f);
    dout_ = random_floats(count, seed + 1);
    if (c.dtype == DType::kBFloat16) {  // so that only the op's own rounding counts
      qkv_ = to_float(to_bf16(qkv_));
      dout_ = to_float(to_bf16(dout_));
    }
    if (c.layout == Layout::kFused) {
      qkv_strides_ = {N_ * 3 * c.heads * c.head_size, 3 * c.heads * c.head_size, c.head_size};
      part_ = c.heads * c.head_size;
    } else {
      qkv_strides_ = {c.heads * N_ * c.head_size, c.head_size, N_ * c.head_size};
      part_ = static_cast<int64_t>(count);
    }
    out_strides_ = {N_ * c.heads * c.head_size, c.heads * c.head_size, c.head_size};
    if (c.padded) {
      valid_.resize(static_cast<size_t>(c.batch * c.text));
      const std::vector<float> coins = random_floats(valid_.size(), seed + 2);
      // the first sample ends in PAD, the second has holes, the third no valid token at all
      for (int64_t b = 0; b < c.batch; ++b) {
        for (int64_t j = 0; j < c.text; ++j) {
          const size_t i = static_cast<size_t>(b * c.text + j);
          valid_[i] = b % 3 == 0 ? j < (c.text + 1) / 2 : b % 3 == 1 ? coins[i] > 0 : 0;
        }
      }
    }
  }

  const AttentionCase& shape() const { return c_; }
  int64_t length() const { return N_; }
  const std::vector<uint8_t>& valid() const { return valid_; }
  std::vector<float>& qkv() { return qkv_; }
  const std::vector<float>& dout() const { return dout_; }
  float scale() const { return c_.scale_factor / std::sqrt(static_cast<float>(c_.head_size)); }
  // Where element d of the part (0 q, 1 k, 2 v) lies in qkv.
  size_t index(int part, int64_t b, int64_t n, int64_t h, int64_t d) const {
    return static_cast<size_t>(part * part_ + b * qkv_strides_.batch + n * qkv_strides_.token +
                               h * qkv_strides_.head + d);
  }

  // With `as` float32 the same (already rounded) inputs are given unrounded storage.
  AttentionResult run(const OpTable& ops, bool backward, DType as, bool with_lse = true) const {
    return run(ops, backward, as, as, with_lse);
  }
  AttentionResult run(const OpTable& ops, bool backward, DType as, DType compute,
                      bool with_lse = true) const {
    return as == DType::kFloat32 ? run_as<float>(ops, backward, compute, with_lse)
                                 : run_as<bf16>(ops, backward, compute, with_lse);
  }

 private:
  static std::vector<float> stored(const std::vector<float>& x, float*) { return x; }
  static std::vector<bf16> stored(const std::vector<float>& x, bf16*) { return to_bf16(x); }
  static std::vector<float> loaded(const std::vector<float>& x) { return x; }
  static std::vector<float> loaded(const std::vector<bf16>& x) { return to_float(x); }

  void fill(AttentionParams& p, DType dtype, DType compute) const {
    p.out_strides = out_strides_;
    p.qkv_strides = qkv_strides_;
    p.text_valid = valid_.empty() ? nullptr : valid_.data();
    p.dtype = dtype;
    p.compute = compute;
    p.batch = c_.batch;
    p.heads = c_.heads;
    p.head_size = c_.head_size;
    p.scale = scale();
    p.pattern = c_.pattern;
    p.direction = c_.direction;
    p.sizes = sizes_;
  }

  template <typename T>
  AttentionResult run_as(const OpTable& ops, bool backward, DType compute, bool with_lse) const {
    const DType dtype = sizeof(T) == 4 ? DType::kFloat32 : DType::kBFloat16;
    const std::vector<T> qkv = stored(qkv_, static_cast<T*>(nullptr));
    const std::vector<T> dout = stored(dout_, static_cast<T*>(nullptr));
    Guarded<T> out(dout.size());
    Guarded<float> lse(static_cast<size_t>(c_.batch * c_.heads * N_));
    AttentionForwardParams f;
    fill(f, dtype, compute);
    f.out = out.data();
    f.lse = with_lse ? lse.data() : nullptr;
    f.q = qkv.data();
    f.k = qkv.data() + part_;
    f.v = qkv.data() + 2 * part_;
    ops.attention_forward(f, context());
    EXPECT(out.intact() && lse.intact(), "wrote outside the output: %s", c_.name().c_str());
    AttentionResult result;
    result.out = loaded(out.values());
    result.lse = lse.values();
    if (!backward) return result;

    Guarded<T> dqkv(qkv.size());
    AttentionBackwardParams g;
    fill(g, dtype, compute);
    g.dq = dqkv.data();
    g.dk = dqkv.data() + part_;
    g.dv = dqkv.data() + 2 * part_;
    g.dout = dout.data();
    g.out = out.data();
    g.lse = lse.data();
    g.q = f.q;
    g.k = f.k;
    g.v = f.v;
    ops.attention_backward(g, context());
    EXPECT(dqkv.intact(), "wrote outside the gradients: %s", c_.name().c_str());
    const std::vector<float> all = loaded(dqkv.values());
    std::vector<float>* parts[] = {&result.dq, &result.dk, &result.dv};
    for (int part = 0; part < 3; ++part) {
      for (int64_t b = 0; b < c_.batch; ++b) {
        for (int64_t n = 0; n < N_; ++n) {
          for (int64_t h = 0; h < c_.heads; ++h) {
            for (int64_t d = 0; d < c_.head_size; ++d) {
              parts[part]->push_back(all[index(part, b, n, h, d)]);
            }
          }
        }
      }
    }
    return result;
  }

  AttentionCase c_;
  StreamSizes sizes_;
  int64_t N_, part_;
  AttentionStrides qkv_strides_, out_strides_;
  std::vector<float> qkv_, dout_;
  std::vector<uint8_t> valid_;
};

struct Errors {
  double out, lse, dq, dk, dv;
};

// Differences relative to the norm. Where rows see one or two keys dq and dk nearly cancel
// (dP - delta), so their norm gets the norm of what cancels, the gradient of v, as a floor.
inline Errors errors(const AttentionResult& a, const AttentionResult& e) {
  const auto norm = [](const std::vector<float>& x) {
    double sum = 0;
    for (float value : x) sum += static_cast<double>(value) * value;
    return std::sqrt(sum);
  };
  const double floor = norm(e.dv);
  const auto gradient = [&](const std::vector<float>& x, const std::vector<float>& y) {
    const double n = norm(y);
    return n == 0 ? norm(x) / floor : relative_error(x, y) * n / std::max(n, floor);
  };
  return {relative_error(a.out, e.out), max_abs_error(a.lse, e.lse), gradient(a.dq, e.dq),
          gradient(a.dk, e.dk), relative_error(a.dv, e.dv)};
}

// Every pattern and direction; the other dimensions vary along with them.
inline std::vector<AttentionCase> varied_cases() {
  const int64_t grids[] = {1, 2, 3, 4, 5, 8, 16}, texts[] = {1, 2, 7, 31, 32, 33};
  const int64_t kernels[] = {1, 3, 5, 11}, head_sizes[] = {8, 16, 20, 32, 64, 80, 3};
  std::vector<AttentionCase> cases;
  size_t i = 0;
  for (int64_t grid : grids) {
    for (Pattern pattern : kPatterns) {
      for (Direction direction : kDirections) {
        for (int repeat = 0; repeat < (grid <= 5 ? 2 : 1); ++repeat, ++i) {
          AttentionCase c;
          c.pattern = pattern;
          c.direction = direction;
          c.grid = grid;
          c.text = texts[(i * 5 + i / 6) % 6];
          c.kernel = kernels[(i + i / 4 + i / 16) % 4];
          c.head_size = head_sizes[(i * 3 + i / 7) % 7];
          c.layout = i / 2 % 2 ? Layout::kByHead : Layout::kFused;
          c.padded = i / 3 % 2;
          c.batch = grid <= 5 ? 3 : 2;
          c.heads = grid <= 5 ? 2 : 1;
          c.dtype = i / 5 % 2 ? DType::kBFloat16 : DType::kFloat32;
          c.causal_text = i / 2 % 3 == 1;
          cases.push_back(c);
        }
      }
    }
  }
  return cases;
}

}  // namespace vilg::test
