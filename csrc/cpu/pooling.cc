#include <algorithm>
#include <cstring>

#include "cpu/cpu_ops.h"

// Bound by memory: what the compiler makes of the baseline is enough here.
namespace vilg::cpu {
namespace {

constexpr int64_t kElementsPerTask = int64_t{1} << 16;

// Calls body(row of the result, its upper row of the input) for rows of all pictures.
template <typename Params, typename Body>
void for_each_row(const Params& p, OpContext& ctx, const Body& body) {
  const int64_t height = p.height / 2, rows = p.batch * height;
  const int64_t at_once = std::max<int64_t>(1, kElementsPerTask / (2 * p.width * p.channels));
  ctx.pool->parallel_for(ceil_div(rows, at_once), [&](int64_t task) {
    ctx.check_stop();
    for (int64_t row = task * at_once; row < std::min(rows, (task + 1) * at_once); ++row) {
      body(row, row / height * p.height + row % height * 2);
    }
  });
}

// Whether `other` is taken instead of `best`.
bool beats(float other, float best) { return other > best || other != other; }

}  // namespace

void max_pool_forward(const MaxPoolForwardParams& p, OpContext& ctx) {
  validate(p);
  const int64_t C = p.channels, line = p.width * C;
  for_each_row(p, ctx, [&](int64_t row, int64_t upper) {
    for (int64_t pixel = 0; pixel < p.width / 2; ++pixel) {
      const float* x = p.x + upper * line + 2 * pixel * C;
      float* out = p.out + (row * (p.width / 2) + pixel) * C;
      for (int64_t c = 0; c < C; ++c) {
        float best = x[c];
        best = beats(x[c + C], best) ? x[c + C] : best;
        best = beats(x[c + line], best) ? x[c + line] : best;
        best = beats(x[c + line + C], best) ? x[c + line + C] : best;
        out[c] = best;
      }
    }
  });
}

void max_pool_backward(const MaxPoolBackwardParams& p, OpContext& ctx) {
  validate(p);
  const int64_t C = p.channels, line = p.width * C;
  for_each_row(p, ctx, [&](int64_t row, int64_t upper) {
    for (int64_t pixel = 0; pixel < p.width / 2; ++pixel) {
      const int64_t at = upper * line + 2 * pixel * C;
      const float *x = p.x + at, *dout = p.dout + (row * (p.width / 2) + pixel) * C;
      float* dx = p.dx + at;
      for (int64_t c = 0; c < C; ++c) {
        float best = x[c];
        int taken = 0;
        const auto compare = [&](float other, int place) {
          const bool better = beats(other, best);
          best = better ? other : best;
          taken = better ? place : taken;
        };
        compare(x[c + C], 1);
        compare(x[c + line], 2);
        compare(x[c + line + C], 3);
        dx[c] = taken == 0 ? dout[c] : 0.0f;
        dx[c + C] = taken == 1 ? dout[c] : 0.0f;
        dx[c + line] = taken == 2 ? dout[c] : 0.0f;
        dx[c + line + C] = taken == 3 ? dout[c] : 0.0f;
      }
    }
    // what no square covers: the last column, and below the last row of squares the last row
    float* dx = p.dx + upper * line;
    if (p.width % 2 != 0) {
      for (int64_t y = 0; y < 2; ++y) std::fill_n(dx + (y + 1) * line - C, C, 0.0f);
    }
    if (p.height % 2 != 0 && upper % p.height == p.height - 3)
      std::fill_n(dx + 2 * line, line, 0.0f);
  });
}

}  // namespace vilg::cpu
