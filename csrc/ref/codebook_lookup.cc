#include <cmath>
#include <limits>

#include "ref/ref_ops.h"

namespace vilg::ref {
namespace {

// The chain that defines the result: float32 on purpose, std::fma rounds once everywhere.
float chain(const float* a, const float* b, int64_t n) {
  float sum = 0;
  for (int64_t k = 0; k < n; ++k) sum = std::fma(a[k], b[k], sum);
  return sum;
}

}  // namespace

void codebook_lookup(const CodebookLookupParams& p, OpContext& ctx) {
  validate(p);
  Workspace memory(*ctx.allocator, static_cast<size_t>(p.size) * sizeof(float));
  float* norms = memory.as<float>();
  for (int64_t j = 0; j < p.size; ++j) {
    norms[j] = chain(p.codebook + j * p.dim, p.codebook + j * p.dim, p.dim);
  }
  for (int64_t row = 0; row < p.rows; ++row) {
    const float* z = p.vectors + row * p.dim;
    float best = std::numeric_limits<float>::infinity();
    int64_t index = 0;
    for (int64_t j = 0; j < p.size; ++j) {
      const float score = std::fma(-2.0f, chain(z, p.codebook + j * p.dim, p.dim), norms[j]);
      if (score < best) {
        best = score;
        index = j;
      }
    }
    p.indices[row] = static_cast<int32_t>(index);
    if (p.distances) {
      const float distance = chain(z, z, p.dim) + best;
      p.distances[row] = distance < 0 ? 0 : distance;  // NaN stays
    }
  }
}

void argmax(const ArgmaxParams& p, OpContext&) {
  validate(p);
  for (int64_t row = 0; row < p.rows; ++row) {
    float best = -std::numeric_limits<float>::infinity();
    int64_t index = 0;
    for (int64_t i = 0; i < p.n; ++i) {
      if (p.values[row * p.n + i] > best) {
        best = p.values[row * p.n + i];
        index = i;
      }
    }
    p.indices[row] = static_cast<int32_t>(index);
  }
}

}  // namespace vilg::ref
