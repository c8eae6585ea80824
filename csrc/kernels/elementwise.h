#pragma once

#include <cstdint>

#include "core/dtype.h"

namespace vilg {

// out = alpha * x + beta * y (y may be null). out may be x or y.
struct AddParams {
  void* out = nullptr;
  const void* x = nullptr;
  const void* y = nullptr;
  DType dtype = DType::kFloat32;
  int64_t num_elements = 0;
  float alpha = 1.0f, beta = 1.0f;
};
void validate(const AddParams& params);

// Conversion between float32 and bfloat16 (round to nearest even), or a plain copy of any type. out
// and x do not overlap.
struct ConvertParams {
  void* out = nullptr;
  const void* x = nullptr;
  DType x_dtype = DType::kFloat32, out_dtype = DType::kFloat32;
  int64_t num_elements = 0;
};
void validate(const ConvertParams& params);

}  // namespace vilg
