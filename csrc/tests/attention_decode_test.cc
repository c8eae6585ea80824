#include <algorithm>

#include "tests/attention_decode_problem.h"
#include "tests/attention_problem.h"

namespace vilg::test {

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
