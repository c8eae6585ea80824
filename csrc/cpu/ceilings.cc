#include "kernels/ceilings.h"

#include <algorithm>
#include <atomic>
#include <chrono>

#include "cpu/cpu_ops.h"
#include "cpu/isa.h"
#include "cpu/simd/ceilings.h"

namespace vilg::cpu {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

struct Rates {
  double best = 0, mean = 0;
};

// Work per second of `slice`, which returns how much it did: of as many as fit into `milliseconds`,
// at least three.
template <typename Slice>
Rates measure(double milliseconds, OpContext& ctx, const Slice& slice) {
  Rates rates;
  double total = 0;
  const Clock::time_point begin = Clock::now();
  for (int i = 0; i < 3 || seconds_since(begin) * 1e3 < milliseconds; ++i) {
    ctx.check_stop();
    const Clock::time_point start = Clock::now();
    const double work = slice();
    rates.best = std::max(rates.best, work / seconds_since(start));
    total += work;
  }
  rates.mean = total / seconds_since(begin);
  return rates;
}

constexpr int64_t kTasksPerThread = 16;    // so that threads end within a few percent of each other
constexpr int64_t kIterations = 20000;     // of a task: about 0.1 ms
constexpr int64_t kReadBytes = 256 << 20;  // beyond the last cache of most machines
constexpr int64_t kSliceBytes = 64 << 20;  // of a slice, which goes on where the last one ended
constexpr int64_t kReadTaskBytes = 1 << 20;  // of a task; a multiple of what `read` asks for

}  // namespace
}  // namespace vilg::cpu

namespace vilg {

CpuCeilings measure_cpu_ceilings(double milliseconds, OpContext& ctx) {
  using namespace cpu;
  const CeilingsSimd* simd = VILG_SIMD(ceilings);
  const int64_t tasks = kTasksPerThread * ctx.pool->num_threads();
  // what loops return goes here, or the compiler could leave them out
  std::atomic<float> sink{0};

  const auto products = [&](float (*loop)(int64_t), int64_t flops) {
    const Rates rates = measure(milliseconds, ctx, [&] {
      ctx.pool->parallel_for(
          tasks, [&](int64_t) { sink.store(loop(kIterations), std::memory_order_relaxed); });
      return static_cast<double>(tasks) * static_cast<double>(kIterations * flops);
    });
    return rates.best;
  };
  CpuCeilings ceilings{};
  ceilings.float32_flops = products(simd->multiply_add, simd->multiply_add_flops);
  if (simd->multiply_pairs) {
    ceilings.bfloat16_flops = products(simd->multiply_pairs, simd->multiply_pairs_flops);
  }

  Workspace workspace(*ctx.allocator, kReadBytes);
  float* data = workspace.as<float>();
  constexpr int64_t kTaskFloats = kReadTaskBytes / 4;
  // written first: pages that were never written are all one page of zeros
  ctx.pool->parallel_for(kReadBytes / kReadTaskBytes, [&](int64_t task) {
    std::fill_n(data + task * kTaskFloats, kTaskFloats, static_cast<float>(task));
  });
  int64_t first = 0;
  const Rates reading = measure(milliseconds, ctx, [&] {
    ctx.pool->parallel_for(kSliceBytes / kReadTaskBytes, [&](int64_t task) {
      sink.store(simd->read(data + first + task * kTaskFloats, kTaskFloats),
                 std::memory_order_relaxed);
    });
    first = (first + kSliceBytes / 4) % (kReadBytes / 4);
    return static_cast<double>(kSliceBytes);
  });
  ceilings.read_bytes = reading.best;
  ceilings.sustained_read_bytes = reading.mean;
  return ceilings;
}

}  // namespace vilg
