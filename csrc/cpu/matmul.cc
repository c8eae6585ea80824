#include "kernels/matmul.h"

#include <algorithm>

#include "cpu/cpu_ops.h"
#include "cpu/isa.h"
#include "cpu/simd/gemm.h"
#include "cpu/simd/skinny.h"

namespace vilg::cpu {
namespace {

VilgStorage storage_of(DType dtype) {
  return dtype == DType::kBFloat16 ? kVilgBFloat16 : kVilgFloat32;
}

const void* element(const void* data, DType dtype, int64_t i) {
  return static_cast<const char*>(data) + i * static_cast<int64_t>(dtype_size(dtype));
}
void* element(void* data, DType dtype, int64_t i) {
  return static_cast<char*>(data) + i * static_cast<int64_t>(dtype_size(dtype));
}

// The epilogue of the part of c that begins at (batch, row, column).
GemmEpilogue epilogue_at(const MatmulParams& p, int64_t batch, int64_t row, int64_t column) {
  const int64_t at = batch * p.stride_c + row * p.ldc + column;
  GemmEpilogue e;
  e.c = element(p.c, p.c_dtype, at);
  e.pre_activation = p.pre_activation ? element(p.pre_activation, p.c_dtype, at) : nullptr;
  e.residual = p.residual ? element(p.residual, p.c_dtype, at) : nullptr;
  e.bias = p.bias ? p.bias + column : nullptr;
  e.ldc = p.ldc;
  e.alpha = p.alpha;
  e.storage = storage_of(p.c_dtype);
  e.kind = p.epilogue == Epilogue::kGelu           ? kVilgGelu
           : p.epilogue == Epilogue::kGeluBackward ? kVilgGeluBackward
                                                   : kVilgNone;
  e.accumulate = p.accumulate;
  return e;
}

// --- few rows: bound by reading b once
// ------------------------------------------------------------

SkinnyMode skinny_mode(const MatmulParams& p, const SkinnySimd* simd) {
  if (p.compute == DType::kFloat32) {
    return p.b_dtype == DType::kFloat32 ? kSkinnyFloat : kSkinnyWiden;
  }
  if (p.b_dtype == DType::kFloat32) return kSkinnyRound;
  return simd->has_pairs ? kSkinnyPairs : kSkinnyWiden;
}

// (batch, M * padded): a as the kernels read it
void convert_x(const MatmulParams& p, const SkinnySimd* simd, SkinnyMode mode, int64_t padded,
               int64_t x_bytes, char* x, OpContext& ctx) {
  Workspace gathered(*ctx.allocator,
                     p.trans_a ? static_cast<size_t>(p.k) * dtype_size(p.a_dtype) : 0);
  for (int64_t batch = 0; batch < p.batch; ++batch) {
    for (int64_t i = 0; i < p.m; ++i) {
      const void* row;
      if (!p.trans_a) {
        row = element(p.a, p.a_dtype, batch * p.stride_a + i * p.lda);
      } else {
        const void* column = element(p.a, p.a_dtype, batch * p.stride_a + i);
        if (p.a_dtype == DType::kFloat32) {
          for (int64_t k = 0; k < p.k; ++k) {
            gathered.as<float>()[k] = static_cast<const float*>(column)[k * p.lda];
          }
        } else {
          for (int64_t k = 0; k < p.k; ++k) {
            gathered.as<bf16>()[k] = static_cast<const bf16*>(column)[k * p.lda];
          }
        }
        row = gathered.data();
      }
      simd->convert_x(x + batch * p.m * padded * x_bytes, row, storage_of(p.a_dtype), mode,
                      p.compute == DType::kBFloat16, i, p.m, p.k, padded);
    }
  }
}

void matmul_skinny(const MatmulParams& p, OpContext& ctx) {
  const Isa isa = active_isa();
  const SkinnySimd* simd = VILG_SIMD_OF(isa, skinny);
  const GemmSimd* gemm = VILG_SIMD_OF(isa, gemm);
  const SkinnyMode mode = skinny_mode(p, simd);
  const int64_t padded = ceil_div(p.k, simd->x_multiple) * simd->x_multiple;
  const bool half = simd->has_pairs && (mode == kSkinnyPairs || mode == kSkinnyRound);
  const int64_t x_bytes = half ? 2 : 4;
  Workspace workspace(*ctx.allocator, static_cast<size_t>(p.batch * p.m * padded * x_bytes));
  auto* x = workspace.as<char>();
  convert_x(p, simd, mode, padded, x_bytes, x, ctx);

  // rows of b at once: what the sums on the stack hold, about 256 KB at most; a multiple of the
  // kernel's four
  constexpr int64_t kMaxRows = 64;
  // A thread reads long runs of memory rather than tasks of 98 KB by turns. By hand that looked
  // faster on two cores of Zen 4 (4.7 to 5.7 ms against 6.0 a token of 12 layers of 768), while the
  // benchmark hardly moved. Every sum is one task's, so the split does not show in the bits.
  constexpr int64_t kRangesPerThread = 2;
  const int64_t row_bytes = p.k * static_cast<int64_t>(dtype_size(p.b_dtype));
  const int64_t rows = std::clamp(262144 / row_bytes / 4 * 4, int64_t{16}, kMaxRows);
  const int64_t pieces = p.batch * ceil_div(p.n, rows);
  const int64_t ranges = std::min<int64_t>(pieces, kRangesPerThread * ctx.pool->num_threads());
  ctx.pool->parallel_for(ranges, [&](int64_t range) {
    ctx.check_stop();
    alignas(64) float acc[kSkinnyRows * kMaxRows];  // 16 KB of stack
    for (int64_t piece = range * pieces / ranges; piece < (range + 1) * pieces / ranges; ++piece) {
      const int64_t batch = piece / (pieces / p.batch), first = piece % (pieces / p.batch) * rows;
      const int64_t n = std::min(rows, p.n - first);
      simd->dots(acc, kMaxRows, x + batch * p.m * padded * x_bytes, padded, p.m,
                 element(p.b, p.b_dtype, batch * p.stride_b + first * p.ldb), p.ldb, n, p.k, mode);
      const GemmEpilogue e = epilogue_at(p, batch, 0, first);
      gemm->epilogue(&e, acc, kMaxRows, p.m, n);
    }
  });
}

// --- tiles
// ----------------------------------------------------------------------------------------

// How c is cut up. Depends on the shape and the instruction set alone, not on the threads.
struct TilePlan {
  int64_t kc, k_blocks;               // elements of K to a block
  int64_t m_panels, n_panels;         // of the whole matrix
  int64_t task_m, task_n;             // panels to a task
  int64_t stage_batch, stage_panels;  // packed b held at once: matrices, panels of each
  bool pack_a_first;                  // all of a packed once, not block by block in every task
};

constexpr int64_t kBlockBytes = 1024;          // K block: 256 floats or 512 bfloat16
constexpr int64_t kMaxTaskM = 12;              // panels: 168 rows of A x 1 KB = 168 KB of L2
constexpr int64_t kMaxTaskColumns = 768;       // 168 x 768 floats of unfinished sums = 504 KB of L2
constexpr int64_t kStageBytes = 64 << 20;      // of packed b
constexpr int64_t kPackAFirst = 16 << 20;      // bytes of packed a
constexpr int64_t kMinTasks = 32;              // threads finish within a few percent of each other
constexpr int64_t kMinTaskProducts = 1 << 22;  // and a task stays long against taking it

TilePlan plan_tiles(const MatmulParams& p, const GemmKernels& kernels) {
  TilePlan plan;
  const int64_t max_kc = kBlockBytes / kernels.element_bytes;
  plan.k_blocks = ceil_div(p.k, max_kc);
  plan.kc = ceil_div(ceil_div(p.k, plan.k_blocks), 8) * 8;
  plan.k_blocks = ceil_div(p.k, plan.kc);
  plan.m_panels = ceil_div(p.m, kernels.mr);
  plan.n_panels = ceil_div(p.n, kernels.nr);
  int64_t m_blocks = ceil_div(plan.m_panels, kMaxTaskM);
  int64_t n_blocks = ceil_div(plan.n_panels, kMaxTaskColumns / kernels.nr);
  const int64_t products = p.batch * p.m * p.n * p.k;
  const int64_t tasks =
      std::min(kMinTasks, std::max(int64_t{1}, products / kMinTaskProducts)) / p.batch;
  while (m_blocks * n_blocks < tasks) {  // halve the longer side of a task
    const int64_t rows = p.m / m_blocks, columns = p.n / n_blocks;
    if (columns > rows && n_blocks < plan.n_panels) {
      n_blocks = std::min(2 * n_blocks, plan.n_panels);
    } else if (m_blocks < plan.m_panels) {
      m_blocks = std::min(2 * m_blocks, plan.m_panels);
    } else if (n_blocks < plan.n_panels) {
      n_blocks = std::min(2 * n_blocks, plan.n_panels);
    } else {
      break;
    }
  }
  plan.task_m = ceil_div(plan.m_panels, m_blocks);
  plan.task_n = ceil_div(plan.n_panels, n_blocks);
  n_blocks = ceil_div(plan.n_panels, plan.task_n);

  const int64_t panel_bytes = plan.k_blocks * gemm_panel_bytes(&kernels, kernels.nr, plan.kc);
  const int64_t b_bytes = panel_bytes * plan.n_panels;
  plan.stage_batch = std::clamp(kStageBytes / b_bytes, int64_t{1}, p.batch);
  const int64_t stage_blocks =
      std::clamp(kStageBytes / (panel_bytes * plan.task_n), int64_t{1}, n_blocks);
  plan.stage_panels = std::min(stage_blocks * plan.task_n, plan.n_panels);
  const int64_t a_bytes =
      plan.m_panels * plan.k_blocks * gemm_panel_bytes(&kernels, kernels.mr, plan.kc);
  plan.pack_a_first = n_blocks > 1 && a_bytes * plan.stage_batch <= kPackAFirst;
  return plan;
}

class TiledMatmul {
 public:
  TiledMatmul(const MatmulParams& p, OpContext& ctx)
      : p_(p),
        ctx_(ctx),
        simd_(VILG_SIMD(gemm)),
        kernels_(p.compute == DType::kBFloat16 ? simd_->bf16 : simd_->f32),
        plan_(plan_tiles(p, kernels_)),
        a_panel_(gemm_panel_bytes(&kernels_, kernels_.mr, plan_.kc)),
        b_panel_(gemm_panel_bytes(&kernels_, kernels_.nr, plan_.kc)),
        packed_b_(*ctx.allocator, static_cast<size_t>(plan_.stage_batch * plan_.k_blocks *
                                                      plan_.stage_panels * b_panel_)),
        packed_a_(*ctx.allocator, plan_.pack_a_first
                                      ? static_cast<size_t>(plan_.stage_batch * plan_.k_blocks *
                                                            plan_.m_panels * a_panel_)
                                      : 0) {}

