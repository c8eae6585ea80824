#pragma once

#include "core/dtype.h"

namespace vilg::ref {

// Element i of float32 or bfloat16 memory, as double.
inline double get(const void* data, int64_t i, DType dtype) {
  return dtype == DType::kBFloat16 ? bf16_to_float(static_cast<const bf16*>(data)[i])
                                   : static_cast<const float*>(data)[i];
}
inline void set(void* data, int64_t i, DType dtype, double value) {
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
