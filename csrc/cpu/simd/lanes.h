// Partial loads and shuffles of the matrix kernels.
#pragma once

#include "cpu/simd/vec.h"

namespace {

[[maybe_unused]] inline vf round_to_bf16(vf x) {
  vh_unaligned half;
  store(reinterpret_cast<uint16_t*>(&half), x);
  return load(reinterpret_cast<const uint16_t*>(&half));
}

// the first n < kWidth elements, then zeros; masked where the instruction set can
#if defined(__AVX512F__)
[[maybe_unused]] inline vu widen(__m256i half) { return __builtin_convertvector((vh)half, vu); }
[[maybe_unused]] inline vf load_first(const float* p, int64_t n) {
  return (vf)_mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1), p);
}
[[maybe_unused]] inline vf load_first(const uint16_t* p, int64_t n) {
  return (vf)(widen(_mm256_maskz_loadu_epi16((__mmask16)((1u << n) - 1), p)) << 16);
}
#else
template <typename T>
[[maybe_unused]] inline vf load_first(const T* p, int64_t n) {
  return load_partial(p, n);
}
#endif
template <typename T>
[[maybe_unused]] inline vf load_up_to(const T* p, int64_t n) {
  return n >= kWidth ? load(p) : load_first(p, n);
}

// a0 b0 a1 b1 ... of the lower (upper) halves
#if defined(__AVX512F__)
[[maybe_unused]] inline vf interleave_low(vf a, vf b) {
  return __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
}
[[maybe_unused]] inline vf interleave_high(vf a, vf b) {
  return __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15,
                                 31);
}
#elif defined(__AVX__)
[[maybe_unused]] inline vf interleave_low(vf a, vf b) {
  return __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11);
}
[[maybe_unused]] inline vf interleave_high(vf a, vf b) {
  return __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15);
}
#else
[[maybe_unused]] inline vf interleave_low(vf a, vf b) {
  return __builtin_shufflevector(a, b, 0, 4, 1, 5);
}
[[maybe_unused]] inline vf interleave_high(vf a, vf b) {
  return __builtin_shufflevector(a, b, 2, 6, 3, 7);
}
#endif

}  // namespace
