// cuda/sort.h and cuda/scan.h by themselves, on the emulation.
#include "cuda/sort.h"

#include <algorithm>
#include <numeric>
#include <random>

#include "cuda/scan.h"
#include "tests/cuda/emulation.h"

namespace vilg::test {
namespace {

using namespace vilg::cuda;

__global__ void scan_kernel(uint64_t* out) {
  VILG_SHARED_MEMORY(smem);
  const uint64_t before =
      block_sum_before(uint64_t{1} << (threadIdx.x % 50), reinterpret_cast<uint64_t*>(smem));
  out[threadIdx.x] =
      before + block_sum_before(uint64_t{threadIdx.x} << 52, reinterpret_cast<uint64_t*>(smem));
}

VILG_TEST(cuda_scan) {
  for (int threads : {32, 64, 96, 512, 1024}) {
    const auto results = results_of<uint64_t>(static_cast<size_t>(threads),
                                              {1, threads, 32 * sizeof(uint64_t)}, scan_kernel);
    uint64_t expected = 0;
    for (uint64_t i = 0; i < results.size(); ++i) {
      EXPECT(results[i] == expected, "%d threads, %llu", threads,
             static_cast<unsigned long long>(i));
      expected += (uint64_t{1} << (i % 50)) + (i << 52);
    }
  }
}

VILG_TEST(cuda_sorted_positions) {
  Queue& queue = emulated_queue();
  std::mt19937 engine(1);
  for (uint32_t largest : {0u, 1u, 255u, 256u, 65535u, 65536u, 0xffffffffu}) {
    for (int64_t count : {1, 31, 33, 2047, 2048, 2049, 7000}) {
      std::vector<uint32_t> keys(static_cast<size_t>(count));
      for (uint32_t& key : keys) {  // many equal ones
        key =
            engine() % 4 == 0 ? largest : static_cast<uint32_t>(engine() % (uint64_t{largest} + 1));
      }
      SortedPositions sorted(queue, count, largest);
      queue.copy_in(sorted.keys(), keys.data(), keys.size() * 4);
      sorted.sort(queue);
      std::vector<uint32_t> positions(keys.size()), in_order(keys.size()), expected(keys.size());
      queue.copy_out(positions.data(), sorted.positions(), keys.size() * 4);
      queue.copy_out(in_order.data(), sorted.sorted_keys(), keys.size() * 4);
      std::iota(expected.begin(), expected.end(), 0u);
      std::stable_sort(expected.begin(), expected.end(),
                       [&](uint32_t a, uint32_t b) { return keys[a] < keys[b]; });
      EXPECT(positions == expected, "%lld keys up to %u", static_cast<long long>(count), largest);
      std::sort(keys.begin(), keys.end());
      EXPECT(in_order == keys, "%lld keys up to %u", static_cast<long long>(count), largest);
    }
  }
  EXPECT_ERROR(kUnsupported, SortedPositions(queue, 10, uint64_t{1} << 32));
}

}  // namespace
}  // namespace vilg::test
