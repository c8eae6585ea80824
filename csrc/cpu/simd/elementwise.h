#pragma once

#include <stdint.h>

#include "cpu/simd/variant.h"

namespace vilg::cpu {

struct ElementwiseSimd {
  // out = alpha x + beta y; y may be null, out may be x or y. [0] float32, [1] bfloat16
  void (*add[2])(void* out, const void* x, const void* y, int64_t n, float alpha, float beta);
  void (*to_bf16)(uint16_t* out, const float* x, int64_t n);
  void (*to_float)(float* out, const uint16_t* x, int64_t n);
};
VILG_DECLARE_SIMD(ElementwiseSimd, elementwise)

}  // namespace vilg::cpu
