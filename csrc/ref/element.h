#pragma once

#include <cstdint>

#include "core/dtype.h"

// Elements of a float32 or bfloat16 array as doubles.
namespace vilg::ref {

inline double read(const void* data, DType dtype, int64_t i) {
  return dtype == DType::kBFloat16 ? bf16_to_float(static_cast<const bf16*>(data)[i])
                                   : static_cast<const float*>(data)[i];
}

inline void write(void* data, DType dtype, int64_t i, double value) {
  if (dtype == DType::kBFloat16) {
    static_cast<bf16*>(data)[i] = float_to_bf16(static_cast<float>(value));
  } else {
    static_cast<float*>(data)[i] = static_cast<float>(value);
  }
}

// An operand of a product of type `compute`.
inline double operand(double value, DType compute) {
  return compute == DType::kBFloat16 ? bf16_to_float(float_to_bf16(static_cast<float>(value)))
                                     : value;
}

}  // namespace vilg::ref
