#include <algorithm>
#include <limits>

#include "cpu/cpu_ops.h"
#include "cpu/isa.h"
#include "cpu/simd/codebook.h"
#include "cpu/simd/codebook_filter.h"

namespace vilg::cpu {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
// 4 tiles of vectors for every panel that comes from L3 (or from memory)
constexpr int64_t kTilesPerBlock = 4;
// Few vectors are divided over the codes too: into so many tasks if none has fewer panels.
constexpr int64_t kTasks = 16, kPanelsPerPart = 16;

// The codes as the kernels read them.
struct Codes {
  const VilgCodebookKernels* simd;
  const VilgCodebookFilter* filter;  // null: none
  int64_t size, dim, width, panels;
  int64_t panel_bytes, rounded_bytes;
  char* memory;  // all panels, then all that are rounded to bfloat16

  float* panel(int64_t i) const { return reinterpret_cast<float*>(memory + i * panel_bytes); }
  float* norms(int64_t i) const { return panel(i) + dim * width; }
  char* rounded(int64_t i) const { return memory + panels * panel_bytes + i * rounded_bytes; }
  int64_t columns(int64_t i) const { return std::min(width, size - i * width); }
};

// The filter costs a pass over the codes and, vector by vector, the exact scores of a panel or two
// at a quarter of a full tile's speed. Zen 4, against exact scores alone: 1.75 times as fast for
// 1024 vectors of 256 and 8192 codes, 1.3 to 1.4 times with any one of these limits instead, 1.1 to
// 1.25 at half of one; 0.88 times where all codes are nearly alike.
bool filter_pays(const CodebookLookupParams& p, int64_t panels) {
  return p.rows >= 128 && panels >= 64 && p.dim >= 64;
}

// The best of some codes for some vectors.
class Search {
 public:
  Search(const Codes& codes, const float* vectors, int64_t rows, int64_t first_panel,
         int64_t panels, Allocator& allocator)
      : codes_(codes),
        vectors_(vectors),
        rows_(rows),
        first_(first_panel),
        panels_(panels),
        rounded_row_(codes.filter ? codes.filter->vector_bytes(codes.dim) : 0),
        // in 4 bytes: the best of every lane and its index; lowest; bounds and limits
        memory_(allocator,
                static_cast<size_t>(rows * (4 * (2 * codes.width + panels + 3) + rounded_row_))),
        scores_(memory_.as<float>()),
        indices_(reinterpret_cast<int32_t*>(scores_ + rows * codes.width)),
        lowest_(scores_ + 2 * rows * codes.width),
        limits_(lowest_ + rows * panels),
        bounds_(limits_ + rows),
        rounded_(reinterpret_cast<char*>(bounds_ + 2 * rows)) {
    std::fill_n(scores_, rows * codes.width, kInfinity);
    std::fill_n(indices_, rows * codes.width, 0);
    std::fill_n(lowest_, rows * panels, -kInfinity);
    std::fill_n(limits_, rows, kInfinity);
  }

  void run(float* scores, int32_t* indices) {
    if (codes_.filter) {
      // Where codes are too alike for bfloat16 the first tile shows it.
      const int64_t tile = std::min<int64_t>(codes_.simd->tile_rows, rows_);
      filter(0, tile);
      if (kept(0, tile) <= tile * panels_ / 4) filter(tile, rows_);
    }
    for (int64_t panel = 0; panel < panels_; ++panel) {
      for (int64_t row = 0; row < rows_; row += codes_.simd->tile_rows) {
        // from the first row that needs this panel to the last: more exact scores do no harm
        int64_t begin = row, end = std::min(row + codes_.simd->tile_rows, rows_);
        while (begin < end && !needs(begin, panel)) ++begin;
        while (begin < end && !needs(end - 1, panel)) --end;
        if (begin < end) score(begin, end, panel);
      }
    }
    for (int64_t row = 0; row < rows_; ++row) best(row, &scores[row], &indices[row]);
  }

 private:
  // written so that nothing is passed over where either is NaN
  bool needs(int64_t row, int64_t panel) const {
    return !(lowest_[panel * rows_ + row] > limits_[row]);
  }
  int64_t kept(int64_t begin, int64_t end) const {
    int64_t count = 0;
    for (int64_t panel = 0; panel < panels_; ++panel) {
      for (int64_t row = begin; row < end; ++row) count += needs(row, panel);
    }
    return count;
  }

  // Lower bounds of every panel, and the exact score of the most promising one as the limit.
  void filter(int64_t begin, int64_t end) {
    const int64_t dim = codes_.dim;
    if (begin == end) return;
    codes_.filter->round_vectors(rounded_ + begin * rounded_row_, bounds_ + 2 * begin,
                                 vectors_ + begin * dim, end - begin, dim);
    for (int64_t panel = 0; panel < panels_; ++panel) {
      for (int64_t row = begin; row < end; row += codes_.simd->tile_rows) {
        codes_.filter->lowest(lowest_ + panel * rows_ + row, rounded_ + row * rounded_row_,
                              bounds_ + 2 * row,
                              std::min<int64_t>(codes_.simd->tile_rows, end - row),
                              codes_.rounded(first_ + panel), dim);
      }
    }
    for (int64_t row = begin; row < end; ++row) {
      int64_t promising = 0;
      for (int64_t panel = 1; panel < panels_; ++panel) {
        if (lowest_[panel * rows_ + row] < lowest_[promising * rows_ + row]) promising = panel;
      }
      score(row, row + 1, promising);
      int32_t index;
      best(row, &limits_[row], &index);
      lowest_[promising * rows_ + row] = kInfinity;  // done
    }
  }

