#include <algorithm>
#include <cmath>

#include "cpu/cpu_ops.h"
#include "cpu/isa.h"
#include "cpu/simd/group_norm.h"

namespace vilg::cpu {
namespace {

VilgStorage storage_of(DType dtype) {
  return dtype == DType::kBFloat16 ? kVilgBFloat16 : kVilgFloat32;
}

// Pixels whose sums are made in float32 lanes and finished in double: a quarter of L2, because the
// statistics read a block twice, and few enough for float32 sums. Depends on the shape alone.
template <typename Params>
int64_t block_pixels(const Params& p) {
  const int64_t bytes = p.channels * static_cast<int64_t>(dtype_size(p.dtype));
  return std::clamp<int64_t>((int64_t{256} << 10) / bytes, 1, 512);
}

// Mean and sum of squared deviations of `count` values.
struct Moments {
  double count = 0, mean = 0, squares = 0;
  // Chan, Golub, LeVeque 1979
  void merge(const Moments& other) {
    const double total = count + other.count, delta = other.mean - mean;
    if (total == 0) return;
    squares += other.squares + delta * delta * count * other.count / total;
    mean += delta * other.count / total;
    count = total;
  }
};

}  // namespace

void group_norm_forward(const GroupNormForwardParams& p, OpContext& ctx) {
  validate(p);
  const auto* simd = VILG_SIMD(group_norm);
  const VilgStorage storage = storage_of(p.dtype);
  const int64_t per_group = p.channels / p.groups, block = block_pixels(p);
  const int64_t blocks = ceil_div(p.pixels, block);
  const int64_t pixel_bytes = p.channels * static_cast<int64_t>(dtype_size(p.dtype));
  Workspace moments_memory(*ctx.allocator,
                           static_cast<size_t>(p.batch * blocks * p.groups) * sizeof(Moments));
  Moments* moments = moments_memory.as<Moments>();

  ctx.pool->parallel_for(p.batch * blocks, [&](int64_t task) {
    ctx.check_stop();
    const int64_t first = task % blocks * block, pixels = std::min(block, p.pixels - first);
    const char* x =
        static_cast<const char*>(p.x) + (task / blocks * p.pixels + first) * pixel_bytes;
    Workspace memory(*ctx.allocator, static_cast<size_t>(3 * p.channels) * sizeof(float));
    float *sums = memory.as<float>(), *squares = sums + p.channels, *shift = squares + p.channels;
    const double count = static_cast<double>(pixels * per_group);
    const auto group_sum = [&](const float* values, int64_t group) {
      double sum = 0;
      for (int64_t c = 0; c < per_group; ++c) sum += values[group * per_group + c];
      return sum;
    };
    // deviations from the block's own mean: squares of what is left do not cancel
    simd->sums(sums, x, storage, pixels, p.channels);
    for (int64_t g = 0; g < p.groups; ++g) {
      std::fill_n(shift + g * per_group, per_group, static_cast<float>(group_sum(sums, g) / count));
    }
    simd->moments(sums, squares, x, storage, pixels, p.channels, shift);
    for (int64_t g = 0; g < p.groups; ++g) {
      const double off = group_sum(sums, g) / count;  // of the mean from the rounded shift
      Moments& m = moments[task * p.groups + g];
      m.count = count;
      m.mean = shift[g * per_group] + off;
      m.squares = std::max(0.0, group_sum(squares, g) - off * off * count);
    }
  });
  for (int64_t b = 0; b < p.batch; ++b) {
    for (int64_t g = 0; g < p.groups; ++g) {
      Moments all;
      for (int64_t i = 0; i < blocks; ++i) all.merge(moments[(b * blocks + i) * p.groups + g]);
      p.mean[b * p.groups + g] = static_cast<float>(all.mean);
      p.rstd[b * p.groups + g] =
          static_cast<float>(1.0 / std::sqrt(all.squares / all.count + p.epsilon));
    }
  }
  if (!p.out) return;

  Workspace channel_memory(*ctx.allocator,
                           static_cast<size_t>(p.batch * 2 * p.channels) * sizeof(float));
  float* channels = channel_memory.as<float>();
  for (int64_t b = 0; b < p.batch; ++b) {
    for (int64_t c = 0; c < p.channels; ++c) {
      const int64_t g = b * p.groups + c / per_group;
      channels[b * 2 * p.channels + c] = p.mean[g];
      channels[(b * 2 + 1) * p.channels + c] = p.rstd[g] * p.gamma[c];
    }
  }
  ctx.pool->parallel_for(p.batch * blocks, [&](int64_t task) {
    ctx.check_stop();
    const int64_t b = task / blocks, first = task % blocks * block;
    const int64_t at = (b * p.pixels + first) * pixel_bytes;
    const float* mean = channels + b * 2 * p.channels;
    simd->normalize(static_cast<char*>(p.out) + at, static_cast<const char*>(p.x) + at, storage,
                    std::min(block, p.pixels - first), p.channels, mean, mean + p.channels, p.beta,
                    p.swish);
  });
}

void group_norm_backward(const GroupNormBackwardParams& p, OpContext& ctx) {
  validate(p);
  const auto* simd = VILG_SIMD(group_norm);
  const int64_t per_group = p.channels / p.groups, block = block_pixels(p);
  const int64_t blocks = ceil_div(p.pixels, block), channels = p.channels;
  const int64_t pixel_bytes = channels * static_cast<int64_t>(dtype_size(p.dtype));
  // per picture: mean, rstd, average, slope of every channel; per block: two sums of every channel
  Workspace memory(
      *ctx.allocator,
      static_cast<size_t>((4 * p.batch + 2 * p.batch * blocks) * channels) * sizeof(float));
  float *statistics = memory.as<float>(), *sums = statistics + 4 * p.batch * channels;
  for (int64_t b = 0; b < p.batch; ++b) {
    float* mean = statistics + 4 * b * channels;
    for (int64_t c = 0; c < channels; ++c) {
      mean[c] = p.mean[b * p.groups + c / per_group];
      mean[channels + c] = p.rstd[b * p.groups + c / per_group];
    }
  }
  const auto arguments = [&](int64_t task) {
    const int64_t b = task / blocks, first = task % blocks * block;
    const int64_t at = (b * p.pixels + first) * pixel_bytes;
    VilgGroupNormBackward g{};
    g.dx = static_cast<char*>(p.dx) + at;
    g.dout = static_cast<const char*>(p.dout) + at;
    g.x = static_cast<const char*>(p.x) + at;
    g.storage = storage_of(p.dtype);
    g.pixels = std::min(block, p.pixels - first);
    g.channels = channels;
    g.mean = statistics + 4 * b * channels;
    g.rstd = g.mean + channels;
    g.average = g.rstd + channels;
    g.slope = g.average + channels;
    g.gamma = p.gamma;
    g.beta = p.beta;
    g.sum = sums + 2 * task * channels;
    g.sum_normalized = g.sum + channels;
    g.swish = p.swish;
    g.accumulate = p.accumulate;
    return g;
  };
  ctx.pool->parallel_for(p.batch * blocks, [&](int64_t task) {
    ctx.check_stop();
    const VilgGroupNormBackward g = arguments(task);
    simd->backward_sums(&g);
  });
  for (int64_t c = 0; c < channels; ++c) {
    double dbeta = p.dbeta[c], dgamma = p.dgamma[c];
    for (int64_t task = 0; task < p.batch * blocks; ++task) {
      dbeta += sums[2 * task * channels + c];
      dgamma += sums[(2 * task + 1) * channels + c];
    }
    p.dbeta[c] = static_cast<float>(dbeta);
    p.dgamma[c] = static_cast<float>(dgamma);
  }
  const double count = static_cast<double>(p.pixels * per_group);
  for (int64_t b = 0; b < p.batch; ++b) {
    for (int64_t g = 0; g < p.groups; ++g) {
      double average = 0, slope = 0;
      for (int64_t task = b * blocks; task < (b + 1) * blocks; ++task) {
        for (int64_t c = g * per_group; c < (g + 1) * per_group; ++c) {
          average += static_cast<double>(p.gamma[c]) * sums[2 * task * channels + c];
          slope += static_cast<double>(p.gamma[c]) * sums[(2 * task + 1) * channels + c];
        }
      }
      float* to = statistics + (4 * b + 2) * channels + g * per_group;
      std::fill_n(to, per_group, static_cast<float>(average / count));
      std::fill_n(to + channels, per_group, static_cast<float>(slope / count));
    }
  }
  ctx.pool->parallel_for(p.batch * blocks, [&](int64_t task) {
    ctx.check_stop();
    const VilgGroupNormBackward g = arguments(task);
    simd->backward_apply(&g);
  });
}

namespace {
constexpr int64_t kElementsPerTask = int64_t{1} << 15;
}

void softmax_forward(const SoftmaxForwardParams& p, OpContext& ctx) {
  validate(p);
  const auto* simd = VILG_SIMD(group_norm);
  const int64_t rows = std::max<int64_t>(1, kElementsPerTask / p.n);
  ctx.pool->parallel_for(ceil_div(p.rows, rows), [&](int64_t task) {
    for (int64_t row = task * rows; row < std::min(p.rows, (task + 1) * rows); ++row) {
      simd->softmax(p.out + row * p.n, p.x + row * p.n, p.n, p.scale);
    }
  });
}

void softmax_backward(const SoftmaxBackwardParams& p, OpContext& ctx) {
  validate(p);
  const auto* simd = VILG_SIMD(group_norm);
  const int64_t rows = std::max<int64_t>(1, kElementsPerTask / p.n);
  ctx.pool->parallel_for(ceil_div(p.rows, rows), [&](int64_t task) {
    for (int64_t row = task * rows; row < std::min(p.rows, (task + 1) * rows); ++row) {
      const int64_t at = row * p.n;
      simd->softmax_backward(p.dx + at, p.dout + at, p.out + at, p.n, p.scale);
    }
  });
}

}  // namespace vilg::cpu
