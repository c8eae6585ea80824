#include <algorithm>
#include <cstring>

#include "cpu/convolution_engine.h"
#include "cpu/cpu_ops.h"
#include "cpu/isa.h"
#include "cpu/simd/convolution.h"

namespace vilg::cpu {
namespace {

// dx[iy] = sum over oy * s + ky - pad = iy. For rows iy = s * q + r only the taps ky = k0 + s * m
// with k0 = (r + pad) mod s take part, and they read dout row q + (r + pad - k0) / s - m: a
// stride-1 convolution of dout with every s-th tap in reverse.
struct InputPhase {
  int64_t taps, first, base;  // first: dout row of tap 0 for q = 0; base: ky of tap 0
  InputPhase(int64_t r, int64_t pad, int64_t kernel, int64_t s) {
    const int64_t k0 = (r + pad) % s;
    taps = k0 < kernel ? (kernel - k0 + s - 1) / s : 0;
    first = (r + pad - k0) / s - (taps - 1);
    base = k0 + s * (taps - 1);
    if (taps == 0) first = base = 0;
  }
};

void input_gradient(const Conv2dBackwardParams& p, OpContext& ctx) {
  ConvProblem problem;
  problem.out = p.dx;
  problem.x = p.dout;
  problem.residual = p.accumulate ? p.dx : nullptr;
  problem.dtype = p.dtype;
  problem.compute = p.compute;
  problem.batch = p.batch;
  problem.height = p.out_height();
  problem.width = p.out_width();
  problem.in_channels = p.out_channels;
  problem.out_height = p.height;
  problem.out_width = p.width;
  problem.out_channels = p.in_channels;
  problem.out_step = p.stride;
  std::vector<ConvPhase> phases;
  for (int64_t ry = 0; ry < std::min(p.stride, p.height); ++ry) {
    for (int64_t rx = 0; rx < std::min(p.stride, p.width); ++rx) {
      const InputPhase y(ry, p.pad_top, p.kernel_y, p.stride);
      const InputPhase x(rx, p.pad_left, p.kernel_x, p.stride);
      ConvPhase phase;
      if (y.taps > 0 && x.taps > 0) {
        phase.taps_y = y.taps;
        phase.taps_x = x.taps;
        phase.in_y = y.first;
        phase.in_x = x.first;
      }
      phase.out_y = ry;
      phase.out_x = rx;
      phase.out_height = ceil_div(p.height - ry, p.stride);
      phase.out_width = ceil_div(p.width - rx, p.stride);
      phase.weights = p.weight;
      phase.weight_dtype = p.weight_dtype;
      phase.n_stride = 1;
      phase.k_stride = p.kernel_y * p.kernel_x * p.in_channels;
      phase.tap_base = (y.base * p.kernel_x + x.base) * p.in_channels;
      phase.tap_y_stride = -p.stride * p.kernel_x * p.in_channels;
      phase.tap_x_stride = -p.stride * p.in_channels;
      phases.push_back(phase);
    }
  }
  run_convolution(problem, phases, ctx);
}

constexpr int64_t kPixels = 256;           // of one block of products
constexpr int64_t kPixelsPerChunk = 1024;  // at least, where there are so many
constexpr int64_t kMaxPartialBytes = int64_t{64} << 20;
constexpr int64_t kTasks = 16;

// dweight[co][ky][kx, ci] += sum over pixels of dout[pixel][co] * x[row(pixel) + ky][kx, ci]: a
// product over pixels whose right side is runs of kx * Cin neighbours. Chunks of output rows have
// partial sums of their own, which are added in order.
class WeightGradient {
 public:
  WeightGradient(const Conv2dBackwardParams& params, OpContext& ctx, Isa isa = active_isa())
      : p_(params),
        ctx_(ctx),
        conv_(VILG_SIMD_OF(isa, convolution)),
        simd_(VILG_SIMD_OF(isa, gemm)),
        gemm_(p_.compute == DType::kBFloat16 ? &simd_->bf16 : &simd_->f32) {
    out_height_ = p_.out_height();
    out_width_ = p_.out_width();
    bytes_ = static_cast<int64_t>(dtype_size(p_.dtype));
    // short runs (an image's 3 channels) would leave most of a panel empty: lay all of them side by
    // side first
    const int64_t run = p_.kernel_x * p_.in_channels;
    side_by_side_ = run < gemm_->nr;
    segments_ = side_by_side_ ? 1 : p_.kernel_y;
    segment_ = side_by_side_ ? p_.kernel_y * run : run;
    segment_panels_ = ceil_div(segment_, gemm_->nr);
    panels_ = segments_ * segment_panels_;
    co_tiles_ = ceil_div(p_.out_channels, gemm_->mr);
    ld_ = panels_ * gemm_->nr;
    rows_ = std::clamp<int64_t>(kPixels / out_width_, 1, out_height_);
    const int64_t all_rows = p_.batch * out_height_;
    const int64_t partial_bytes = co_tiles_ * gemm_->mr * ld_ * 4;
    chunks_ = std::min({kTasks, ceil_div(all_rows * out_width_, kPixelsPerChunk), all_rows,
                        std::max<int64_t>(1, kMaxPartialBytes / partial_bytes)});
    slices_ = std::clamp<int64_t>(ceil_div(kTasks, chunks_), 1, std::max<int64_t>(1, panels_ / 4));
  }

