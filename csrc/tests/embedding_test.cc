#include <cmath>
#include <cstring>

#include "tests/embedding_problem.h"

namespace vilg::test {
namespace {

constexpr int64_t kChannels[] = {1, 15, 16, 33, 64, 65, 131};

}  // namespace

VILG_TEST(stream_embedding_by_hand) {
  EmbeddingCase c(1, 1, {2, 2, 3}, Direction::kTextToImage);
  c.tables[0].assign(11, 0);
  c.tables[0][4] = 1, c.tables[0][9] = 2;  // text 4, 9
  c.tables[1].assign(7, 0);
  for (size_t i = 0; i < 7; ++i) c.tables[1][i] = static_cast<float>(i);
  c.tables[2] = {1000};
  c.tables[3] = {10, 20};
  c.tables[4] = {100, 200};
  c.tables[5] = {0.25f, 0.5f};
  c.tables[6] = {3, 7};
  c.text = {9, 4};
  c.image = {6, 0, 5, 1};
  const std::vector<float> text = {15, 24}, image = {1007, 113.25f, 107.5f, 212.25f, 208.5f};
  for (const OpTable* ops : {&ref_ops(), &cpu_ops()}) {
    std::vector<float> expected = text;
    expected.insert(expected.end(), image.begin(), image.end());
    c.direction = Direction::kTextToImage;
    EXPECT(forward(*ops, c, DType::kFloat32, DType::kFloat32) == expected, "%s t2i", ops->name);
    expected = image;
    expected.insert(expected.end(), text.begin(), text.end());
    c.direction = Direction::kImageToText;
    EXPECT(forward(*ops, c, DType::kFloat32, DType::kFloat32) == expected, "%s i2t", ops->name);
  }
}

VILG_TEST(stream_embedding_backward_against_finite_differences) {
  for (Direction direction : kDirections) {
    EmbeddingCase c(2, 3, {4, 3, 3}, direction);
    const auto gradients = backward(ref_ops(), c, DType::kFloat32, 0);
    const auto loss = [&] {
      const std::vector<float> out = forward(ref_ops(), c, DType::kFloat32, DType::kFloat32);
      double sum = 0;
      for (size_t i = 0; i < out.size(); ++i) sum += static_cast<double>(out[i]) * c.dout[i];
      return sum;
    };
    for (int t = 0; t < 7; ++t) {
      for (size_t i = 0; i < c.tables[t].size(); ++i) {
        // linear, so a large step is exact and leaves only the output's rounding
        const double expected = finite_difference(c.tables[t], i, 4, loss);
        EXPECT(std::abs(gradients[static_cast<size_t>(t)][i] - expected) < 1e-5,
               "table %d, element %zu: %g, %g", t, i, gradients[static_cast<size_t>(t)][i],
               expected);
      }
    }
  }
}

VILG_TEST(stream_embedding_cpu_against_ref) {
  for_each_isa([](const char* isa) {
    for (Direction direction : kDirections) {
      for (int64_t channels : kChannels) {
        const EmbeddingCase c(3, channels, {5, 4, 3}, direction);
        for (DType table : {DType::kFloat32, DType::kBFloat16}) {
          // three sums of numbers below 3: each rounds by at most 2^-23; bfloat16 by 2^-7 below 4
          const auto f32 = forward(cpu_ops(), c, table, DType::kFloat32);
          EXPECT(max_abs_error(f32, forward(ref_ops(), c, table, DType::kFloat32)) < 4e-7,
                 "%s %lld", isa, static_cast<long long>(channels));
          const auto half = forward(cpu_ops(), c, table, DType::kBFloat16);
          EXPECT(max_abs_error(half, f32) <= 0x1p-7, "%s %lld", isa,
                 static_cast<long long>(channels));
        }
        for (DType dtype : {DType::kFloat32, DType::kBFloat16}) {
          const auto actual = backward(cpu_ops(), c, dtype, 0.5f);
          const auto expected = backward(ref_ops(), c, dtype, 0.5f);
          for (size_t t = 0; t < 7; ++t) {
            // at most 48 terms below 1 in float32
            EXPECT(max_abs_error(actual[t], expected[t]) < 48 * 0x1p-23, "%s table %zu: %g", isa, t,
                   max_abs_error(actual[t], expected[t]));
          }
        }
      }
    }
  });
}

VILG_TEST(stream_embedding_same_bits_with_any_thread_count) {
  const EmbeddingCase c(4, 200, {31, 8, 3}, Direction::kTextToImage);
  std::vector<float> out;
  std::vector<std::vector<float>> gradients;
  with_threads(1, [&] {
    out = forward(cpu_ops(), c, DType::kBFloat16, DType::kFloat32);
    gradients = backward(cpu_ops(), c, DType::kFloat32, 1);
  });
  for (int threads : {2, 3}) {
    with_threads(threads, [&] {
      EXPECT(forward(cpu_ops(), c, DType::kBFloat16, DType::kFloat32) == out, "forward");
      EXPECT(backward(cpu_ops(), c, DType::kFloat32, 1) == gradients, "backward");
    });
  }
}

VILG_TEST(stream_embedding_refuses_ids_out_of_range) {
  for (const OpTable* ops : {&ref_ops(), &cpu_ops()}) {
    for (int32_t bad : {-1, 11, INT32_MAX, INT32_MIN}) {
      EmbeddingCase c(2, 4, {3, 2, 3}, Direction::kTextToImage);
      c.text[4] = bad;
      try {
        forward(*ops, c, DType::kFloat32, DType::kFloat32);
        EXPECT(false, "%s took text id %d", ops->name, bad);
      } catch (const Error& error) {
        EXPECT(error.code() == ErrorCode::kInvalidArgument, "%s", error.what());
        EXPECT(std::strstr(error.what(), "position 4") &&
                   std::strstr(error.what(), std::to_string(bad).c_str()),
               "%s", error.what());
      }
      c.text[4] = 0;
      c.image[7] = bad;
      EXPECT_ERROR(kInvalidArgument, forward(*ops, c, DType::kFloat32, DType::kFloat32));
      EXPECT_ERROR(kInvalidArgument, backward(*ops, c, DType::kFloat32, 0));
    }
  }
}

VILG_TEST(gather_and_scatter_add) {
  for_each_isa([](const char* isa) {
    for (int64_t dim : {1, 15, 16, 17, 64, 65, 256}) {
      const int64_t rows = 37, size = 5;
      const auto table = random_floats(static_cast<size_t>(size * dim), 5);
      const auto table_half = to_bf16(table);
      const auto dout = random_floats(static_cast<size_t>(rows * dim), 6);
      const auto offset = random_floats(static_cast<size_t>(dim), 7);
      std::vector<int32_t> indices;
      for (int32_t i = 0; i < rows; ++i) indices.push_back(i * i % static_cast<int32_t>(size));
      const auto check = [&](DType dtype, bool with_offset) {
        std::vector<float> results[2];
        for (const OpTable* ops : {&ref_ops(), &cpu_ops()}) {
          Guarded<float> out(dout.size());
          GatherParams p;
          p.offset = with_offset ? offset.data() : nullptr;
          p.out = out.data();
          p.table =
              dtype == DType::kFloat32 ? static_cast<const void*>(table.data()) : table_half.data();
          p.indices = indices.data();
          p.table_dtype = dtype;
          p.rows = rows;
          p.size = size;
          p.dim = dim;
          ops->gather(p, context());
          EXPECT(out.intact(), "writes outside");
          results[ops == &cpu_ops()] = out.values();
        }
        EXPECT(results[0] == results[1], "%s gather %lld", isa, static_cast<long long>(dim));
        const auto source = dtype == DType::kFloat32 ? table : to_float(table_half);
        EXPECT(results[0].back() == source[static_cast<size_t>(indices.back() * dim + dim - 1)] +
                                        (with_offset ? offset.back() : 0.0f),
               "gather's last element");
      };
      for (DType dtype : {DType::kFloat32, DType::kBFloat16}) {
        check(dtype, false);
        check(dtype, true);
      }
      std::vector<float> sums[2];
      for (const OpTable* ops : {&ref_ops(), &cpu_ops()}) {
        Guarded<float> dtable(table.size());
        std::memcpy(dtable.data(), table.data(), table.size() * sizeof(float));
        ScatterAddParams p;
        p.dtable = dtable.data();
        p.dout = dout.data();
        p.indices = indices.data();
        p.rows = rows;
        p.size = size;
        p.dim = dim;
        ops->scatter_add(p, context());
        EXPECT(dtable.intact(), "writes outside");
        sums[ops == &cpu_ops()] = dtable.values();
      }
      // at most 16 terms below 1 an entry
      EXPECT(max_abs_error(sums[1], sums[0]) < 16 * 0x1p-22, "%s scatter %lld", isa,
             static_cast<long long>(dim));
      double before = 0, added = 0, after = 0;
      for (float v : table) before += v;
      for (float v : dout) added += v;
      for (float v : sums[0]) after += v;
      EXPECT(std::abs(before + added - after) < 1e-3, "scatter_add keeps the total");
      // the order of i, so float32 sums can be told in advance
      std::vector<float> in_order = table;
      for (int64_t i = 0; i < rows; ++i) {
        for (int64_t k = 0; k < dim; ++k) {
          in_order[static_cast<size_t>(indices[static_cast<size_t>(i)] * dim + k)] +=
              dout[static_cast<size_t>(i * dim + k)];
        }
      }
      EXPECT(sums[1] == in_order, "%s scatter order", isa);
    }
  });
  for (const OpTable* ops : {&ref_ops(), &cpu_ops()}) {
    float data[4] = {};
    const int32_t bad[1] = {2};
    GatherParams p;
    p.out = data;
    p.table = data;
    p.indices = bad;
    p.rows = 1;
    p.size = 2;
    p.dim = 2;
    EXPECT_ERROR(kInvalidArgument, ops->gather(p, context()));
    ScatterAddParams q;
    q.dtable = data;
    q.dout = data;
    q.indices = bad;
    q.rows = 1;
    q.size = 2;
    q.dim = 2;
    EXPECT_ERROR(kInvalidArgument, ops->scatter_add(q, context()));
    p.table_dtype = DType::kUInt8;
    EXPECT_ERROR(kUnsupported, ops->gather(p, context()));
  }
}

}  // namespace vilg::test
