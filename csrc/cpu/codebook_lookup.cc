#include <algorithm>
#include <limits>

#include "cpu/cpu_ops.h"
#include "cpu/isa.h"
#include "cpu/simd/codebook.h"

namespace vilg::cpu {

// A matrix product whose tiles end in a comparison instead of memory. Vector lanes are codes, never
// parts of a chain, so every instruction set gives the bits of the definition.
void codebook_lookup(const CodebookLookupParams& p, OpContext& ctx) {
  validate(p);
  const auto* simd = VILG_SIMD(codebook);
  const GemmKernels& gemm = VILG_SIMD(gemm)->f32;
  const int64_t width = simd->tile_columns;
  const int64_t panels = ceil_div(p.size, width), panel_floats = p.dim * width;
  Workspace packed(*ctx.allocator,
                   static_cast<size_t>(panels * (panel_floats + width)) * sizeof(float));
  float *codes = packed.as<float>(), *norms = codes + panels * panel_floats;
  ctx.pool->parallel_for(panels, [&](int64_t panel) {
    float* to = codes + panel * panel_floats;
    gemm.pack_b(to, p.codebook + panel * width * p.dim, kVilgFloat32, p.dim, true,
                std::min(width, p.size - panel * width), p.dim);
    simd->norms(norms + panel * width, to, p.dim);
  });
  // 4 tiles of vectors for every panel that comes from L3 (or from memory)
  const int64_t block = 4 * simd->tile_rows;
  ctx.pool->parallel_for(ceil_div(p.rows, block), [&](int64_t task) {
    ctx.check_stop();
    const int64_t begin = task * block, rows = std::min(block, p.rows - begin);
    Workspace memory(*ctx.allocator,
                     static_cast<size_t>(rows * width) * (sizeof(float) + sizeof(int32_t)));
    float* scores = memory.as<float>();
    auto* indices = reinterpret_cast<int32_t*>(scores + rows * width);
    std::fill_n(scores, rows * width, std::numeric_limits<float>::infinity());
    std::fill_n(indices, rows * width, 0);
    for (int64_t panel = 0; panel < panels; ++panel) {
      for (int64_t row = 0; row < rows; row += simd->tile_rows) {
        simd->score(scores + row * width, indices + row * width, p.vectors + (begin + row) * p.dim,
                    std::min<int64_t>(simd->tile_rows, rows - row), codes + panel * panel_floats,
                    norms + panel * width, p.dim, static_cast<int32_t>(panel * width),
                    static_cast<int32_t>(std::min(width, p.size - panel * width)));
      }
    }
    for (int64_t row = 0; row < rows; ++row) {
      float score;
      simd->best(scores + row * width, indices + row * width, &score, &p.indices[begin + row]);
      if (!p.distances) continue;
      const float distance = simd->squared_norm(p.vectors + (begin + row) * p.dim, p.dim) + score;
      p.distances[begin + row] = distance < 0 ? 0 : distance;  // NaN stays
    }
  });
}

void argmax(const ArgmaxParams& p, OpContext& ctx) {
  validate(p);
  const auto* simd = VILG_SIMD(codebook);
  const int64_t rows = std::max<int64_t>(1, (int64_t{1} << 15) / p.n);
  ctx.pool->parallel_for(ceil_div(p.rows, rows), [&](int64_t task) {
    for (int64_t row = task * rows; row < std::min(p.rows, (task + 1) * rows); ++row) {
      p.indices[row] = simd->argmax(p.values + row * p.n, p.n);
    }
  });
}

}  // namespace vilg::cpu