  void run() {
    const int64_t m_blocks = ceil_div(plan_.m_panels, plan_.task_m);
    for (int64_t batch = 0; batch < p_.batch; batch += plan_.stage_batch) {
      const int64_t matrices = std::min(plan_.stage_batch, p_.batch - batch);
      if (plan_.pack_a_first) pack_a_stage(batch, matrices);
      for (int64_t panel = 0; panel < plan_.n_panels; panel += plan_.stage_panels) {
        const int64_t panels = std::min(plan_.stage_panels, plan_.n_panels - panel);
        pack_b_stage(batch, matrices, panel, panels);
        const int64_t n_blocks = ceil_div(panels, plan_.task_n);
        ctx_.pool->parallel_for(matrices * m_blocks * n_blocks, [&](int64_t task) {
          ctx_.check_stop();
          const int64_t matrix = task / (m_blocks * n_blocks);
          const int64_t m = task / n_blocks % m_blocks * plan_.task_m;
          const int64_t n = task % n_blocks * plan_.task_n;
          run_task(batch + matrix, matrix, m, std::min(plan_.task_m, plan_.m_panels - m), panel + n,
                   n, std::min(plan_.task_n, panels - n));
        });
      }
    }
  }

 private:
  int64_t k_length(int64_t k_block) const { return std::min(plan_.kc, p_.k - k_block * plan_.kc); }

