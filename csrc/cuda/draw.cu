// draw: a block a row. A filter keeps the tokens above a key, and of those that have it the first;
// the key is found bit by bit from the top, each bit by one sum over the block: 64-bit integers, so
// the order of a sum means nothing, and shared memory has no hot spots whatever the logits are.
#include <cfloat>
#include <vector>

#include "core/error.h"
#include "core/philox.h"
#include "cuda/cuda_ops.h"
#include "cuda/scan.h"
#include "cuda/vectors.h"
#include "kernels/exp_fixed.h"

namespace vilg::cuda {
namespace {

// Each thread has a run of tokens that follow each other: 16 whose keys and masses stay in
// registers, or any number that are worked out again for each sum.
constexpr int kHeld = 16, kHeldThreads = 512, kMaxThreads = 1024;
constexpr int64_t kHeldVocab = int64_t{kHeld} * kHeldThreads;

struct Scratch {
  uint64_t sums[2][kLanes];
  uint64_t scan[kLanes];
  uint32_t keys[2][kLanes];
};

// The sum over a warp, in three parts whose sums fit 32 bits; two are enough below 2^54.
template <bool kBelow54>
__device__ __forceinline__ uint64_t warp_total(uint64_t x) {
  constexpr uint32_t kPart = (1u << 27) - 1;
  const uint64_t low = reduce_add(static_cast<uint32_t>(x) & kPart);
  const uint64_t middle = reduce_add(static_cast<uint32_t>(x >> 27) & kPart);
  const uint64_t high = kBelow54 ? 0 : reduce_add(static_cast<uint32_t>(x >> 54));
  return low + (middle << 27) + (high << 54);
}

// Sums over the block for every thread; one barrier each, because two take turns.
class BlockTotal {
 public:
  __device__ __forceinline__ explicit BlockTotal(Scratch& scratch) : scratch_(scratch) {}
  // A thread has at most 2^13 masses of at most 2^40.
  __device__ __forceinline__ uint64_t of_masses(uint64_t x) {
    return warp_total<false>(exchange(warp_total<true>(x)));
  }
  __device__ __forceinline__ uint64_t of_counts(uint32_t x) {
    return reduce_add(static_cast<uint32_t>(exchange(reduce_add(x))));
  }

 private:
  // Lane l of every warp gets what warp l has; 0 where there is none.
  __device__ __forceinline__ uint64_t exchange(uint64_t of_warp) {
    turn_ ^= 1;
    if (lane_id() == 0) scratch_.sums[turn_][warp_id()] = of_warp;
    __syncthreads();
    const int warps = static_cast<int>(blockDim.x) / kLanes;
    return lane_id() < warps ? scratch_.sums[turn_][lane_id()] : 0;
  }
  Scratch& scratch_;
  int turn_ = 0;
};

struct Settings {
  float temperature;
  int64_t top_k;  // 0: off
  float top_p;    // 1: off
};

// 2^40 e^((x - largest) / temperature), by the key of x.
__device__ __forceinline__ uint64_t mass_of(uint32_t key, float largest, float temperature) {
  return exp_fixed(__fdiv_rn(order_value(key) - largest, temperature));
}

// What each(f) calls f(token, key, mass) with, for every token of this thread, in order; `mass` is
// a function, because most sums need few of them.
template <bool kAreHeld, bool kAligned>
class Tokens {
 public:
  __device__ __forceinline__ Tokens(const float* logits, int64_t vocab, int64_t run)
      : logits_(logits), first_(threadIdx.x * run), end_(min(vocab, first_ + run)) {
    if constexpr (kAreHeld) {
#pragma unroll
      for (int part = 0; part < kHeld; part += 4) {
        float x[4];
        load_floats<kAligned>(x, logits + first_ + part, end_ - first_ - part);
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          // beyond the end: below every key that a logit may have
          keys_[part + e] = first_ + part + e < end_ ? order_key(x[e]) : 0;
        }
      }
    }
  }
  __device__ __forceinline__ void make_masses(float largest, float temperature) {
    largest_ = largest;
    temperature_ = temperature;
    if constexpr (kAreHeld) {
#pragma unroll
      for (int j = 0; j < kHeld; ++j) {
        masses_[j] = keys_[j] != 0 ? mass_of(keys_[j], largest, temperature) : 0;
      }
    }
  }
  template <typename F>
  __device__ __forceinline__ void each(const F& f) const {
    if constexpr (kAreHeld) {
#pragma unroll
      for (int j = 0; j < kHeld; ++j) {
        f(first_ + j, keys_[j], [&] { return masses_[j]; });
      }
    } else {
      for (int64_t i = first_; i < end_; i += 4) {
        float x[4];
        load_floats<kAligned>(x, logits_ + i, end_ - i);
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          if (i + e >= end_) break;
          const uint32_t key = order_key(x[e]);
          f(i + e, key, [&] { return mass_of(key, largest_, temperature_); });
        }
      }
    }
  }

