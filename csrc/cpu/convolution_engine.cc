#include "cpu/convolution_engine.h"

#include <algorithm>
#include <cstring>
#include <optional>

#include "cpu/isa.h"
#include "cpu/simd/convolution.h"

namespace vilg::cpu {
namespace {

// Of a 1 MB L2: the input rows in use, and the part of a weight panel that they meet. The rest is
// for outputs. Panels stream through L1 at 9 bytes a clock.
constexpr int64_t kInputBytes = int64_t{448} << 10;
constexpr int64_t kPanelBytes = int64_t{320} << 10;
constexpr int64_t kMaxPixels = 512;  // outputs that one pass over the weights serves
constexpr int64_t kMaxStrip = 320;   // output pixels of a row that one task takes
constexpr int64_t kTasks = 16;       // aimed at; fixed, so that no order depends on the machine

int64_t round_up(int64_t a, int64_t b) { return ceil_div(a, b) * b; }
VilgStorage storage_of(DType dtype) {
  return dtype == DType::kBFloat16 ? kVilgBFloat16 : kVilgFloat32;
}

class Engine {
 public:
  Engine(const ConvProblem& problem, const std::vector<ConvPhase>& phases, OpContext& ctx,
         Isa isa = active_isa())
      : p_(problem),
        phases_(phases),
        ctx_(ctx),
        conv_(VILG_SIMD_OF(isa, convolution)),
        simd_(VILG_SIMD_OF(isa, gemm)),
        gemm_(p_.compute == DType::kBFloat16 ? &simd_->bf16 : &simd_->f32) {
    const bool pairs = gemm_->k_step == 2;
    operand_ = pairs ? kVilgPairs : p_.compute == DType::kBFloat16 ? kVilgRounded : kVilgFloat;
    element_bytes_ = pairs ? 2 : 4;
    pitch_ = round_up(p_.in_channels, gemm_->k_step);
    tap_units_ = pitch_ * element_bytes_ / 4;
    flatten();
    plan();
  }

  void run() {
    pack();
    prepare_norm();
    ctx_.pool->parallel_for(p_.batch * strips_ * bands_, [&](int64_t task) {
      ctx_.check_stop();
      run_task(task);
    });
  }

 private:
  // A 1 x 1 convolution knows no rows: one long row makes tiles that never end early.
  void flatten() {
    if (phases_.size() != 1 || p_.stride != 1 || p_.out_step != 1 || p_.upsample != 1) return;
    ConvPhase& phase = phases_[0];
    if (phase.taps_y != 1 || phase.taps_x != 1 || phase.in_y != 0 || phase.in_x != 0) return;
    if (p_.out_height != p_.height || p_.out_width != p_.width) return;
    const int64_t images = p_.norm_mean ? 1 : p_.batch;
    p_.batch /= images;
    p_.width *= p_.height * images;
    p_.height = 1;
    p_.out_height = phase.out_height = 1;
    p_.out_width = phase.out_width = p_.width;
  }

