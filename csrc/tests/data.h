// Operands and results of either storage type.
#pragma once

#include <algorithm>
#include <cstring>

#include "tests/harness.h"

namespace vilg::test {

constexpr DType kF = DType::kFloat32, kH = DType::kBFloat16;

// Values in either storage type; bfloat16 ones are rounded before anybody reads them, so that only
// the op's own rounding is compared.
struct Data {
  DType dtype;
  std::vector<float> f32;
  std::vector<bf16> half;
  Data(DType type, size_t count, uint32_t seed, float scale = 1.0f)
      : dtype(type), f32(random_floats(count, seed, scale)) {
    if (dtype == DType::kBFloat16) {
      half = to_bf16(f32);
      f32 = to_float(half);
    }
  }
  const void* data() const {
    return dtype == DType::kBFloat16 ? static_cast<const void*>(half.data()) : f32.data();
  }
};

struct Output {
  DType dtype;
  Guarded<float> f32;
  Guarded<bf16> half;
  Output(DType type, size_t count)
      : dtype(type),
        f32(type == DType::kFloat32 ? count : 0),
        half(type == DType::kBFloat16 ? count : 0) {}
  void fill(const Data& from) {
    if (dtype == DType::kBFloat16) {
      std::copy(from.half.begin(), from.half.end(), half.data());
    } else {
      std::copy(from.f32.begin(), from.f32.end(), f32.data());
    }
  }
  void* data() { return dtype == DType::kBFloat16 ? static_cast<void*>(half.data()) : f32.data(); }
  std::vector<float> values() const {
    return dtype == DType::kBFloat16 ? to_float(half.values()) : f32.values();
  }
  bool intact() const { return f32.intact() && half.intact(); }
};

inline bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

}  // namespace vilg::test