  void score(int64_t begin, int64_t end, int64_t panel) {
    const int64_t i = first_ + panel, width = codes_.width;
    codes_.simd->score(scores_ + begin * width, indices_ + begin * width,
                       vectors_ + begin * codes_.dim, end - begin, codes_.panel(i), codes_.norms(i),
                       codes_.dim, static_cast<int32_t>(i * width),
                       static_cast<int32_t>(codes_.columns(i)));
  }
  void best(int64_t row, float* score, int32_t* index) const {
    codes_.simd->best(scores_ + row * codes_.width, indices_ + row * codes_.width, score, index);
  }

  const Codes& codes_;
  const float* vectors_;
  int64_t rows_, first_, panels_, rounded_row_;
  Workspace memory_;
  float* scores_;
  int32_t* indices_;
  float* lowest_;  // (panels, rows)
  float* limits_;  // (rows)
  float* bounds_;  // (rows, 2)
  char* rounded_;
};

}  // namespace

// A matrix product whose tiles end in a comparison instead of memory. Vector lanes are codes, never
// parts of a chain, so every instruction set gives the bits of the definition. Where products of
// bfloat16 are faster they rule out most codes first: simd/codebook_filter.h.
void codebook_lookup(const CodebookLookupParams& p, OpContext& ctx) {
  validate(p);
  const Isa isa = active_isa();
  const auto* simd = VILG_SIMD_OF(isa, codebook);
  const auto* filter = VILG_SIMD_OF(isa, codebook_filter);
  const GemmKernels& gemm = VILG_SIMD_OF(isa, gemm)->f32;
  const int64_t width = simd->tile_columns, panels = ceil_div(p.size, width);
  if (filter && (p.dim > filter->max_dim || !filter_pays(p, panels))) filter = nullptr;
  Codes codes{.simd = simd,
              .filter = filter,
              .size = p.size,
              .dim = p.dim,
              .width = width,
              .panels = panels,
              .panel_bytes = (p.dim + 1) * width * 4,
              .rounded_bytes = filter ? filter->panel_bytes(p.dim) : 0,
              .memory = nullptr};
  Workspace packed(*ctx.allocator,
                   static_cast<size_t>(panels * (codes.panel_bytes + codes.rounded_bytes)));
  codes.memory = packed.as<char>();
  ctx.pool->parallel_for(panels, [&](int64_t i) {
    gemm.pack_b(codes.panel(i), p.codebook + i * width * p.dim, kVilgFloat32, p.dim, true,
                codes.columns(i), p.dim);
    simd->norms(codes.norms(i), codes.panel(i), p.dim);
    if (!filter) return;
    filter->round_codes(codes.rounded(i), codes.panel(i), codes.norms(i), p.dim, codes.columns(i));
  });

  const int64_t block = kTilesPerBlock * simd->tile_rows, blocks = ceil_div(p.rows, block);
  const int64_t part_panels = std::max(kPanelsPerPart, ceil_div(panels, ceil_div(kTasks, blocks)));
  const int64_t parts = ceil_div(panels, part_panels);
  Workspace found(*ctx.allocator, static_cast<size_t>(parts * p.rows) * 8);
  auto* scores = found.as<float>();  // (parts, rows), and so are the indices
  auto* indices = reinterpret_cast<int32_t*>(scores + parts * p.rows);
  ctx.pool->parallel_for(blocks * parts, [&](int64_t task) {
    ctx.check_stop();
    const int64_t begin = task / parts * block, part = task % parts, first = part * part_panels;
    Search search(codes, p.vectors + begin * p.dim, std::min(block, p.rows - begin), first,
                  std::min(part_panels, panels - first), *ctx.allocator);
    search.run(scores + part * p.rows + begin, indices + part * p.rows + begin);
  });
  ctx.pool->parallel_for(blocks, [&](int64_t task) {
    for (int64_t row = task * block; row < std::min(p.rows, (task + 1) * block); ++row) {
      float score = scores[row];
      p.indices[row] = indices[row];
      for (int64_t part = 1; part < parts; ++part) {  // ascending, so the lowest index stays
        if (!(scores[part * p.rows + row] < score)) continue;
        score = scores[part * p.rows + row];
        p.indices[row] = indices[part * p.rows + row];
      }
      if (!p.distances) continue;
      const float distance = simd->squared_norm(p.vectors + row * p.dim, p.dim) + score;
      p.distances[row] = distance < 0 ? 0 : distance;  // NaN stays
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