  void plan() {
    first_y_ = first_x_ = INT64_MAX;
    int64_t last_y = INT64_MIN, last_x = INT64_MIN;
    for (const ConvPhase& phase : phases_) {
      height_ = std::max(height_, phase.out_height);
      width_ = std::max(width_, phase.out_width);
      first_y_ = std::min(first_y_, phase.in_y);
      first_x_ = std::min(first_x_, phase.in_x);
      last_y = std::max(last_y, phase.in_y + phase.taps_y);
      last_x = std::max(last_x, phase.in_x + phase.taps_x);
    }
    window_y_ = last_y - first_y_;
    window_x_ = last_x - first_x_;
    const int64_t pixel_bytes = pitch_ * element_bytes_;
    const auto row_bytes = [&](int64_t strip) {
      return round_up(((strip - 1) * p_.stride + window_x_) * pixel_bytes, 64);
    };
    strips_ = ceil_div(width_, kMaxStrip);
    const int64_t least_rows = std::max<int64_t>(window_y_, 1);
    while (strips_ < width_ &&
           row_bytes(ceil_div(width_, strips_)) * least_rows > 3 * kInputBytes / 2) {
      ++strips_;
    }
    strip_ = ceil_div(width_, strips_);
    strips_ = ceil_div(width_, strip_);
    row_bytes_ = std::max<int64_t>(row_bytes(strip_), 64);
    bands_ = std::clamp<int64_t>(ceil_div(kTasks, p_.batch * strips_), 1, height_);
    band_ = ceil_div(height_, bands_);
    bands_ = ceil_div(height_, band_);
    const int64_t fit = (kInputBytes / row_bytes_ - window_y_) / p_.stride + 1;
    rows_ = std::clamp<int64_t>(std::min(fit, kMaxPixels / strip_), 1, band_);
    ring_rows_ = (rows_ - 1) * p_.stride + window_y_;

    // read x where it is when nothing has to be done to it
    const bool right_type = operand_ == kVilgFloat
                                ? p_.dtype == DType::kFloat32
                                : operand_ == kVilgPairs && p_.dtype == DType::kBFloat16;
    direct_ = right_type && !p_.norm_mean && p_.upsample == 1 && pitch_ == p_.in_channels;
    for (const ConvPhase& phase : phases_) {
      direct_ = direct_ && phase.in_y >= 0 && phase.in_x >= 0 &&
                phase.in_y + (phase.out_height - 1) * p_.stride + phase.taps_y <= p_.height &&
                phase.in_x + (phase.out_width - 1) * p_.stride + phase.taps_x <= p_.width;
    }
    narrow_ = p_.out_channels <= conv_->narrow_columns && tap_units_ % conv_->vector_width == 0;
    panels_ = ceil_div(p_.out_channels, gemm_->nr);
  }

  int64_t phase_units(const ConvPhase& phase) const {
    return phase.taps_y * phase.taps_x * tap_units_;
  }
  int64_t phase_bytes(const ConvPhase& phase) const {
    return round_up(phase_units(phase) * 4 * (narrow_ ? p_.out_channels : panels_ * gemm_->nr), 64);
  }

  void pack() {
    int64_t total = 0;
    for (const ConvPhase& phase : phases_) {
      panel_offsets_.push_back(total);
      total += phase_bytes(phase);
    }
    weights_.emplace(*ctx_.allocator, static_cast<size_t>(total));
    if (narrow_) {
      for (size_t i = 0; i < phases_.size(); ++i) pack_narrow(phases_[i], phase_weights(i));
      return;
    }
    ctx_.pool->parallel_for(static_cast<int64_t>(phases_.size()) * panels_, [&](int64_t task) {
      const size_t i = static_cast<size_t>(task / panels_);
      pack_panel(phases_[i], task % panels_, phase_weights(i));
    });
  }
  char* phase_weights(size_t i) const { return weights_->as<char>() + panel_offsets_[i]; }

  void pack_panel(const ConvPhase& phase, int64_t panel, char* panels) const {
    const int64_t n0 = panel * gemm_->nr;
    const int64_t count = std::min<int64_t>(gemm_->nr, p_.out_channels - n0);
    const bool k_contiguous = phase.k_stride == 1;
    const int64_t tap_bytes = gemm_panel_bytes(gemm_, gemm_->nr, p_.in_channels);
    char* to = panels + panel * phase_units(phase) * 4 * gemm_->nr;
    for (int64_t ty = 0; ty < phase.taps_y; ++ty) {
      for (int64_t tx = 0; tx < phase.taps_x; ++tx, to += tap_bytes) {
        const char* from = static_cast<const char*>(phase.weights) +
                           (n0 * phase.n_stride + phase.tap_base + ty * phase.tap_y_stride +
                            tx * phase.tap_x_stride) *
                               static_cast<int64_t>(dtype_size(phase.weight_dtype));
        gemm_->pack_b(to, from, storage_of(phase.weight_dtype),
                      k_contiguous ? phase.n_stride : phase.k_stride, k_contiguous, count,
                      p_.in_channels);
      }
    }
  }

