#include "cpu/convolution_engine.h"
#include "cpu/cpu_ops.h"
#include "cpu/isa.h"
#include "cpu/simd/convolution.h"

namespace vilg::cpu {
namespace {

int64_t floor_half(int64_t x) { return x >= 0 ? x / 2 : -((1 - x) / 2); }

// Output parity `parity` of a stride-1 convolution after upsampling by two: tap k reads source
// pixel q + floor((parity + k - pad) / 2), so taps that fall on one pixel are one tap with summed
// weights: 3 x 3 becomes four 2 x 2, 2.25 times less work.
struct Parity {
  int64_t parity, pad;
  int64_t first(int64_t) const { return floor_half(parity - pad); }
  int64_t tap(int64_t k) const { return floor_half(parity + k - pad) - floor_half(parity - pad); }
  int64_t taps(int64_t kernel) const { return tap(kernel - 1) + 1; }
};

void upsampled(const Conv2dForwardParams& p, const ConvProblem& problem, OpContext& ctx) {
  const auto* simd = VILG_SIMD(convolution);
  std::vector<ConvPhase> phases;
  size_t total = 0;
  std::vector<size_t> offsets;
  for (int64_t py = 0; py < 2; ++py) {
    for (int64_t px = 0; px < 2; ++px) {
      const Parity y{py, p.pad_top}, x{px, p.pad_left};
      ConvPhase phase;
      phase.taps_y = y.taps(p.kernel_y);
      phase.taps_x = x.taps(p.kernel_x);
      phase.in_y = y.first(0);
      phase.in_x = x.first(0);
      phase.out_y = py;
      phase.out_x = px;
      phase.out_height = (p.out_height() - py + 1) / 2;
      phase.out_width = (p.out_width() - px + 1) / 2;
      phase.k_stride = 1;
      phase.tap_x_stride = p.in_channels;
      phase.tap_y_stride = phase.taps_x * p.in_channels;
      phase.n_stride = phase.taps_y * phase.tap_y_stride;
      offsets.push_back(total);
      total += static_cast<size_t>(p.out_channels * phase.n_stride);
      phases.push_back(phase);
    }
  }
  Workspace summed(*ctx.allocator, (total + static_cast<size_t>(p.in_channels)) * sizeof(float));
  for (size_t i = 0; i < phases.size(); ++i) phases[i].weights = summed.as<float>() + offsets[i];

  ctx.pool->parallel_for(p.out_channels, [&](int64_t n) {
    // the weights of one output channel as float32
    const int64_t count = p.kernel_y * p.kernel_x * p.in_channels;
    Workspace row(*ctx.allocator, static_cast<size_t>(count) * sizeof(float));
    VilgConvPixels pixels{};
    pixels.dst = row.data();
    pixels.src = static_cast<const char*>(p.weight) +
                 n * count * static_cast<int64_t>(dtype_size(p.weight_dtype));
    pixels.pixels = 1;
    pixels.channels = pixels.dst_pitch = count;
    pixels.storage = p.weight_dtype == DType::kBFloat16 ? kVilgBFloat16 : kVilgFloat32;
    pixels.operand = kVilgFloat;
    simd->prepare(&pixels);
    for (size_t i = 0; i < phases.size(); ++i) {
      const ConvPhase& phase = phases[i];
      const Parity y{phase.out_y, p.pad_top}, x{phase.out_x, p.pad_left};
      float* to = summed.as<float>() + offsets[i] + n * phase.n_stride;
      std::fill_n(to, phase.n_stride, 0.0f);
      for (int64_t ky = 0; ky < p.kernel_y; ++ky) {
        for (int64_t kx = 0; kx < p.kernel_x; ++kx) {
          simd->add(to + y.tap(ky) * phase.tap_y_stride + x.tap(kx) * phase.tap_x_stride,
                    row.as<float>() + (ky * p.kernel_x + kx) * p.in_channels, p.in_channels);
        }
      }
    }
  });
  ConvProblem four = problem;
  four.out_step = 2;
  run_convolution(four, phases, ctx);
}

}  // namespace

void conv2d_forward(const Conv2dForwardParams& p, OpContext& ctx) {
  validate(p);
  ConvProblem problem;
  problem.out = p.out;
  problem.x = p.x;
  problem.bias = p.bias;
  problem.residual = p.residual;
  problem.norm_mean = p.norm_mean;
  problem.norm_rstd = p.norm_rstd;
  problem.norm_gamma = p.norm_gamma;
  problem.norm_beta = p.norm_beta;
  problem.norm_groups = p.norm_groups;
  problem.dtype = p.dtype;
  problem.compute = p.compute;
  problem.batch = p.batch;
  problem.height = p.height;
  problem.width = p.width;
  problem.in_channels = p.in_channels;
  problem.out_height = p.out_height();
  problem.out_width = p.out_width();
  problem.out_channels = p.out_channels;
  problem.stride = p.stride;
  if (p.upsample == 2 && p.stride == 1) return upsampled(p, problem, ctx);

  ConvPhase phase;
  phase.taps_y = p.kernel_y;
  phase.taps_x = p.kernel_x;
  phase.in_y = -p.pad_top;
  phase.in_x = -p.pad_left;
  phase.out_height = p.out_height();
  phase.out_width = p.out_width();
  phase.weights = p.weight;
  phase.weight_dtype = p.weight_dtype;
  phase.k_stride = 1;
  phase.tap_x_stride = p.in_channels;
  phase.tap_y_stride = p.kernel_x * p.in_channels;
  phase.n_stride = p.kernel_y * phase.tap_y_stride;
  problem.upsample = p.upsample;
  run_convolution(problem, {phase}, ctx);
}

}  // namespace vilg::cpu
