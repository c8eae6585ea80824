// One decoding step's attention, for the tests of the op's backends.
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "tests/harness.h"

namespace vilg::test {

struct DecodeCase {
  int64_t rows, heads, head_size, prefix, slots;
  DType dtype;
};

// Inputs of one decode step, with more capacity than is used; unused cache entries are NaN.
struct DecodeProblem {
  DecodeCase c;
  int64_t prefix_capacity, own_capacity;
  std::vector<float> q, prefix_k, prefix_v, own_k, own_v;
  std::vector<int32_t> slots;

  explicit DecodeProblem(const DecodeCase& decode) : c(decode) {
    prefix_capacity = c.prefix + 3;
    own_capacity = c.slots + 5;
    q = random_floats(static_cast<size_t>(c.rows * c.heads * c.head_size), 1, 2.0f);
    // all different, in no order: from the end, the last two exchanged
    for (int64_t i = 0; i < c.slots; ++i) {
      slots.push_back(static_cast<int32_t>(own_capacity - 1 - i));
    }
    if (c.slots > 1) std::swap(slots[slots.size() - 1], slots[slots.size() - 2]);
    fill(prefix_k, c.heads, prefix_capacity, 2, prefix_used());
    fill(prefix_v, c.heads, prefix_capacity, 3, prefix_used());
    fill(own_k, c.rows * c.heads, own_capacity, 4, own_used());
    fill(own_v, c.rows * c.heads, own_capacity, 5, own_used());
  }

  // With `spare_slots` the number of slots lies in memory, and so many more may lie there.
  std::vector<float> run(const OpTable& ops, int64_t first_row, int64_t rows,
                         int64_t spare_slots = 0) const {
    const int64_t width = c.heads * c.head_size, stride = width + 3;
    const bool half = c.dtype == DType::kBFloat16;
    const std::vector<bf16> h[] = {to_bf16(prefix_k), to_bf16(prefix_v), to_bf16(own_k),
                                   to_bf16(own_v)};
    const std::vector<float>* f[] = {&prefix_k, &prefix_v, &own_k, &own_v};
    const auto data = [&](int i, int64_t offset) -> const void* {
      if (half) return h[i].data() + offset;
      return f[i]->data() + offset;
    };
    std::vector<int32_t> all_slots = slots;
    all_slots.resize(slots.size() + static_cast<size_t>(spare_slots), -1);
    const auto slot_count = static_cast<int32_t>(c.slots);
    Guarded<float> out(static_cast<size_t>((rows - 1) * stride + width));
    AttentionDecodeParams p;
    const int64_t own = first_row * c.heads * own_capacity * c.head_size;
    p.out = out.data();
    p.q = q.data() + first_row * width;
    if (c.prefix) {
      p.prefix_k = data(0, 0);
      p.prefix_v = data(1, 0);
    }
    if (c.slots) {
      p.own_k = data(2, own);
      p.own_v = data(3, own);
      p.slots = all_slots.data();
    }
    p.out_stride = stride;
    p.q_stride = width;
    p.prefix_length = c.prefix;
    p.prefix_capacity = prefix_capacity;
    p.num_slots = c.slots + spare_slots;
    if (spare_slots) p.slot_count = &slot_count;
    p.own_capacity = own_capacity;
    p.rows = rows;
    p.heads = c.heads;
    p.head_size = c.head_size;
    p.cache_dtype = c.dtype;
    p.scale = 1.0f / std::sqrt(static_cast<float>(c.head_size));
    ops.attention_decode(p, context());
    EXPECT(out.intact(), "wrote outside the output");
    std::vector<float> dense;
    for (int64_t r = 0; r < rows; ++r) {
      dense.insert(dense.end(), out.data() + r * stride, out.data() + r * stride + width);
    }
    return dense;
  }

 private:
  std::vector<char> prefix_used() const {
    std::vector<char> used(static_cast<size_t>(prefix_capacity), 0);
    std::fill(used.begin(), used.begin() + c.prefix, 1);
    return used;
  }
  std::vector<char> own_used() const {
    std::vector<char> used(static_cast<size_t>(own_capacity), 0);
    for (int32_t slot : slots) used[static_cast<size_t>(slot)] = 1;
    return used;
  }
  void fill(std::vector<float>& cache, int64_t outer, int64_t capacity, uint32_t seed,
            const std::vector<char>& used) {
    cache = random_floats(static_cast<size_t>(outer * capacity * c.head_size), seed, 2.0f);
    for (size_t i = 0; i < cache.size(); ++i) {
      const size_t slot = i / static_cast<size_t>(c.head_size) % static_cast<size_t>(capacity);
      if (!used[slot]) cache[i] = NAN;
      if (c.dtype == DType::kBFloat16) cache[i] = bf16_to_float(float_to_bf16(cache[i]));
    }
  }
};

inline std::vector<DecodeCase> decode_cases() {
  std::vector<DecodeCase> cases;
  const int64_t prefixes[] = {0, 1, 15, 16, 17, 128, 257}, slots[] = {1, 0, 33, 16, 31, 5};
  const int64_t head_sizes[] = {64, 8, 20, 80, 16, 3, 32}, rows[] = {1, 2, 7, 8, 9};
  for (size_t i = 0; i < 28; ++i) {
    DecodeCase c{rows[i % 5],
                 1 + static_cast<int64_t>(i % 3),
                 head_sizes[i % 7 * 3 % 7],
                 prefixes[i % 7],
                 slots[(i + i / 7) % 6],
                 i % 2 ? DType::kBFloat16 : DType::kFloat32};
    if (c.prefix + c.slots > 0) cases.push_back(c);
  }
  return cases;
}

}  // namespace vilg::test
