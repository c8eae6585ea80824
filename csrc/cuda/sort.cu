// A stable radix sort by digits of 8 bits, the last digit first: for each digit, every block counts
// its own, then finds the places of its own by all blocks' counts and moves them there. For 18,432
// keys of 15 bits that is four launches over nine blocks.
#include "cuda/sort.h"

#include <bit>
#include <utility>

#include "core/error.h"
#include "cuda/launch.h"
#include "cuda/scan.h"

namespace vilg::cuda {
namespace {

constexpr int kDigitBits = 8, kDigits = 1 << kDigitBits;
constexpr int kThreads = kDigits;  // one digit each
constexpr int kWarps = kThreads / kLanes;
constexpr int kRounds = 8;  // numbers of a lane; a warp takes 256 that follow each other
constexpr int kWarpNumbers = kRounds * kLanes, kBlockNumbers = kWarps * kWarpNumbers;

__device__ __forceinline__ uint32_t digit_of(uint32_t key, int shift) {
  return key >> shift & (kDigits - 1);
}

// counts: (blocks, kDigits)
__global__ void __launch_bounds__(kThreads)
    count_kernel(uint32_t* counts, const uint32_t* keys, int64_t count, int shift) {
  VILG_SHARED_MEMORY(smem);
  auto* mine = reinterpret_cast<uint32_t*>(smem);
  mine[threadIdx.x] = 0;
  __syncthreads();
  const int64_t begin = int64_t{blockIdx.x} * kBlockNumbers;
#pragma unroll
  for (int round = 0; round < kRounds; ++round) {
    const int64_t i = begin + round * kThreads + threadIdx.x;
    if (i < count) atomic_add(mine + digit_of(keys[i], shift), 1u);
  }
  __syncthreads();
  counts[int64_t{blockIdx.x} * kDigits + threadIdx.x] = mine[threadIdx.x];
}

struct MoveMemory {
  uint32_t places[kWarps][kDigits];  // counts at first, then where the next of a digit goes
  uint32_t scratch[kLanes];
};

// `positions` may be null: then a key's position is where it lies.
__global__ void __launch_bounds__(kThreads)
    move_kernel(uint32_t* to_keys, uint32_t* to_positions, const uint32_t* keys,
                const uint32_t* positions, const uint32_t* counts, int64_t count, int shift) {
  VILG_SHARED_MEMORY(smem);
  auto& memory = *reinterpret_cast<MoveMemory*>(smem);
  const auto digit = static_cast<int>(threadIdx.x);
  uint32_t* places = memory.places[warp_id()];
  for (int warp = 0; warp < kWarps; ++warp) memory.places[warp][digit] = 0;
  // where this block's numbers with this thread's digit begin
  uint32_t before = 0, total = 0;
#pragma unroll 8
  for (uint32_t block = 0; block < gridDim.x; ++block) {
    const uint32_t n = counts[int64_t{block} * kDigits + digit];
    total += n;
    if (block < blockIdx.x) before += n;
  }
  uint32_t place = block_sum_before(total, memory.scratch) + before;

  const int64_t begin = int64_t{blockIdx.x} * kBlockNumbers + warp_id() * kWarpNumbers + lane_id();
  uint32_t own[kRounds];
#pragma unroll
  for (int round = 0; round < kRounds; ++round) {
    const int64_t i = begin + round * kLanes;
    own[round] = i < count ? keys[i] : 0;
    if (i < count) atomic_add(places + digit_of(own[round], shift), 1u);
  }
  __syncthreads();
  for (int warp = 0; warp < kWarps; ++warp) {
    const uint32_t n = memory.places[warp][digit];
    memory.places[warp][digit] = place;
    place += n;
  }
  __syncthreads();
#pragma unroll
  for (int round = 0; round < kRounds; ++round) {
    const int64_t i = begin + round * kLanes;
    const uint32_t key = own[round], d = digit_of(key, shift);
    uint32_t same = ballot(i < count);  // lanes with the same digit
#pragma unroll
    for (int bit = 0; bit < kDigitBits; ++bit) {
      const bool set = d >> bit & 1u;
      const uint32_t lanes = ballot(set);
      same &= set ? lanes : ~lanes;
    }
    const int rank = __popc(same & ((1u << lane_id()) - 1));
    const uint32_t to = places[d] + static_cast<uint32_t>(rank);
    __syncwarp();
    if (i < count) {
      if (rank == 0) places[d] += static_cast<uint32_t>(__popc(same));
      to_keys[to] = key;
      to_positions[to] = positions ? positions[i] : static_cast<uint32_t>(i);
    }
    __syncwarp();
  }
}

int passes_for(uint64_t largest_key) {
  const int bits = std::bit_width(largest_key);
  return bits <= kDigitBits ? 1 : static_cast<int>(ceil_div(bits, kDigitBits));
}

}  // namespace

SortedPositions::SortedPositions(Queue& queue, int64_t count, uint64_t largest_key)
    : count_(count),
      passes_(passes_for(largest_key)),
      arrays_(queue.allocator(), static_cast<size_t>(4 * count) * sizeof(uint32_t)),
      counts_(queue.allocator(),
              static_cast<size_t>(ceil_div(count, kBlockNumbers) * kDigits) * sizeof(uint32_t)),
      keys_(arrays_.as<uint32_t>()),
      other_keys_(keys_ + count),
      positions_(keys_ + 2 * count),
      other_positions_(keys_ + 3 * count) {
  VILG_CHECK(count < int64_t{1} << 32 && largest_key < uint64_t{1} << 32, kUnsupported,
             "Expected fewer than 2^32 indices into fewer than 2^32 rows, received %lld into %llu",
             static_cast<long long>(count), static_cast<unsigned long long>(largest_key));
}

void SortedPositions::sort(Queue& queue) {
  const int64_t blocks = ceil_div(count_, kBlockNumbers);
  auto* counts = counts_.as<uint32_t>();
  for (int pass = 0; pass < passes_; ++pass) {
    const int shift = pass * kDigitBits;
    launch(queue, {blocks, kThreads, kDigits * sizeof(uint32_t)}, count_kernel, counts, keys_,
           count_, shift);
    launch(queue, {blocks, kThreads, sizeof(MoveMemory)}, move_kernel, other_keys_,
           other_positions_, keys_, pass == 0 ? nullptr : positions_, counts, count_, shift);
    std::swap(keys_, other_keys_);
    std::swap(positions_, other_positions_);
  }
}

}  // namespace vilg::cuda