 private:
  const float* logits_;
  int64_t first_, end_;
  float largest_ = 0, temperature_ = 1;
  uint32_t keys_[kAreHeld ? kHeld : 1];
  uint64_t masses_[kAreHeld ? kHeld : 1];
};

// What the filters leave: keys above `key`, and the first `ties` of those that have it.
struct Kept {
  uint32_t key;
  uint64_t ties;
  uint64_t total;  // their mass
};

// The largest key in [low, high] such that at_least(key), which falls as keys grow, reaches the
// target; at_least(low) does.
template <typename F>
__device__ __forceinline__ uint32_t find_key(uint32_t low, uint32_t high, uint64_t target,
                                             const F& at_least) {
  if (low == high) return low;
  const int bits = 32 - __clz(static_cast<int>(low ^ high));  // that they do not share
  uint32_t key = bits == 32 ? 0 : high >> bits << bits;
  for (int bit = bits - 1; bit >= 0; --bit) {
    const uint32_t candidate = key | 1u << bit;
    if (candidate <= low || (candidate <= high && at_least(candidate) >= target)) key = candidate;
  }
  return key;
}

template <typename T>
__device__ __forceinline__ Kept apply_filters(const T& tokens, BlockTotal& total,
                                              const Settings& settings, int64_t vocab,
                                              uint32_t lowest, uint32_t highest, float largest) {
  const auto count_from = [&](uint32_t key) {
    uint32_t count = 0;
    tokens.each([&](int64_t, uint32_t other, auto&&) { count += other >= key; });
    return total.of_counts(count);
  };
  const auto mass_from = [&](uint32_t key) {
    uint64_t sum = 0;
    tokens.each([&](int64_t, uint32_t other, auto&& mass) {
      if (other >= key) sum += mass();
    });
    return total.of_masses(sum);
  };
  const auto mass_of_key = [&](uint32_t key) {
    return mass_of(key, largest, settings.temperature);
  };
  Kept kept = {lowest, static_cast<uint64_t>(vocab), 0};  // no more ties than tokens: all
  if (settings.top_k > 0 && settings.top_k < vocab) {
    const auto k = static_cast<uint64_t>(settings.top_k);
    kept.key = find_key(lowest, highest, k, count_from);
    kept.ties = k - count_from(kept.key + 1);
    kept.total = mass_from(kept.key + 1) + kept.ties * mass_of_key(kept.key);
  } else {
    kept.total = mass_from(lowest);
  }
  if (settings.top_p < 1) {
    const uint64_t target = top_p_target(kept.total, settings.top_p);
    const uint32_t key = find_key(kept.key, highest, target, mass_from);
    // the tokens with that key share one mass, and so many of them reach the target
    const uint64_t above = mass_from(key + 1), each = mass_of_key(key);
    kept.ties = (target - above + each - 1) / each;
    kept.key = key;
    kept.total = above + kept.ties * each;
  }
  return kept;
}

// The sum of the masses at temperature 1.
template <typename T>
__device__ __forceinline__ uint64_t mass_at_one(const T& tokens, BlockTotal& total, float largest) {
  uint64_t sum = 0;
  tokens.each([&](int64_t, uint32_t key, auto&&) {
    if (key != 0) sum += mass_of(key, largest, 1);
  });
  return total.of_masses(sum);
}

