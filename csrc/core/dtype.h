#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace vilg {

enum class DType : int32_t { kFloat32, kBFloat16, kInt32, kUInt8 };

constexpr size_t dtype_size(DType dtype) {
  switch (dtype) {
    case DType::kFloat32:
    case DType::kInt32:
      return 4;
    case DType::kBFloat16:
      return 2;
    case DType::kUInt8:
      return 1;
  }
  return 0;
}

const char* dtype_name(DType dtype);  // "float32", ...

// Stored as its upper 16 bits; GCC 12 has no arithmetic on __bf16.
using bf16 = uint16_t;

inline float bf16_to_float(bf16 value) {
  const uint32_t bits = static_cast<uint32_t>(value) << 16;
  float result;
  std::memcpy(&result, &bits, 4);
  return result;
}

// Round to nearest, ties to even; NaN stays NaN.
inline bf16 float_to_bf16(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<bf16>((bits >> 16) | 0x40u);
  return static_cast<bf16>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

}  // namespace vilg
