#include <algorithm>

#include "tests/attention_problem.h"

namespace vilg::test {
namespace {

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

  std::vector<float> run(const OpTable& ops, int64_t first_row, int64_t rows) const {
    const int64_t width = c.heads * c.head_size, stride = width + 3;
    const bool half = c.dtype == DType::kBFloat16;
    const std::vector<bf16> h[] = {to_bf16(prefix_k), to_bf16(prefix_v), to_bf16(own_k),
                                   to_bf16(own_v)};
    const std::vector<float>* f[] = {&prefix_k, &prefix_v, &own_k, &own_v};
    const auto data = [&](int i, int64_t offset) -> const void* {
      if (half) return h[i].data() + offset;
      return f[i]->data() + offset;
    };
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
      p.slots = slots.data();
    }
    p.out_stride = stride;
    p.q_stride = width;
    p.prefix_length = c.prefix;
    p.prefix_capacity = prefix_capacity;
    p.num_slots = c.slots;
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

std::vector<DecodeCase> decode_cases() {
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

}  // namespace

VILG_TEST(attention_decode_cpu_close_to_ref) {
  for (const DecodeCase& c : decode_cases()) {
    const DecodeProblem problem(c);
    const std::vector<float> expected = problem.run(ref_ops(), 0, c.rows);
    for_each_isa([&](const char* isa) {
      // caches are rounded beforehand, so only float32 sums count: as in attention_cpu_close_to_ref
      const double error = relative_error(problem.run(cpu_ops(), 0, c.rows), expected);
      EXPECT(error <= 2e-6, "%s: %d rows, %d heads of %d, prefix %d, slots %d: %g", isa,
             static_cast<int>(c.rows), static_cast<int>(c.heads), static_cast<int>(c.head_size),
             static_cast<int>(c.prefix), static_cast<int>(c.slots), error);
    });
  }
}

VILG_TEST(attention_decode_row_alone_has_the_same_bits) {
  for (const DecodeCase& c : decode_cases()) {
    const DecodeProblem problem(c);
    const size_t width = static_cast<size_t>(c.heads * c.head_size);
    std::vector<float> together;
    with_threads(1, [&] { together = problem.run(cpu_ops(), 0, c.rows); });
    for (int threads : {2, 3}) {
      with_threads(threads, [&] {
        EXPECT(problem.run(cpu_ops(), 0, c.rows) == together, "%d threads", threads);
      });
    }
    for (int64_t r = 0; r < c.rows; ++r) {
      const std::vector<float> alone = problem.run(cpu_ops(), r, 1);
      EXPECT(std::equal(alone.begin(), alone.end(),
                        together.begin() + r * static_cast<int64_t>(width)),
             "row %d of %d", static_cast<int>(r), static_cast<int>(c.rows));
    }
  }
}

VILG_TEST(attention_decode_is_a_row_of_forward) {
  // the prompt as shared prefix, the image keys of one query as slots: what the sampler does
  for (Pattern pattern : {Pattern::kRow, Pattern::kColumn, Pattern::kConv, Pattern::kFull}) {
    AttentionCase a;
    a.pattern = pattern;
    a.text = 9;
    a.grid = 6;
    a.kernel = 5;
    a.head_size = 24;
    a.layout = Layout::kByHead;
    AttentionProblem problem(a);
    const StreamSizes sizes{a.text, a.grid, a.kernel};
    const AttentionResult forward = problem.run(cpu_ops(), false, DType::kFloat32);
    const int64_t D = a.head_size, start = sizes.image_start(a.direction);
    for (int64_t image : {0, 7, 20, 35}) {
      const StreamToken query{Segment::kImage, image};
      std::vector<int32_t> slots;
      for (int64_t r = 0; r < num_image_runs(pattern, a.direction, query, sizes); ++r) {
        const ImageRun run = image_run(pattern, a.direction, query, r, sizes);
        for (int64_t i = 0; i < run.count; ++i) {
          slots.push_back(static_cast<int32_t>(run.first + i * run.stride));
        }
      }
      Guarded<float> out(static_cast<size_t>(D));
      AttentionDecodeParams p;
      p.out = out.data();
      p.q = &problem.qkv()[problem.index(0, 0, start + 1 + image, 0, 0)];
      p.prefix_k = &problem.qkv()[problem.index(1, 0, 0, 0, 0)];
      p.prefix_v = &problem.qkv()[problem.index(2, 0, 0, 0, 0)];
      p.own_k = &problem.qkv()[problem.index(1, 0, start + 1, 0, 0)];
      p.own_v = &problem.qkv()[problem.index(2, 0, start + 1, 0, 0)];
      p.slots = slots.data();
      p.prefix_length = p.prefix_capacity = a.text + 1;
      p.num_slots = static_cast<int64_t>(slots.size());
      p.own_capacity = sizes.image_length();
      p.rows = p.heads = 1;
      p.head_size = D;
      p.scale = problem.scale();
      cpu_ops().attention_decode(p, context());
      const auto row = forward.out.begin() + (start + 1 + image) * D;
      const double error = relative_error(out.values(), {row, row + D});
      EXPECT(error <= 2e-6, "pattern %d token %d: %g", static_cast<int>(pattern),
             static_cast<int>(image), error);
    }
  }
}

VILG_TEST(attention_decode_refuses_bad_parameters) {
  std::vector<float> memory(1024);
  const std::vector<int32_t> slots{0, 3};
  AttentionDecodeParams good;
  good.out = memory.data();
  good.q = memory.data();
  good.prefix_k = good.prefix_v = good.own_k = good.own_v = memory.data();
  good.slots = slots.data();
  good.out_stride = good.q_stride = 16;
  good.prefix_length = good.prefix_capacity = 4;
  good.num_slots = 2;
  good.own_capacity = 4;
  good.rows = good.heads = 2;
  good.head_size = 8;
  for (const OpTable* ops : {&ref_ops(), &cpu_ops()}) {
    AttentionDecodeParams p = good;
    p.own_capacity = 3;  // slot 3 lies outside
    EXPECT_ERROR(kShapeMismatch, ops->attention_decode(p, context()));
    p = good;
    p.prefix_length = 5;
    EXPECT_ERROR(kShapeMismatch, ops->attention_decode(p, context()));
    p = good;
    p.prefix_length = p.num_slots = 0;
    EXPECT_ERROR(kShapeMismatch, ops->attention_decode(p, context()));
    p = good;
    p.q_stride = 15;
    EXPECT_ERROR(kShapeMismatch, ops->attention_decode(p, context()));
    p = good;
    p.own_v = nullptr;
    EXPECT_ERROR(kInvalidArgument, ops->attention_decode(p, context()));
    p = good;
    p.cache_dtype = DType::kInt32;
    EXPECT_ERROR(kUnsupported, ops->attention_decode(p, context()));
  }
}

}  // namespace vilg::test