  // (out_channels, taps, in_channels): at most four rows, so a plain loop will do
  void pack_narrow(const ConvPhase& phase, char* to) const {
    int64_t at = 0;
    for (int64_t n = 0; n < p_.out_channels; ++n) {
      for (int64_t ty = 0; ty < phase.taps_y; ++ty) {
        for (int64_t tx = 0; tx < phase.taps_x; ++tx) {
          for (int64_t k = 0; k < p_.in_channels; ++k, ++at) {
            const int64_t i = n * phase.n_stride + k * phase.k_stride + phase.tap_base +
                              ty * phase.tap_y_stride + tx * phase.tap_x_stride;
            const float value = phase.weight_dtype == DType::kBFloat16
                                    ? bf16_to_float(static_cast<const bf16*>(phase.weights)[i])
                                    : static_cast<const float*>(phase.weights)[i];
            if (operand_ == kVilgPairs) {
              reinterpret_cast<bf16*>(to)[at] = float_to_bf16(value);
            } else {
              reinterpret_cast<float*>(to)[at] =
                  operand_ == kVilgRounded ? bf16_to_float(float_to_bf16(value)) : value;
            }
          }
        }
      }
    }
  }

  // (B, 3, Cin): mean, rstd * gamma, beta of every channel
  void prepare_norm() {
    if (!p_.norm_mean) return;
    const int64_t channels = p_.in_channels, per_group = channels / p_.norm_groups;
    norm_.emplace(*ctx_.allocator, static_cast<size_t>(p_.batch * 3 * channels) * sizeof(float));
    for (int64_t b = 0; b < p_.batch; ++b) {
      float* mean = norm_->as<float>() + b * 3 * channels;
      for (int64_t c = 0; c < channels; ++c) {
        const int64_t group = b * p_.norm_groups + c / per_group;
        mean[c] = p_.norm_mean[group];
        mean[channels + c] = p_.norm_rstd[group] * p_.norm_gamma[c];
        mean[2 * channels + c] = p_.norm_beta[c];
      }
    }
  }

  // Writes input row `y`, columns [x0, x0 + count), zeros outside the picture.
  void fill_row(char* to, int64_t b, int64_t y, int64_t x0, int64_t count) const {
    const int64_t height = p_.height * p_.upsample, width = p_.width * p_.upsample;
    const int64_t pixel_bytes = pitch_ * element_bytes_;
    const int64_t left = std::clamp<int64_t>(-x0, 0, count);
    const int64_t right = std::clamp<int64_t>(x0 + count - width, 0, count - left);
    if (y < 0 || y >= height) {
      std::memset(to, 0, static_cast<size_t>(count * pixel_bytes));
      return;
    }
    std::memset(to, 0, static_cast<size_t>(left * pixel_bytes));
    std::memset(to + (count - right) * pixel_bytes, 0, static_cast<size_t>(right * pixel_bytes));
    VilgConvPixels pixels{};
    pixels.channels = p_.in_channels;
    pixels.dst_pitch = pitch_;
    pixels.storage = storage_of(p_.dtype);
    pixels.operand = operand_;
    if (norm_) {
      pixels.mean = norm_->as<float>() + b * 3 * p_.in_channels;
      pixels.scale = pixels.mean + p_.in_channels;
      pixels.shift = pixels.scale + p_.in_channels;
    }
    const int64_t source_bytes = p_.in_channels * static_cast<int64_t>(dtype_size(p_.dtype));
    const char* row = static_cast<const char*>(p_.x) +
                      (b * p_.height + y / p_.upsample) * p_.width * source_bytes;
    if (p_.upsample == 1) {
      pixels.dst = to + left * pixel_bytes;
      pixels.src = row + (x0 + left) * source_bytes;
      pixels.pixels = count - left - right;
      if (pixels.pixels > 0) conv_->prepare(&pixels);
    } else {
      pixels.pixels = 1;
      for (int64_t i = left; i < count - right; ++i) {
        pixels.dst = to + i * pixel_bytes;
        pixels.src = row + (x0 + i) / p_.upsample * source_bytes;
        conv_->prepare(&pixels);
      }
    }
  }

  // One task's view of the input: rows in a ring, or x itself.
  struct Band {
    int64_t b, x0, x1;  // outputs of phases in x
    int64_t first_row;  // input row in slot 0
    char* ring;
    float* sums;  // (rows_ * strip_, nr)
  };

  const char* pixel(const Band& band, int64_t y, int64_t x) const {
    const int64_t pixel_bytes = pitch_ * element_bytes_;
    if (direct_) {
      return static_cast<const char*>(p_.x) +
             ((band.b * p_.height + y) * p_.width + x) * pixel_bytes;
    }
    return band.ring + (y - band.first_row) % ring_rows_ * row_bytes_ +
           (x - (band.x0 * p_.stride + first_x_)) * pixel_bytes;
  }

