#include <atomic>
#include <cmath>
#include <limits>
#include <set>
#include <thread>

#include "core/philox.h"
#include "core/tensor.h"
#include "tests/harness.h"

namespace vilg::test {

VILG_TEST(comparer_notices_what_is_wrong) {
  const std::vector<float> a = random_floats(100, 1);
  std::vector<float> b = a;
  EXPECT(relative_error(a, b) == 0, "equal");
  b[17] = std::numeric_limits<float>::quiet_NaN();
  EXPECT(std::isinf(relative_error(b, a)) && std::isinf(max_abs_error(b, a)), "NaN in actual");
  EXPECT(std::isinf(relative_error(a, b)) && std::isinf(max_abs_error(a, b)), "NaN in expected");
  b = a;
  b.pop_back();
  EXPECT(std::isinf(relative_error(a, b)) && std::isinf(max_abs_error(a, b)), "length");
  b = a;
  b[3] += 1;
  EXPECT(relative_error(b, a) > 0.1 && max_abs_error(b, a) > 0.9, "one wrong element");
  std::vector<float> negative(10, -2.0f), other(10, -1.0f);
  EXPECT(relative_error(negative, other) > 0.9 && max_abs_error(negative, other) > 0.9,
         "all negative");
}

VILG_TEST(guards_notice_writes_outside) {
  Guarded<float> guarded(8);
  EXPECT(guarded.intact(), "untouched");
  EXPECT(std::isnan(guarded.values()[0]), "poisoned");
  guarded.data()[8] = 0;
  EXPECT(!guarded.intact(), "write past the end");
}

// Known answers of Random123 (kat_vectors): Salmon et al. 2011
VILG_TEST(philox_known_answers) {
  const auto zeros = philox({0, 0, 0, 0}, {0, 0});
  EXPECT(zeros[0] == 0x6627e8d5 && zeros[1] == 0xe169c58d && zeros[2] == 0xbc57ac4c &&
             zeros[3] == 0x9b00dbd8,
         "%08x %08x %08x %08x", zeros[0], zeros[1], zeros[2], zeros[3]);
  const auto ones = philox({~0u, ~0u, ~0u, ~0u}, {~0u, ~0u});
  EXPECT(ones[0] == 0x408f276d && ones[1] == 0x41c83b0e && ones[2] == 0xa20bc7c6 &&
             ones[3] == 0x6d5451fd,
         "%08x %08x %08x %08x", ones[0], ones[1], ones[2], ones[3]);
  const auto pi =
      philox({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0});
  EXPECT(pi[0] == 0xd16cfe09 && pi[1] == 0x94fdcceb && pi[2] == 0x5001e420 && pi[3] == 0x24126ea1,
         "%08x %08x %08x %08x", pi[0], pi[1], pi[2], pi[3]);
}

VILG_TEST(bf16_rounds_to_nearest_even) {
  EXPECT(float_to_bf16(1.0f) == 0x3f80, "one");
  EXPECT(float_to_bf16(1.00390625f) == 0x3f80, "tie to even, down");
  EXPECT(float_to_bf16(1.01171875f) == 0x3f82, "tie to even, up");
  EXPECT(std::isnan(bf16_to_float(float_to_bf16(std::numeric_limits<float>::signaling_NaN()))),
         "NaN stays");
  EXPECT(std::isinf(bf16_to_float(float_to_bf16(std::numeric_limits<float>::max()))),
         "overflow rounds to infinity");
}

VILG_TEST(thread_pool_runs_every_task_once) {
  ThreadPool pool(3);
  for (int round = 0; round < 200; ++round) {
    std::vector<std::atomic<int>> counts(static_cast<size_t>(round));
    pool.parallel_for(round, [&](int64_t i) { counts[static_cast<size_t>(i)]++; });
    for (auto& count : counts) EXPECT(count == 1, "task ran %d times", count.load());
  }
}

VILG_TEST(thread_pool_nests_and_serves_several_callers) {
  ThreadPool pool(2);
  std::atomic<int64_t> sum{0};
  std::vector<std::thread> callers;
  for (int t = 0; t < 3; ++t) {
    callers.emplace_back([&] {
      for (int round = 0; round < 50; ++round) {
        pool.parallel_for(10, [&](int64_t) { pool.parallel_for(5, [&](int64_t i) { sum += i; }); });
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  EXPECT(sum == 3 * 50 * 10 * 10, "sum %lld", static_cast<long long>(sum.load()));
}

VILG_TEST(thread_pool_throws_the_first_error_and_lives_on) {
  ThreadPool pool(2);
  for (int round = 0; round < 20; ++round) {
    EXPECT_ERROR(kInternal, pool.parallel_for(100, [&](int64_t i) {
      VILG_CHECK(i != 50, kInternal, "task %d", 50);
    }));
  }
  std::atomic<int> count{0};
  pool.parallel_for(10, [&](int64_t) { count++; });
  EXPECT(count == 10, "%d", count.load());
}

VILG_TEST(arena_reuses_and_counts) {
  HostArena arena;
  void* a = arena.allocate(1000);
  const size_t in_use = arena.bytes_in_use();
  EXPECT(in_use >= 1000 && in_use <= 1280, "%zu", in_use);
  EXPECT(reinterpret_cast<uintptr_t>(a) % 64 == 0, "alignment");
  arena.deallocate(a);
  EXPECT(arena.bytes_in_use() == 0 && arena.peak_bytes() == in_use, "after free");
  EXPECT(arena.allocate(1000) == a, "the block comes back");
  arena.deallocate(a);
  EXPECT_ERROR(kOutOfMemory, arena.allocate(size_t{1} << 50));
}

VILG_TEST(tensor_views_share_memory) {
  HostArena arena;
  Tensor tensor = Tensor::empty(arena, DType::kFloat32, {2, 3});
  tensor.f32()[5] = 7;
  Tensor view = tensor.view({6});
  tensor = Tensor();
  EXPECT(view.f32()[5] == 7 && arena.bytes_in_use() > 0, "kept alive by the view");
  EXPECT_ERROR(kShapeMismatch, view.view({5}));
}

}  // namespace vilg::test
