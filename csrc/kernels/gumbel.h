#pragma once

#include <array>
#include <cstdint>

#include "core/philox.h"

namespace vilg {

// out = x + g, g drawn from the standard Gumbel distribution, so that the softmax of the result is
// a relaxed draw from softmax(x) (Jang et al. 2017):
//   g = -ln(-ln(u)), u = (k + 1/2) / 2^23, k the upper 23 bits of word c % 4 of
//   Philox(seed, kGumbel, row, draw * 2^32 + c / 4) for column c
// u is exact in float32; the logarithms are float32 and may differ between backends by some units
// in the last place. out may be x.
struct GumbelNoiseParams {
  float* out = nullptr;      // (rows, n)
  const float* x = nullptr;  // (rows, n)
  int64_t rows = 0, n = 0;   // below 2^32 each
  uint64_t seed = 0;
  uint32_t draw = 0;  // keeps the draws of one seed apart
};
void validate(const GumbelNoiseParams& params);

// The four words of columns 4 * quad .. 4 * quad + 3, and u of one.
VILG_HOST_DEVICE inline std::array<uint32_t, 4> gumbel_bits(uint64_t seed, uint32_t draw,
                                                            uint32_t row, uint32_t quad) {
  return philox(seed, RandomPurpose::kGumbel, row, uint64_t{draw} << 32 | quad);
}
VILG_HOST_DEVICE inline float gumbel_uniform(uint32_t bits) {
  return (static_cast<float>(bits >> 9) + 0.5f) * 0x1p-23f;
}

}  // namespace vilg
