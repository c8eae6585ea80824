#include <algorithm>
#include <cmath>
#include <cstring>

#include "core/philox.h"
#include "cpu/cpu_ops.h"
#include "kernels/exp_fixed.h"

// No instruction set variants: the work is integers and a few microseconds a row, and its
// definition (kernels/draw.h) leaves nothing to round differently.
namespace vilg::cpu {
namespace {

// Of the tokens in order (larger keys first, then lower indices), the shortest run from the first
// whose weights reach `target` keeps its mass. A radix walk from the top digit of the keys down
// instead of a sort: each pass sums the weights by digit, finds the one where the target lies and
// goes on with the tokens that have it. `candidates` is room for n indices.
template <typename Weight>
void keep_first(uint64_t* masses, const uint32_t* keys, int64_t n, uint64_t target,
                int32_t* candidates, Weight weight) {
  constexpr int kShifts[] = {21, 10, 0}, kBits[] = {11, 11, 10};
  uint64_t histogram[1 << 11];
  uint32_t threshold = 0;
  int64_t count = n;
  for (int pass = 0; pass < 3; ++pass) {
    const int shift = kShifts[pass];
    const uint32_t digits = (1u << kBits[pass]) - 1;
    std::memset(histogram, 0, sizeof(uint64_t) * (digits + 1));
    const auto index = [&](int64_t c) { return pass == 0 ? c : int64_t{candidates[c]}; };
    for (int64_t c = 0; c < count; ++c) {
      histogram[keys[index(c)] >> shift & digits] += weight(index(c));
    }
    uint32_t digit = digits;
    while (histogram[digit] < target) target -= histogram[digit--];
    threshold |= digit << shift;
    int64_t matching = 0;  // without a branch, which would be guessed wrong
    for (int64_t c = 0; c < count; ++c) {
      const int64_t i = index(c);
      candidates[matching] = static_cast<int32_t>(i);
      matching += (keys[i] >> shift & digits) == digit;
    }
    count = matching;
  }
  for (int64_t i = 0; i < n; ++i) masses[i] = keys[i] >= threshold ? masses[i] : 0;
  // what is left of the target is for the tokens with the last key, by index
  for (int64_t c = 0; c < count; ++c) {
    if (target == 0) masses[candidates[c]] = 0;
    target -= std::min(target, weight(candidates[c]));
  }
}

// masses of (x - largest) / temperature; returns their sum. masses may be null.
uint64_t sum_masses(uint64_t* masses, const float* x, int64_t n, float largest, float temperature) {
  constexpr int64_t kBlock = 256;
  uint32_t numerator[kBlock], halvings[kBlock];
  uint64_t sum = 0;
  for (int64_t begin = 0; begin < n; begin += kBlock) {
    const int64_t count = std::min(kBlock, n - begin);
    for (int64_t i = 0; i < count; ++i) {
      exp_fixed_parts((x[begin + i] - largest) / temperature, &numerator[i], &halvings[i]);
    }
    for (int64_t i = 0; i < count; ++i) {
      const uint64_t mass = exp_fixed_join(numerator[i], halvings[i]);
      if (masses) masses[begin + i] = mass;
      sum += mass;
    }
  }
  return sum;
}

void draw_row(const DrawParams& p, int64_t row, uint64_t* masses, uint32_t* keys,
              int32_t* candidates) {
  const int64_t V = p.vocab;
  const float* x = p.logits + row * p.logits_stride;
  uint32_t lowest = ~0u, highest = 0;
  for (int64_t i = 0; i < V; ++i) {
    keys[i] = order_key(x[i]);
    lowest = std::min(lowest, keys[i]);
    highest = std::max(highest, keys[i]);
  }
  if (lowest < kMinusInfinityKey || highest >= kInfinityKey) {
    const float* bad = std::find_if(x, x + V, [](float v) { return !(v < INFINITY); });
    VILG_FAIL(kInvalidArgument,
              "draw: expected finite logits or -inf, received %g at row %lld, index %lld",
              static_cast<double>(*bad), static_cast<long long>(row),
              static_cast<long long>(bad - x));
  }
  VILG_CHECK(highest > kMinusInfinityKey, kInvalidArgument,
             "draw: expected a logit above -inf, received none at row %lld",
             static_cast<long long>(row));
  const float largest = order_value(highest);
  int64_t token = 0;
  uint64_t sum_at_one = 0;  // of the masses at temperature 1
  if (p.temperature == 0) {
    token = std::find(keys, keys + V, highest) - keys;
  } else {
    uint64_t total = sum_masses(masses, x, V, largest, p.temperature);
    if (p.temperature == 1) sum_at_one = total;
    const bool some_k = p.top_k > 0 && p.top_k < V;
    if (some_k) {
      keep_first(masses, keys, V, static_cast<uint64_t>(p.top_k), candidates,
                 [](int64_t) { return uint64_t{1}; });
      total = 0;
      for (int64_t i = 0; i < V; ++i) total += masses[i];
    }
    if (p.top_p < 1) {
      keep_first(masses, keys, V, top_p_target(total, p.top_p), candidates,
                 [masses](int64_t i) { return masses[i]; });
      total = 0;
      for (int64_t i = 0; i < V; ++i) total += masses[i];
    }
    const auto bits = philox(p.seed, RandomPurpose::kDraw, p.streams[row], draw_position(p));
    uint64_t left = multiply_high(total, uint64_t{bits[0]} << 32 | bits[1]);  // below total
    for (; masses[token] <= left; ++token) left -= masses[token];
  }
  p.tokens[row] = static_cast<int32_t>(token);
  if (p.log_probabilities) {
    if (!sum_at_one) sum_at_one = sum_masses(nullptr, x, V, largest, 1);
    p.log_probabilities[row] = log_probability(x[token], largest, sum_at_one);
  }
}

}  // namespace

void draw(const DrawParams& p, OpContext& ctx) {
  validate(p);
  ctx.pool->parallel_for(p.rows, [&](int64_t row) {
    ctx.check_stop();
    const size_t V = static_cast<size_t>(p.vocab);
    Workspace workspace(*ctx.allocator,
                        V * (sizeof(uint64_t) + sizeof(uint32_t) + sizeof(int32_t)));
    uint64_t* masses = workspace.as<uint64_t>();
    uint32_t* keys = reinterpret_cast<uint32_t*>(masses + V);
    draw_row(p, row, masses, keys, reinterpret_cast<int32_t*>(keys + V));
  });
}

}  // namespace vilg::cpu