  void run_task(int64_t task) const {
    const int64_t sum_floats = rows_ * strip_ * std::max<int64_t>(gemm_->nr, 4);
    const int64_t ring_bytes = direct_ ? 0 : ring_rows_ * row_bytes_;
    Workspace memory(*ctx_.allocator, static_cast<size_t>(ring_bytes + sum_floats * 4));
    Band band;
    band.ring = memory.as<char>();
    band.sums = reinterpret_cast<float*>(memory.as<char>() + ring_bytes);
    band.b = task / (strips_ * bands_);
    const int64_t y_begin = task / strips_ % bands_ * band_;
    const int64_t y_end = std::min(height_, y_begin + band_);
    band.x0 = task % strips_ * strip_;
    band.x1 = std::min(width_, band.x0 + strip_);
    band.first_row = y_begin * p_.stride + first_y_;
    const int64_t columns = (band.x1 - band.x0 - 1) * p_.stride + window_x_;
    int64_t filled = band.first_row;
    for (int64_t y = y_begin; y < y_end; y += rows_) {
      const int64_t rows = std::min(rows_, y_end - y);
      if (!direct_) {
        const int64_t begin = y * p_.stride + first_y_;
        const int64_t end = begin + (rows - 1) * p_.stride + window_y_;
        for (filled = std::max(filled, begin); filled < end; ++filled) {
          fill_row(band.ring + (filled - band.first_row) % ring_rows_ * row_bytes_, band.b, filled,
                   band.x0 * p_.stride + first_x_, columns);
        }
      }
      for (size_t i = 0; i < phases_.size(); ++i) {
        const ConvPhase& phase = phases_[i];
        const int64_t phase_rows = std::min(rows, phase.out_height - y);
        const int64_t phase_columns = std::min(band.x1, phase.out_width) - band.x0;
        if (phase_rows <= 0 || phase_columns <= 0) continue;
        if (narrow_) {
          run_narrow(band, i, y, phase_rows, phase_columns);
        } else {
          run_panels(band, i, y, phase_rows, phase_columns);
        }
      }
    }
  }

  // bias, residual and conversion of finished sums
  void finish(const ConvPhase& phase, const Band& band, int64_t y, int64_t x, int64_t rows,
              int64_t n0, int64_t columns, const float* sums, int64_t ld) const {
    const int64_t bytes = static_cast<int64_t>(dtype_size(p_.dtype));
    const int64_t at = (((band.b * p_.out_height + phase.out_y + y * p_.out_step) * p_.out_width +
                         phase.out_x + x * p_.out_step) *
                            p_.out_channels +
                        n0) *
                       bytes;
    GemmEpilogue epilogue{};
    epilogue.c = static_cast<char*>(p_.out) + at;
    epilogue.residual = p_.residual ? static_cast<const char*>(p_.residual) + at : nullptr;
    epilogue.bias = p_.bias ? p_.bias + n0 : nullptr;
    epilogue.ldc = p_.out_step * p_.out_channels;
    epilogue.alpha = 1.0f;
    epilogue.storage = storage_of(p_.dtype);
    simd_->epilogue(&epilogue, sums, ld, rows, columns);
  }

  static constexpr int64_t kMaxRuns = 64;  // taps_y is below it (validate)

