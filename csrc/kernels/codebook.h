#pragma once

#include <cstdint>

#include "core/dtype.h"

namespace vilg {

// The code nearest to each vector. The result is defined by its arithmetic, so that backends agree
// bit for bit:
//   dot = fused multiply-adds over k = 0 .. dim-1 in order (float32), norm_j likewise over e_j .
//   e_j from 0, score_j = fma(-2, dot, norm_j);  the smallest score wins, the lowest index on a
//   tie.
// distance = max(0, z.z (same chain) + score): the squared Euclidean distance.
// A score that is NaN or +infinity wins against nobody: a vector that has no other gets index 0 and
// a distance that is not finite.
struct CodebookLookupParams {
  int32_t* indices = nullptr;       // (rows)
  float* distances = nullptr;       // (rows), may be null
  const float* vectors = nullptr;   // (rows, dim)
  const float* codebook = nullptr;  // (size, dim)
  int64_t rows = 0, size = 0, dim = 0;
};
void validate(const CodebookLookupParams& params);

// The index of each row's largest value, the lowest on a tie. NaN is larger than nothing: it is
// passed over, and a row of NaN and -infinity alone gives 0.
struct ArgmaxParams {
  int32_t* indices = nullptr;     // (rows)
  const float* values = nullptr;  // (rows, n)
  int64_t rows = 0, n = 0;
};
void validate(const ArgmaxParams& params);

// out[i] = table[indices[i]] + offset
struct GatherParams {
  float* out = nullptr;         // (rows, dim)
  const void* table = nullptr;  // (size, dim), table_dtype
  const int32_t* indices = nullptr;
  const float* offset = nullptr;  // (dim), may be null
  const int32_t* offset_row =
      nullptr;  // where given, offset has rows, and row *offset_row is meant
  DType table_dtype = DType::kFloat32;
  int64_t rows = 0, size = 0, dim = 0;
};
void validate(const GatherParams& params);

// dtable[indices[i]] += dout[i], each entry's sum in the order of i.
struct ScatterAddParams {
  float* dtable = nullptr;
  const float* dout = nullptr;
  const int32_t* indices = nullptr;
  int64_t rows = 0, size = 0, dim = 0;
};
void validate(const ScatterAddParams& params);

}  // namespace vilg