  void pack_a(char* to, int64_t batch, int64_t k_block, int64_t panel) const {
    const int64_t row = panel * kernels_.mr, k = k_block * plan_.kc;
    const int64_t at = batch * p_.stride_a + (p_.trans_a ? k * p_.lda + row : row * p_.lda + k);
    kernels_.pack_a(to, element(p_.a, p_.a_dtype, at), storage_of(p_.a_dtype), p_.lda, !p_.trans_a,
                    std::min<int64_t>(kernels_.mr, p_.m - row), k_length(k_block));
  }

  void pack_b(char* to, int64_t batch, int64_t k_block, int64_t panel) const {
    const int64_t column = panel * kernels_.nr, k = k_block * plan_.kc;
    const int64_t at =
        batch * p_.stride_b + (p_.trans_b ? column * p_.ldb + k : k * p_.ldb + column);
    kernels_.pack_b(to, element(p_.b, p_.b_dtype, at), storage_of(p_.b_dtype), p_.ldb, p_.trans_b,
                    std::min<int64_t>(kernels_.nr, p_.n - column), k_length(k_block));
  }

  // packed b: [matrix of the stage][K block][panel of the stage]
  char* packed_b(int64_t matrix, int64_t k_block, int64_t stage_panel) const {
    return packed_b_.as<char>() +
           ((matrix * plan_.k_blocks + k_block) * plan_.stage_panels + stage_panel) * b_panel_;
  }
  // packed a, where it is packed first: [matrix of the stage][K block][panel]
  char* packed_a(int64_t matrix, int64_t k_block, int64_t panel) const {
    return packed_a_.as<char>() +
           ((matrix * plan_.k_blocks + k_block) * plan_.m_panels + panel) * a_panel_;
  }

