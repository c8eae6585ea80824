// cross_entropy: a block a row. Rows of up to 16384 logits are read once and stay in registers;
// longer ones are read three times, from the caches after the first.
#include <optional>

#include "core/error.h"
#include "cuda/check_indices.h"
#include "cuda/cuda_ops.h"
#include "cuda/vectors.h"

namespace vilg::cuda {
namespace {

constexpr int kMaxThreads = 1024;
constexpr int kWidth = kVectorWidth<float>;
constexpr int kParts = 4;  // vectors of a thread in registers
constexpr int64_t kHeldLogits = int64_t{kMaxThreads} * kParts * kWidth;

struct Scratch {
  float sums[kLanes];
  float per_exp, uniform, at_target;  // dlogits = exp(x - largest) per_exp - uniform
};

// This thread's logits, kWidth at a time: f(index of the first, values). kHeld: f may change them
// for the next call.
template <bool kHeld, bool kAligned>
class Row {
 public:
  __device__ __forceinline__ Row(const float* logits, int64_t vocab)
      : logits_(logits), vocab_(vocab) {
    if constexpr (kHeld) {
#pragma unroll
      for (int part = 0; part < kParts; ++part) {
        const int64_t v = first(part);
        load_floats<kAligned>(held_[part], logits + v, vocab - v);
      }
    }
  }
  template <typename F>
  __device__ __forceinline__ void each(const F& f) {
    if constexpr (kHeld) {
#pragma unroll
      for (int part = 0; part < kParts; ++part) f(first(part), held_[part]);
    } else {
      for (int64_t v = first(0); v < vocab_; v += int64_t{kMaxThreads} * kWidth) {
        float values[kWidth];
        load_floats<kAligned>(values, logits_ + v, vocab_ - v);
        f(v, values);
      }
    }
  }

 private:
  __device__ __forceinline__ int64_t first(int part) const {
    return (static_cast<int64_t>(part) * blockDim.x + threadIdx.x) * kWidth;
  }
  const float* logits_;
  int64_t vocab_;
  float held_[kHeld ? kParts : 1][kWidth];
};

template <bool kHeld, bool kAligned>
__global__ void __launch_bounds__(kMaxThreads)
    cross_entropy_kernel(float* losses, float* dlogits, const float* logits, const int32_t* targets,
                         int64_t vocab, float row_scale, float label_smoothing, float z_loss) {
  VILG_SHARED_MEMORY(smem);
  auto& scratch = *reinterpret_cast<Scratch*>(smem);
  const int64_t row = blockIdx.x, target = targets[row];
  logits += row * vocab;
  if (dlogits) dlogits += row * vocab;
  if (target < 0 || target >= vocab) {
    // a target that was not refused, because the queue was recording, must not go unnoticed
    const float value = target < 0 ? 0.0f : bits_to_float(0x7fffffffu);
    if (threadIdx.x == 0) losses[row] = value;
    if (!dlogits) return;
    for (int64_t v = threadIdx.x; v < vocab; v += blockDim.x) dlogits[v] = value;
    return;
  }
  Row<kHeld, kAligned> x(logits, vocab);
  float largest = bits_to_float(0xff800000u);  // -infinity
  x.each([&](int64_t v, float(&values)[kWidth]) {
#pragma unroll
    for (int e = 0; e < kWidth; ++e) {
      if (v + e < vocab) largest = fmaxf(largest, values[e]);
    }
  });
  largest = block_max(largest, scratch.sums);
  // NaN anywhere, +infinity, or nothing but -infinity make the sum NaN, and it everything else
  float sum = 0, below = 0;
  x.each([&](int64_t v, float(&values)[kWidth]) {
#pragma unroll
    for (int e = 0; e < kWidth; ++e) {
      if (v + e >= vocab) continue;
      const float d = values[e] - largest;
      values[e] = expf(d);
      sum += values[e];
      below += d;
    }
  });
  sum = block_sum(sum, scratch.sums);
  if (label_smoothing > 0) below = block_sum(below, scratch.sums);
  if (threadIdx.x == 0) {
    const float target_below = logits[target] - largest;  // dlogits may overwrite it
    const double log_sum = log(static_cast<double>(sum)), lse = largest + log_sum;
    const double smoothing = label_smoothing;
    const double size = static_cast<double>(vocab);
    double loss = log_sum + z_loss * lse * lse;
    if (smoothing < 1) loss -= (1 - smoothing) * target_below;  // 0 * -infinity otherwise
    if (smoothing > 0) loss -= smoothing * below / size;
    losses[row] = static_cast<float>(loss);
    const double per_exp = (1 + 2 * static_cast<double>(z_loss) * lse) / sum;
    const double uniform = smoothing / size;
    scratch.per_exp = static_cast<float>(row_scale * per_exp);
    scratch.uniform = static_cast<float>(row_scale * uniform);
    scratch.at_target =
        static_cast<float>(row_scale * (expf(target_below) * per_exp - uniform - (1 - smoothing)));
  }
  if (!dlogits) return;
  __syncthreads();
  const float per_exp = scratch.per_exp, uniform = scratch.uniform;
  x.each([&](int64_t v, float(&values)[kWidth]) {
#pragma unroll
    for (int e = 0; e < kWidth; ++e) {
      const float power = kHeld ? values[e] : expf(values[e] - largest);
      values[e] = v + e == target ? scratch.at_target : power * per_exp - uniform;
    }
    store_floats<kAligned>(dlogits + v, values, vocab - v);
  });
}

}  // namespace

void cross_entropy(const CrossEntropyParams& p, Queue& queue) {
  if (!queue.recording()) {
    const std::optional<Outside> outside =
        find_outside(queue, {{"targets", p.targets, p.rows, INT32_MIN, p.vocab}})[0];
    VILG_CHECK(!outside, kInvalidArgument,
               "cross_entropy: expected targets below vocab = %lld, received %d at row %lld",
               static_cast<long long>(p.vocab), outside->value,
               static_cast<long long>(outside->position));
  }
  const auto run = [&](auto held, auto aligned) {
    const int64_t threads =
        held.value ? round_up(ceil_div(p.vocab, kParts * kWidth), kLanes) : kMaxThreads;
    launch(queue, {p.rows, static_cast<int>(threads), sizeof(Scratch)},
           cross_entropy_kernel<held.value, aligned.value>, p.loss, p.dlogits, p.logits, p.targets,
           p.vocab, p.row_scale, p.label_smoothing, p.z_loss);
  };
  with_alignment<float>(
      p.vocab,
      [&](auto aligned) {
        p.vocab <= kHeldLogits ? run(std::true_type{}, aligned) : run(std::false_type{}, aligned);
      },
      p.dlogits, p.logits);
}

}  // namespace vilg::cuda