  void run() {
    const int64_t floats = co_tiles_ * gemm_->mr * ld_;
    Workspace partials(*ctx_.allocator, static_cast<size_t>(chunks_ * floats) * sizeof(float));
    ctx_.pool->parallel_for(chunks_ * slices_, [&](int64_t task) {
      ctx_.check_stop();
      run_chunk(task / slices_, task % slices_, partials.as<float>() + task / slices_ * floats);
    });
    ctx_.pool->parallel_for(p_.out_channels, [&](int64_t co) {
      float* to = p_.dweight + co * segments_ * segment_;
      for (int64_t segment = 0; segment < segments_; ++segment) {
        for (int64_t chunk = 0; chunk < chunks_; ++chunk) {
          conv_->add(to + segment * segment_,
                     partials.as<float>() + chunk * floats + co * ld_ +
                         segment * segment_panels_ * gemm_->nr,
                     segment_);
        }
      }
    });
  }

 private:
  int64_t padded_width() const { return (out_width_ - 1) * p_.stride + p_.kernel_x; }

  // Row y of image b with its padding, in x's own type.
  void copy_row(char* to, int64_t b, int64_t y) const {
    const int64_t pixel = p_.in_channels * bytes_, width = padded_width();
    const int64_t left = std::min(p_.pad_left, width);
    const int64_t inside = std::clamp<int64_t>(p_.width, 0, width - left);
    if (y < 0 || y >= p_.height) {
      std::memset(to, 0, static_cast<size_t>(width * pixel));
      return;
    }
    std::memset(to, 0, static_cast<size_t>(left * pixel));
    std::memcpy(to + left * pixel,
                static_cast<const char*>(p_.x) + (b * p_.height + y) * p_.width * pixel,
                static_cast<size_t>(inside * pixel));
    std::memset(to + (left + inside) * pixel, 0,
                static_cast<size_t>((width - left - inside) * pixel));
  }

