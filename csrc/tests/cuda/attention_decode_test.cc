#include "cuda/emulation/block.h"
#include "kernels/cache.h"
#include "ref/ref_ops.h"
#include "tests/attention_decode_problem.h"
#include "tests/cuda/cuda_backend.h"
#include "tests/data.h"

namespace vilg::test {
namespace {

std::string name(const DecodeCase& c) {
  return format("%d rows, %d heads of %d, prefix %d, slots %d, %s", static_cast<int>(c.rows),
                static_cast<int>(c.heads), static_cast<int>(c.head_size),
                static_cast<int>(c.prefix), static_cast<int>(c.slots), dtype_name(c.dtype));
}

// Those of all backends, and ones that take several tiles, shares, groups of rows and blocks.
std::vector<DecodeCase> cases() {
  std::vector<DecodeCase> cases = decode_cases();
  for (DType dtype : {kF, kH}) {
    cases.push_back({17, 2, 64, 127, 33, dtype});
    cases.push_back({1, 1, 64, 300, 61, dtype});
    cases.push_back({2, 1, 128, 40, 130, dtype});
    cases.push_back({9, 1, 32, 1025, 3, dtype});
    cases.push_back({1, 1, 8, 3, 1100, dtype});
    cases.push_back({1, 1, 16, 513, 2100, dtype});
    cases.push_back({3, 2, 136, 70, 40, dtype});
  }
  return cases;
}

VILG_TEST(cuda_attention_decode_close_to_ref) {
  for (const DecodeCase& c : cases()) {
    const DecodeProblem problem(c);
    const std::vector<float> expected = problem.run(ref_ops(), 0, c.rows);
    // caches are rounded beforehand, so only float32 sums count: as in attention_cpu_close_to_ref
    const double error = relative_error(problem.run(cuda_ops(), 0, c.rows), expected);
    EXPECT(error <= 2e-6, "%s: %g", name(c).c_str(), error);
  }
}

VILG_TEST(cuda_attention_decode_row_alone_has_the_same_bits) {
  for (const DecodeCase& c : cases()) {
    if (c.rows == 1) continue;
    const DecodeProblem problem(c);
    const auto width = static_cast<size_t>(c.heads * c.head_size);
    const std::vector<float> together = problem.run(cuda_ops(), 0, c.rows);
    for (int64_t r = 0; r<c.rows; r += c.rows> 9 ? 5 : 1) {
      const auto begin = together.begin() + r * static_cast<int64_t>(width);
      EXPECT(same_bits(problem.run(cuda_ops(), r, 1), {begin, begin + width}), "%s: row %d",
             name(c).c_str(), static_cast<int>(r));
    }
    const auto half = c.rows / 2;
    EXPECT(same_bits(problem.run(cuda_ops(), half, c.rows - half),
                     {together.begin() + half * static_cast<int64_t>(width), together.end()}),
           "%s: the last rows", name(c).c_str());
  }
}

VILG_TEST(cuda_attention_decode_counts_slots_on_the_device) {
  for (const DecodeCase& c : cases()) {
    if (c.slots == 0) continue;
    const DecodeProblem problem(c);
    const std::vector<float> all = problem.run(cuda_ops(), 0, c.rows);
    for (int64_t spare : {1, 40}) {
      EXPECT(same_bits(problem.run(cuda_ops(), 0, c.rows, spare), all), "%s, and %d",
             name(c).c_str(), static_cast<int>(spare));
    }
    // more blocks than there are keys for: another order of sums, nothing else
    const double error = relative_error(problem.run(cuda_ops(), 0, c.rows, 1500), all);
    EXPECT(error <= 2e-6, "%s, and 1500: %g", name(c).c_str(), error);
  }
}

VILG_TEST(cuda_attention_decode_same_bits_in_any_order) {
  if (!cuda_emulated()) return;
  for (const DecodeCase& c : cases()) {
    const DecodeProblem problem(c);
    const auto run = [&](const cuda::emulation::Strictness& strictness) {
      cuda::emulation::set_strictness(strictness);
      const std::vector<float> out = problem.run(cuda_ops(), 0, c.rows);
      cuda::emulation::set_strictness({});
      return out;
    };
    using enum cuda::emulation::CopyTime;
    const std::vector<float> latest = run({kLatest, 0});
    EXPECT(same_bits(run({kEarliest, 0}), latest), "%s: early copies", name(c).c_str());
    EXPECT(same_bits(run({kLatest, 3}), latest), "%s: another order", name(c).c_str());
  }
}

struct WriteCase {
  int64_t tokens, heads, head_size, capacity, first_slot, slot_step, row_step;
};

VILG_TEST(cuda_cache_write) {
  const WriteCase cases[] = {
      {1, 1, 1, 1, 0, 0, 0},  {3, 2, 64, 9, 5, 0, 1},  {9, 2, 64, 12, 2, 1, 0},
      {4, 3, 20, 7, 6, 0, 1}, {5, 1, 3, 20, 1, 2, 0},  {2, 1, 24, 3, 1, 1, 2},
      {1, 5, 8, 4, 3, 0, 0},  {2, 3, 128, 2, 1, 0, 1}, {130, 1, 16, 140, 0, 1, 0},
  };
  for (const WriteCase& c : cases) {
    for (DType dtype : {kF, kH}) {
      for (int64_t gap : {0, 4, 7}) {
        for (int32_t slot : {-1, 0, 1}) {  // -1: none
          if (slot >= 0 && c.first_slot == 0) continue;
          CacheWriteParams p;
          p.token_stride = c.heads * c.head_size + gap;
          p.tokens = c.tokens, p.heads = c.heads, p.head_size = c.head_size;
          p.capacity = c.capacity, p.first_slot = c.first_slot - std::max(slot, 0);
          p.slot_step = c.slot_step, p.row_step = c.row_step, p.cache_dtype = dtype;
          if (slot >= 0) p.slot = &slot;
          const auto inputs = static_cast<size_t>(c.tokens * p.token_stride);
          const std::vector<float> k = random_floats(inputs, 1), v = random_floats(inputs, 2);
          p.k = k.data(), p.v = v.data();
          const auto count = static_cast<size_t>(((c.tokens - 1) * c.row_step + 1) * c.heads *
                                                 c.capacity * c.head_size);
          const Data before(dtype, count, 3);
          Output expected_k(dtype, count), expected_v(dtype, count);
          Output actual_k(dtype, count), actual_v(dtype, count);
          for (Output* cache : {&expected_k, &expected_v, &actual_k, &actual_v}) {
            cache->fill(before);
          }
          p.k_cache = expected_k.data(), p.v_cache = expected_v.data();
          ref::cache_write(p, context());
          p.k_cache = actual_k.data(), p.v_cache = actual_v.data();
          cuda_ops().cache_write(p, context());
          EXPECT(same_bits(actual_k.values(), expected_k.values()) &&
                     same_bits(actual_v.values(), expected_v.values()) && actual_k.intact() &&
                     actual_v.intact(),
                 "%d tokens, %d heads of %d, %s, gap %d, slot %d", static_cast<int>(c.tokens),
                 static_cast<int>(c.heads), static_cast<int>(c.head_size), dtype_name(dtype),
                 static_cast<int>(gap), slot);
        }
      }
    }
  }
}

}  // namespace
}  // namespace vilg::test