template <bool kAreHeld, bool kAligned>
__global__ void __launch_bounds__(kAreHeld ? kHeldThreads : kMaxThreads)
    draw_kernel(DrawParams p, int64_t run) {
  VILG_SHARED_MEMORY(smem);
  auto& scratch = *reinterpret_cast<Scratch*>(smem);
  let_next_kernel_begin();
  wait_for_previous_kernel();
  const int64_t row = blockIdx.x;
  const float* logits = p.logits + row * p.logits_stride;
  const Settings settings = {p.temperature, p.top_k, p.top_p};
  Tokens<kAreHeld, kAligned> tokens(logits, p.vocab, run);
  BlockTotal total(scratch);

  uint32_t lowest = ~0u, highest = 0;
  tokens.each([&](int64_t token, uint32_t key, auto&&) {
    if (token >= p.vocab) return;
    lowest = min(lowest, key);
    highest = max(highest, key);
  });
  const int warps = static_cast<int>(blockDim.x) / kLanes;
  lowest = reduce_min(lowest);
  highest = reduce_max(highest);
  if (lane_id() == 0) {
    scratch.keys[0][warp_id()] = lowest;
    scratch.keys[1][warp_id()] = highest;
  }
  __syncthreads();
  lowest = reduce_min(scratch.keys[0][lane_id() < warps ? lane_id() : 0]);
  highest = reduce_max(scratch.keys[1][lane_id() < warps ? lane_id() : 0]);
  if (lowest < kMinusInfinityKey || highest >= kInfinityKey || highest == kMinusInfinityKey) {
    if (threadIdx.x == 0) {
      p.tokens[row] = -1;
      if (p.log_probabilities) p.log_probabilities[row] = bits_to_float(0x7fffffffu);
    }
    return;
  }
  const float largest = order_value(highest);

  if (settings.temperature == 0) {
    const uint64_t sum = p.log_probabilities ? mass_at_one(tokens, total, largest) : 0;
    uint32_t first = ~0u;
    tokens.each([&](int64_t token, uint32_t key, auto&&) {
      if (key == highest) first = min(first, static_cast<uint32_t>(token));
    });
    first = reduce_min(first);
    __syncthreads();  // the keys have been read
    if (lane_id() == 0) scratch.keys[0][warp_id()] = first;
    __syncthreads();
    first = reduce_min(scratch.keys[0][lane_id() < warps ? lane_id() : 0]);
    if (threadIdx.x == 0) {
      p.tokens[row] = static_cast<int32_t>(first);
      if (p.log_probabilities) {
        p.log_probabilities[row] = log_probability(logits[first], largest, sum);
      }
    }
    return;
  }

  tokens.make_masses(largest, settings.temperature);
  const Kept kept = apply_filters(tokens, total, settings, p.vocab, lowest, highest, largest);
  const uint64_t sum = p.log_probabilities ? mass_at_one(tokens, total, largest) : 0;

  // ties count in the order of their indices, which is that of the threads
  uint32_t ties = 0;
  tokens.each([&](int64_t, uint32_t key, auto&&) { ties += key == kept.key; });
  ties = block_sum_before(ties, scratch.keys[0]);
  const auto kept_mass = [&](uint32_t key, uint32_t& tie, const auto& mass) -> uint64_t {
    if (key > kept.key || (key == kept.key && tie++ < kept.ties)) return mass();
    return 0;
  };
  uint64_t own = 0;
  uint32_t tie = ties;
  tokens.each([&](int64_t, uint32_t key, auto&& mass) { own += kept_mass(key, tie, mass); });
  const uint64_t before = block_sum_before(own, scratch.scan);

  const auto bits = philox(p.seed, RandomPurpose::kDraw, p.streams[row], draw_position(p));
  const uint64_t threshold = multiply_high(kept.total, uint64_t{bits[0]} << 32 | bits[1]);
  if (threshold < before || threshold - before >= own) return;
  uint64_t left = threshold - before;
  int64_t drawn = -1;
  tie = ties;
  tokens.each([&](int64_t token, uint32_t key, auto&& mass) {
    const uint64_t m = kept_mass(key, tie, mass);
    if (drawn < 0 && left < m) drawn = token;
    left -= min(left, m);
  });
  p.tokens[row] = static_cast<int32_t>(drawn);
  if (p.log_probabilities) {
    p.log_probabilities[row] = log_probability(logits[drawn], largest, sum);
  }
}

// A row that nothing can be drawn from, as the other backends say it.
void refuse(const DrawParams& p, int64_t row, Queue& queue) {
  std::vector<float> logits(static_cast<size_t>(p.vocab));
  queue.copy_out(logits.data(), p.logits + row * p.logits_stride, logits.size() * sizeof(float));
  for (size_t i = 0; i < logits.size(); ++i) {
    VILG_CHECK(logits[i] <= FLT_MAX, kInvalidArgument,
               "draw: expected finite logits or -inf, received %g at row %lld, index %zu",
               static_cast<double>(logits[i]), static_cast<long long>(row), i);
  }
  VILG_FAIL(kInvalidArgument, "draw: expected a logit above -inf, received none at row %lld",
            static_cast<long long>(row));
}

}  // namespace

void draw(const DrawParams& p, Queue& queue) {
  const auto run = [&](auto held, auto aligned) {
    const int64_t most = held.value ? kHeldThreads : kMaxThreads;
    const int64_t tokens = held.value ? kHeld : round_up(ceil_div(p.vocab, most), 4);
    const int64_t threads = round_up(ceil_div(p.vocab, tokens), kLanes);
    launch(queue,
           {.blocks = p.rows,
            .threads = static_cast<int>(threads),
            .shared_bytes = sizeof(Scratch),
            .overlaps = true},
           draw_kernel<held.value, aligned.value>, p, tokens);
  };
  const bool whole = p.vocab % 4 == 0;
  with_alignment<float>(
      whole ? p.logits_stride : 1,
      [&](auto aligned) {
        p.vocab <= kHeldVocab ? run(std::true_type{}, aligned) : run(std::false_type{}, aligned);
      },
      p.logits);
  if (queue.recording()) return;
  std::vector<int32_t> tokens(static_cast<size_t>(p.rows));
  queue.copy_out(tokens.data(), p.tokens, tokens.size() * sizeof(int32_t));
  for (size_t row = 0; row < tokens.size(); ++row) {
    if (tokens[row] < 0) refuse(p, static_cast<int64_t>(row), queue);
  }
}

}  // namespace vilg::cuda