  // Runs pack(matrix, k_block, panel) for all, a few panels (128 KB or more) to a task.
  template <class Pack>
  void for_panels(int64_t matrices, int64_t panels, int64_t panel_bytes, const Pack& pack) {
    const int64_t group = std::max(int64_t{1}, 131072 / panel_bytes);
    const int64_t groups = ceil_div(panels, group);
    ctx_.pool->parallel_for(matrices * plan_.k_blocks * groups, [&](int64_t task) {
      ctx_.check_stop();
      const int64_t first = task % groups * group;
      for (int64_t i = first; i < std::min(first + group, panels); ++i) {
        pack(task / groups / plan_.k_blocks, task / groups % plan_.k_blocks, i);
      }
    });
  }

  void pack_a_stage(int64_t batch, int64_t matrices) {
    for_panels(matrices, plan_.m_panels, a_panel_, [&](int64_t matrix, int64_t kb, int64_t panel) {
      pack_a(packed_a(matrix, kb, panel), batch + matrix, kb, panel);
    });
  }

  void pack_b_stage(int64_t batch, int64_t matrices, int64_t first, int64_t panels) {
    for_panels(matrices, panels, b_panel_, [&](int64_t matrix, int64_t kb, int64_t panel) {
      pack_b(packed_b(matrix, kb, panel), batch + matrix, kb, first + panel);
    });
  }

  // c of panels [m, m + task_m) x [n, n + task_n); stage_n is where those lie in the packed b.
  void run_task(int64_t batch, int64_t matrix, int64_t m, int64_t task_m, int64_t n,
                int64_t stage_n, int64_t task_n) {
    const int64_t tile_size = kernels_.mr * kernels_.nr;
    const bool one_block = plan_.k_blocks == 1;
    const int64_t a_bytes = plan_.pack_a_first ? 0 : task_m * a_panel_;
    const int64_t num_tiles = one_block ? 1 : task_m * task_n;
    Workspace workspace(*ctx_.allocator, static_cast<size_t>(a_bytes + num_tiles * tile_size * 4));
    char* own_a = workspace.as<char>();
    float* sums = reinterpret_cast<float*>(own_a + a_bytes);

    for (int64_t kb = 0; kb < plan_.k_blocks; ++kb) {
      const char* a = own_a;
      if (plan_.pack_a_first) {
        a = packed_a(matrix, kb, m);
      } else {
        for (int64_t i = 0; i < task_m; ++i) pack_a(own_a + i * a_panel_, batch, kb, m + i);
      }
      const int64_t k = k_length(kb);
      const bool last = kb + 1 == plan_.k_blocks;
      for (int64_t j = 0; j < task_n; ++j) {
        const char* b = packed_b(matrix, kb, stage_n + j);
        for (int64_t i = 0; i < task_m; ++i) {
          float* sum = sums + (one_block ? 0 : (j * task_m + i) * tile_size);
          kernels_.tile(sum, kernels_.nr, a + i * a_panel_, b, k, kb > 0);
          if (last) finish(batch, m + i, n + j, sum);
        }
      }
    }
  }

  void finish(int64_t batch, int64_t m, int64_t n, const float* sum) const {
    const int64_t row = m * kernels_.mr, column = n * kernels_.nr;
    const GemmEpilogue e = epilogue_at(p_, batch, row, column);
    simd_->epilogue(&e, sum, kernels_.nr, std::min<int64_t>(kernels_.mr, p_.m - row),
                    std::min<int64_t>(kernels_.nr, p_.n - column));
  }

  const MatmulParams& p_;
  OpContext& ctx_;
  const GemmSimd* simd_;
  const GemmKernels& kernels_;
  const TilePlan plan_;
  const int64_t a_panel_, b_panel_;  // bytes
  Workspace packed_b_, packed_a_;
};

}  // namespace

void matmul(const MatmulParams& p, OpContext& ctx) {
  validate(p);
  // The choice must not depend on m within the rows that kSkinnyRows promises to treat alike.
  if (p.m <= kSkinnyRows && p.trans_b) {
    matmul_skinny(p, ctx);
  } else {
    TiledMatmul(p, ctx).run();
  }
}

}  // namespace vilg::cpu