  void run_panels(const Band& band, size_t phase_index, int64_t y0, int64_t rows,
                  int64_t columns) const {
    const ConvPhase& phase = phases_[phase_index];
    const int64_t nr = gemm_->nr;
    const int64_t run_units = phase.taps_x * tap_units_;
    const int64_t runs_at_once =
        std::clamp<int64_t>(kPanelBytes / std::max<int64_t>(run_units * 4 * nr, 1), 1,
                            std::max<int64_t>(phase.taps_y, 1));
    const int64_t tiles = ceil_div(columns, conv_->tile_rows);
    const auto run_tile = operand_ == kVilgPairs ? conv_->tile_pairs : conv_->tile;
    const char* runs[kMaxRuns];
    VilgConvTile tile{};
    tile.ldc = nr;
    tile.runs = runs;
    tile.run_length = run_units;
    tile.row_stride = p_.stride * pitch_ * element_bytes_;
    for (int64_t panel = 0; panel < panels_; ++panel) {
      const int64_t n0 = panel * nr;
      const float* weights = reinterpret_cast<const float*>(phase_weights(phase_index)) +
                             panel * phase_units(phase) * nr;
      tile.columns = static_cast<int32_t>(std::min(nr, p_.out_channels - n0));
      int64_t run = 0;
      do {
        tile.num_runs = std::min(runs_at_once, phase.taps_y - run);
        tile.panel = weights + run * run_units * nr;
        tile.continues = run > 0;
        const bool last = run + tile.num_runs >= phase.taps_y;
        for (int64_t row = 0; row < rows; ++row) {
          const int64_t y = y0 + row;
          int64_t x = band.x0;
          for (int64_t t = 0; t < tiles; ++t) {
            // tiles as equal as they can be: a narrow last one would run at half speed
            tile.rows = static_cast<int32_t>(columns / tiles + (t < columns % tiles));
            for (int64_t r = 0; r < tile.num_runs; ++r) {
              runs[r] =
                  pixel(band, y * p_.stride + phase.in_y + run + r, x * p_.stride + phase.in_x);
            }
            // sums that are finished at once need no room of their own
            const bool once = run == 0 && last;
            tile.c = band.sums + (once ? 0 : (row * strip_ + x - band.x0) * nr);
            run_tile(&tile);
            if (last) finish(phase, band, y, x, tile.rows, n0, tile.columns, tile.c, nr);
            x += tile.rows;
          }
        }
        run += tile.num_runs;
      } while (run < phase.taps_y);
    }
  }

  void run_narrow(const Band& band, size_t phase_index, int64_t y0, int64_t rows,
                  int64_t columns) const {
    const ConvPhase& phase = phases_[phase_index];
    const char* runs[kMaxRuns];
    VilgConvNarrow tile{};
    tile.c = band.sums;
    tile.ldc = 4;
    tile.runs = runs;
    tile.num_runs = phase.taps_y;
    tile.run_length = phase.taps_x * tap_units_;
    tile.row_stride = p_.stride * pitch_ * element_bytes_;
    tile.weights = reinterpret_cast<const float*>(phase_weights(phase_index));
    tile.rows = static_cast<int32_t>(columns);
    tile.columns = static_cast<int32_t>(p_.out_channels);
    for (int64_t y = y0; y < y0 + rows; ++y) {
      for (int64_t r = 0; r < phase.taps_y; ++r) {
        runs[r] = pixel(band, y * p_.stride + phase.in_y + r, band.x0 * p_.stride + phase.in_x);
      }
      (operand_ == kVilgPairs ? conv_->narrow_pairs : conv_->narrow)(&tile);
      finish(phase, band, y, band.x0, columns, 0, p_.out_channels, tile.c, tile.ldc);
    }
  }

  ConvProblem p_;
  std::vector<ConvPhase> phases_;
  OpContext& ctx_;
  const VilgConvolutionKernels* conv_;
  const GemmSimd* simd_;
  const GemmKernels* gemm_;
  VilgOperand operand_ = kVilgFloat;
  int64_t element_bytes_ = 4, pitch_ = 0, tap_units_ = 0;
  int64_t height_ = 0, width_ = 0;       // of the largest phase
  int64_t first_y_ = 0, first_x_ = 0;    // the input pixel that output (0, 0) begins at
  int64_t window_y_ = 0, window_x_ = 0;  // input pixels that one output of all phases reads
  int64_t strip_ = 0, strips_ = 0, band_ = 0, bands_ = 0;
  int64_t rows_ = 0, ring_rows_ = 0, row_bytes_ = 0;
  bool direct_ = false, narrow_ = false;
  int64_t panels_ = 0;
  std::vector<int64_t> panel_offsets_;
  std::optional<Workspace> weights_, norm_;
};

}  // namespace

void run_convolution(const ConvProblem& problem, const std::vector<ConvPhase>& phases,
                     OpContext& ctx) {
  std::vector<ConvPhase> present;
  for (const ConvPhase& phase : phases) {
    if (phase.out_height > 0 && phase.out_width > 0) present.push_back(phase);
  }
  if (present.empty()) return;
  Engine(problem, present, ctx).run();
}

}  // namespace vilg::cpu
