// What the emulation must find: each kernel here has a bug on purpose, or does what is allowed
// though it looks like one.
#include <cmath>

#include "tests/cuda/emulation.h"

namespace vilg::test {
namespace {

using namespace vilg::cuda;
using emulation::CopyTime;

bool all_are(const std::vector<float>& values, float expected) {
  return std::all_of(values.begin(), values.end(), [=](float x) { return x == expected; });
}
bool some_nan(const std::vector<float>& values) {
  return std::any_of(values.begin(), values.end(), [](float x) { return std::isnan(x); });
}

// --- copies
// ---------------------------------------------------------------------------------------

__global__ void no_wait_kernel(float* out, const float* from) {
  VILG_SHARED_MEMORY(smem);
  auto* tile = reinterpret_cast<float*>(smem);
  copy_async_16(tile + 4 * threadIdx.x, from + 4 * threadIdx.x);
  copy_async_commit();
  __syncthreads();  // and no copy_async_wait before it
  out[threadIdx.x] = tile[threadIdx.x];
  copy_async_wait<0>();
}

__global__ void wait_for_too_few_kernel(float* out, const float* from) {
  VILG_SHARED_MEMORY(smem);
  auto* tile = reinterpret_cast<float*>(smem);
  copy_async_commit();
  copy_async_16(tile + 4 * threadIdx.x, from + 4 * threadIdx.x);
  copy_async_commit();
  copy_async_wait<1>();  // should be 0
  __syncthreads();
  out[threadIdx.x] = tile[threadIdx.x];
  copy_async_wait<0>();
}

VILG_TEST(emulation_finds_a_missing_wait) {
  const std::vector<float> ones(256, 1.0f);
  for (auto* kernel : {no_wait_kernel, wait_for_too_few_kernel}) {
    {
      const Strict strict(CopyTime::kLatest);
      EXPECT(some_nan(results_of<float>(64, {1, 64, 1024}, kernel, ones.data())), "poison");
    }
    // the reason for two times of copying
    const Strict strict(CopyTime::kEarliest);
    EXPECT(all_are(results_of<float>(64, {1, 64, 1024}, kernel, ones.data()), 1), "hidden");
  }
}

__global__ void copy_too_early_kernel(float* out, const float* from, bool correct) {
  VILG_SHARED_MEMORY(smem);
  auto* tile = reinterpret_cast<float*>(smem);
  const auto thread = threadIdx.x;
  copy_async_16(tile + 4 * thread, from);  // ones
  copy_async_commit();
  copy_async_wait<0>();
  __syncthreads();
  out[thread] = tile[4 * (blockDim.x - 1 - thread)];
  if (correct) __syncthreads();
  copy_async_16(tile + 4 * thread, from + 4);  // twos, over what others have yet to read
  copy_async_commit();
  copy_async_wait<0>();
}

VILG_TEST(emulation_finds_a_copy_over_what_is_read) {
  alignas(16) const float from[8] = {1, 1, 1, 1, 2, 2, 2, 2};
  const Grid grid{1, 64, 1024};
  for (uint32_t seed : {0u, 7u}) {
    const Strict strict(CopyTime::kEarliest, seed);
    EXPECT(!all_are(results_of<float>(64, grid, copy_too_early_kernel, from, false), 1), "seen");
    EXPECT(all_are(results_of<float>(64, grid, copy_too_early_kernel, from, true), 1), "correct");
  }
}

__global__ void pending_kernel(float*, const float* from, bool commit) {
  VILG_SHARED_MEMORY(smem);
  if (threadIdx.x == 37) {
    copy_async_16(smem, from);
    if (commit) copy_async_commit();
  }
}

VILG_TEST(emulation_finds_copies_left_pending) {
  alignas(16) const float from[4] = {};
  for (bool commit : {false, true}) {
    const std::string failure = failure_of({1, 64, 64}, pending_kernel, nullptr, from, commit);
    EXPECT(contains(failure, "asynchronous copies") && contains(failure, "thread 37"), "%s",
           failure.c_str());
  }
}

__global__ void copy_address_kernel(const float* from, int shared_offset, int copied) {
  VILG_SHARED_MEMORY(smem);
  copy_async_16(smem + shared_offset, from, copied);
  copy_async_commit();
  copy_async_wait<0>();
}

VILG_TEST(emulation_finds_bad_addresses_of_copies) {
  alignas(16) const float from[8] = {};
  const Grid grid{1, 32, 64};
  EXPECT(failure_of(grid, copy_address_kernel, from, 48, 16).empty(), "the last 16 bytes");
  EXPECT(contains(failure_of(grid, copy_address_kernel, from, 64, 16), "outside shared"), "beyond");
  EXPECT(contains(failure_of(grid, copy_address_kernel, from, -16, 16), "outside shared"),
         "before");
  EXPECT(contains(failure_of(grid, copy_address_kernel, from, 8, 16), "not aligned"), "to");
  EXPECT(contains(failure_of(grid, copy_address_kernel, from + 1, 0, 16), "not aligned"), "from");
  EXPECT(contains(failure_of(grid, copy_address_kernel, from, 0, 17), "more than 16"), "size");
}

// --- barriers
// -------------------------------------------------------------------------------------

__global__ void neighbour_kernel(float* out, bool barrier, int step) {
  VILG_SHARED_MEMORY(smem);
  auto* values = reinterpret_cast<float*>(smem);
  const auto thread = static_cast<int>(threadIdx.x), threads = static_cast<int>(blockDim.x);
  values[thread] = 1;
  if (barrier) __syncthreads();
  out[thread] = values[(thread + step + threads) % threads];
}

VILG_TEST(emulation_finds_a_missing_barrier) {
  const Grid grid{1, 64, 256};
  for (uint32_t seed : {0u, 1u, 2u, 3u}) {
    const Strict strict(CopyTime::kLatest, seed);
    EXPECT(all_are(results_of<float>(64, grid, neighbour_kernel, true, 1), 1), "with it");
    EXPECT(some_nan(results_of<float>(64, grid, neighbour_kernel, false, 1)), "without it");
  }
}

__global__ void earlier_warp_kernel(float* out) {
  VILG_SHARED_MEMORY(smem);
  auto* values = reinterpret_cast<float*>(smem);
  if (warp_id() == 0) values[lane_id()] = 1;
  // a barrier is missing; in the order of the threads' numbers nobody notices
  out[threadIdx.x] = warp_id() == 1 ? values[lane_id()] : 1;
}

VILG_TEST(emulation_orders_find_more) {
  EXPECT(all_are(results_of<float>(64, {1, 64, 128}, earlier_warp_kernel), 1), "in order");
  bool found = false;
  for (uint32_t seed = 1; seed <= 8; ++seed) {
    const Strict strict(CopyTime::kLatest, seed);
    found |= some_nan(results_of<float>(64, {1, 64, 128}, earlier_warp_kernel));
  }
  EXPECT(found, "in one of eight orders");
}

__global__ void warp_barrier_kernel(float* out, bool barrier) {
  VILG_SHARED_MEMORY(smem);
  auto* values = reinterpret_cast<float*>(smem);
  values[threadIdx.x] = 1;
  if (barrier) __syncwarp();
  out[threadIdx.x] = values[threadIdx.x ^ 31u];
}

__global__ void matrix_before_barrier_kernel(float* out, bool barrier) {
  VILG_SHARED_MEMORY(smem);
  auto* rows = reinterpret_cast<bf16*>(smem);
  for (int i = 0; i < 8; ++i) rows[8 * lane_id() + i] = float_to_bf16(1.0f);
  if (barrier) __syncwarp();
  uint32_t matrices[4];
  load_matrices(matrices, rows + 8 * (31 - lane_id()));
  out[threadIdx.x] = low_bf16(matrices[0]);
}

VILG_TEST(emulation_finds_a_missing_warp_barrier) {
  for (auto* kernel : {warp_barrier_kernel, matrix_before_barrier_kernel}) {
    EXPECT(all_are(results_of<float>(32, {1, 32, 512}, kernel, true), 1), "with it");
    EXPECT(some_nan(results_of<float>(32, {1, 32, 512}, kernel, false)), "without it");
  }
}

__global__ void early_exit_kernel(float* out) {
  VILG_SHARED_MEMORY(smem);
  auto* values = reinterpret_cast<float*>(smem);
  const auto thread = threadIdx.x;
  out[thread] = 0;
  if (thread >= 48) return;  // half a warp leaves, then a whole one after the first barrier
  values[thread] = 1;
  __syncthreads();
  if (thread < 32) return;
  out[thread] = values[thread - 32];
  __syncthreads();
  out[thread] += values[thread];
}

VILG_TEST(emulation_allows_early_exits) {
  for (uint32_t seed : {0u, 1u, 2u}) {
    const Strict strict(CopyTime::kLatest, seed);
    const auto results = results_of<float>(64, {1, 64, 256}, early_exit_kernel);
    for (size_t i = 0; i < 64; ++i) {
      EXPECT(results[i] == (i >= 32 && i < 48 ? 2.0f : 0.0f), "%zu: %g", i, results[i]);
    }
  }
}

__global__ void waits_for_ever_kernel(int how) {
  if (how == 0 && threadIdx.x == 40) return;  // a lane is missing in a warp's operation
  if (how == 1 && threadIdx.x < 32) {  // a barrier and a warp's operation wait for each other
    if (threadIdx.x == 5) __syncthreads();
    __syncwarp();
  }
  __syncwarp();
  __syncthreads();
}

VILG_TEST(emulation_finds_waiting_for_ever) {
  std::string failure = failure_of({1, 64}, waits_for_ever_kernel, 0);
  EXPECT(contains(failure, "wait for ever") && contains(failure, "warp 1 has 31 left"), "%s",
         failure.c_str());
  failure = failure_of({1, 64}, waits_for_ever_kernel, 1);
  EXPECT(contains(failure, "wait for ever") && contains(failure, "31 of them in __syncwarp"), "%s",
         failure.c_str());
  EXPECT(failure_of({1, 64}, waits_for_ever_kernel, 2).empty(), "and no other");
}

// --- operations of a warp
// -------------------------------------------------------------------------

__global__ void divergent_kernel(int how) {
  const int lane = lane_id();
  if (how == 0) lane < 16 ? static_cast<void>(shuffle_xor(1, 1)) : static_cast<void>(ballot(true));
  if (how == 1) {
    lane < 16 ? static_cast<void>(shuffle_xor(1.0f, 1)) : static_cast<void>(shuffle_xor(1.0, 1));
  }
  if (how == 2 && lane != 3) __syncwarp();
}

VILG_TEST(emulation_finds_divergent_operations) {
  std::string failure = failure_of({dim3(3, 2), 64}, divergent_kernel, 0);
  EXPECT(contains(failure, "comes to ballot") && contains(failure, "are in shuffle_xor"), "%s",
         failure.c_str());
  EXPECT(contains(failure, "block (") && contains(failure, "thread "), "%s", failure.c_str());
  failure = failure_of({1, 64}, divergent_kernel, 1);
  EXPECT(contains(failure, "the same of another type"), "%s", failure.c_str());
  failure = failure_of({1, 64}, divergent_kernel, 2);
  EXPECT(contains(failure, "wait for ever"), "%s", failure.c_str());
}

__global__ void matrix_address_kernel(int offset) {
  VILG_SHARED_MEMORY(smem);
  alignas(16) const bf16 elsewhere[8] = {};
  uint32_t matrices[4];
  if (offset == 1000) {
    load_matrices_transposed(matrices, elsewhere);
  } else {
    load_matrices(matrices, smem + offset);
  }
}

VILG_TEST(emulation_finds_bad_addresses_of_matrices) {
  const Grid grid{1, 32, 512};
  EXPECT(failure_of(grid, matrix_address_kernel, 496).empty(), "the last row");
  for (int offset : {504, 512, -16, 1000}) {
    EXPECT(contains(failure_of(grid, matrix_address_kernel, offset), "outside shared memory"),
           "offset %d", offset);
  }
  EXPECT(contains(failure_of(grid, matrix_address_kernel, 8), "not aligned"), "unaligned");
}

// --- shared memory, grids
// --------------------------------------------------------------------------

__global__ void write_shared_kernel(int at) {
  VILG_SHARED_MEMORY(smem);
  if (threadIdx.x == 0) smem[at] = 1;
}

VILG_TEST(emulation_finds_writes_beyond_shared_memory) {
#if !defined(__SANITIZE_ADDRESS__)  // which ends the process, and says where
  for (int at : {100, 101, 355, -1, -256}) {
    EXPECT(contains(failure_of({2, 32, 100}, write_shared_kernel, at), "wrote outside its 100"),
           "at %d", at);
  }
#endif
  EXPECT(failure_of({2, 32, 100}, write_shared_kernel, 99).empty(), "the last byte");
}

__global__ void nothing_kernel() {}

VILG_TEST(emulation_refuses_what_a_gpu_refuses) {
  for (int threads : {0, 1, 33, 1056}) {
    EXPECT(contains(failure_of({1, threads}, nothing_kernel), "whole warps"), "%d", threads);
  }
  EXPECT(contains(failure_of({0, 32}, nothing_kernel), "a grid of"), "no blocks");
  EXPECT(contains(failure_of({dim3(1, 65536), 32}, nothing_kernel), "a grid of"), "y");
  EXPECT(contains(failure_of({dim3(1, 1, 65536), 32}, nothing_kernel), "a grid of"), "z");
  EXPECT(contains(failure_of({1, 32, 228 * 1024}, nothing_kernel), "shared memory"), "shared");
  EXPECT_ERROR(kInternal, dim3(int64_t{1} << 32));
  EXPECT(failure_of({1, 1024, 227 * 1024}, nothing_kernel).empty(), "the most");
}

// --- after an error
// ---------------------------------------------------------------------------------

__global__ void fails_in_the_middle_kernel(float* out, int failing) {
  VILG_SHARED_MEMORY(smem);
  auto* values = reinterpret_cast<float*>(smem);
  const auto thread = static_cast<int>(threadIdx.x);
  values[thread] = block_sum(1.0f, values + 1024);
  if (thread == failing) emulation::Block::current().fail("fails here");
  __syncthreads();
  copy_async_commit();
  out[thread] = values[static_cast<int>(blockDim.x) - 1 - thread];
}

VILG_TEST(emulation_goes_on_after_an_error) {
  const size_t shared_bytes = 1056 * sizeof(float);
  for (int turn = 0; turn < 3; ++turn) {
    for (int threads : {1024, 64}) {
      const Grid grid{4, threads, shared_bytes};
      std::vector<float> unused(1024);
      for (int failing : {0, threads / 2 + 3, threads - 1}) {
        const std::string failure =
            failure_of(grid, fails_in_the_middle_kernel, unused.data(), failing);
        EXPECT(contains(failure, "fails here") &&
                   contains(failure, format("thread %d ", failing).c_str()),
               "%s", failure.c_str());
      }
      const auto count = static_cast<size_t>(threads);
      const Grid one{1, threads, shared_bytes};
      EXPECT(all_are(results_of<float>(count, one, fails_in_the_middle_kernel, -1),
                     static_cast<float>(threads)),
             "the next launch");
    }
  }
}

}  // namespace
}  // namespace vilg::test