  void run_chunk(int64_t chunk, int64_t slice, float* partial) const {
    const int64_t all_rows = p_.batch * out_height_;
    const int64_t begin = chunk * all_rows / chunks_, end = (chunk + 1) * all_rows / chunks_;
    const int64_t panel_begin = slice * panels_ / slices_;
    const int64_t panel_end = (slice + 1) * panels_ / slices_;
    const VilgStorage storage = p_.dtype == DType::kBFloat16 ? kVilgBFloat16 : kVilgFloat32;
    const int64_t in_rows = (rows_ - 1) * p_.stride + p_.kernel_y;
    const int64_t row_bytes = padded_width() * p_.in_channels * bytes_;
    // where every row begins with a whole unit of k, so that odd widths may follow one another
    const int64_t a_row_bytes = gemm_panel_bytes(gemm_, gemm_->mr, out_width_);
    const int64_t b_row_bytes = gemm_panel_bytes(gemm_, gemm_->nr, out_width_);
    const int64_t row_k = ceil_div(out_width_, gemm_->k_step) * gemm_->k_step;
    const auto aligned = [](int64_t size) { return (size + 63) / 64 * 64; };
    const int64_t x_bytes = aligned(in_rows * row_bytes);
    const int64_t side_bytes = side_by_side_ ? aligned(out_width_ * segment_ * bytes_) : 0;
    const int64_t a_bytes = aligned(rows_ * a_row_bytes);
    Workspace memory(
        *ctx_.allocator,
        static_cast<size_t>(x_bytes + side_bytes + co_tiles_ * a_bytes + rows_ * b_row_bytes));
    char* x = memory.as<char>();
    char* side = x + x_bytes;
    char* a = side + side_bytes;
    char* b_panel = a + co_tiles_ * a_bytes;

    bool first = true;
    for (int64_t row = begin; row < end;) {
      const int64_t image = row / out_height_, y = row % out_height_;
      const int64_t rows = std::min({rows_, end - row, out_height_ - y});
      for (int64_t i = 0; i < (rows - 1) * p_.stride + p_.kernel_y; ++i) {
        copy_row(x + i * row_bytes, image, y * p_.stride - p_.pad_top + i);
      }
      for (int64_t tile = 0; tile < co_tiles_; ++tile) {
        const int64_t co = tile * gemm_->mr;
        const char* from =
            static_cast<const char*>(p_.dout) + (row * out_width_ * p_.out_channels + co) * bytes_;
        for (int64_t r = 0; r < rows; ++r) {
          gemm_->pack_a(a + tile * a_bytes + r * a_row_bytes,
                        from + r * out_width_ * p_.out_channels * bytes_, storage, p_.out_channels,
                        false, std::min<int64_t>(gemm_->mr, p_.out_channels - co), out_width_);
        }
      }
      for (int64_t panel = panel_begin; panel < panel_end; ++panel) {
        const int64_t segment = panel / segment_panels_;
        const int64_t column = panel % segment_panels_ * gemm_->nr;
        const int64_t count = std::min<int64_t>(gemm_->nr, segment_ - column);
        for (int64_t r = 0; r < rows; ++r) {
          const char* from = x + (r * p_.stride + segment) * row_bytes;
          int64_t ld = p_.stride * p_.in_channels;
          if (side_by_side_) {
            lay_side_by_side(side, from, row_bytes);
            from = side;
            ld = segment_;
          }
          gemm_->pack_b(b_panel + r * b_row_bytes, from + column * bytes_, storage, ld, false,
                        count, out_width_);
        }
        for (int64_t tile = 0; tile < co_tiles_; ++tile) {
          gemm_->tile(partial + tile * gemm_->mr * ld_ + panel * gemm_->nr, ld_, a + tile * a_bytes,
                      b_panel, rows * row_k, !first);
        }
      }
      first = false;
      row += rows;
    }
  }

  // (out_width, Ky, Kx, Cin) of one output row
  void lay_side_by_side(char* to, const char* from, int64_t row_bytes) const {
    const int64_t run = p_.kernel_x * p_.in_channels * bytes_;
    const int64_t step = p_.stride * p_.in_channels * bytes_;
    for (int64_t x = 0; x < out_width_; ++x) {
      for (int64_t ky = 0; ky < p_.kernel_y; ++ky, to += run) {
        std::memcpy(to, from + ky * row_bytes + x * step, static_cast<size_t>(run));
      }
    }
  }

  const Conv2dBackwardParams& p_;
  OpContext& ctx_;
  const VilgConvolutionKernels* conv_;
  const GemmSimd* simd_;
  const GemmKernels* gemm_;
  int64_t out_height_, out_width_, bytes_;
  bool side_by_side_;
  int64_t segments_, segment_, segment_panels_, panels_;  // columns: Ky segments of Kx * Cin
  int64_t co_tiles_, ld_;
  int64_t rows_, chunks_, slices_;
};

}  // namespace

void conv2d_backward(const Conv2dBackwardParams& p, OpContext& ctx) {
  validate(p);
  if (p.dweight) WeightGradient(p, ctx).run();
  if (p.dbias) {
    BiasBackwardParams bias;
    bias.dbias = p.dbias;
    bias.dout = p.dout;
    bias.dtype = p.dtype;
    bias.rows = p.batch * p.out_height() * p.out_width();
    bias.n = p.out_channels;
    bias_backward(bias, ctx);
  }
  if (p.dx) input_gradient(p, ctx);
}

}  // namespace vilg::cpu
