#include "tests/embedding_problem.h"

#include <cstring>

#include "tests/cuda/cuda_backend.h"
#include "tests/data.h"

namespace vilg::test {
namespace {

// Several blocks of columns at the end.
constexpr int64_t kChannels[] = {1, 15, 16, 33, 64, 131, 1032};

template <typename Body>
std::string message_of(const Body& body) {
  try {
    body();
  } catch (const Error& error) {
    EXPECT(error.code() == ErrorCode::kInvalidArgument, "%s", error.what());
    return error.what();
  }
  return "nothing was thrown";
}

VILG_TEST(cuda_stream_embedding) {
  for (Direction direction : kDirections) {
    for (int64_t channels : kChannels) {
      const EmbeddingCase c(3, channels, {5, 4, 3}, direction);
      for (DType table : {kF, kH}) {
        for (DType dtype : {kF, kH}) {
          const auto actual = forward(cuda_ops(), c, table, dtype);
          const auto expected = forward(ref_ops(), c, table, dtype);
          // three sums of numbers below 3: each rounds by at most 2^-23; one step of bfloat16 below
          // 4
          EXPECT(max_abs_error(actual, expected) <= (dtype == kF ? 4e-7 : 0x1p-6), "%lld: %g",
                 static_cast<long long>(channels), max_abs_error(actual, expected));
        }
      }
      for (DType dtype : {kF, kH}) {
        const auto actual = backward(cuda_ops(), c, dtype, 0.5f);
        const auto expected = backward(ref_ops(), c, dtype, 0.5f);
        for (size_t t = 0; t < 7; ++t) {
          // at most 48 terms below 1 in float32
          EXPECT(max_abs_error(actual[t], expected[t]) < 48 * 0x1p-23, "table %zu: %g", t,
                 max_abs_error(actual[t], expected[t]));
        }
        EXPECT(backward(cuda_ops(), c, dtype, 0.5f) == actual, "same bits twice");
      }
    }
  }
}

// More tokens than one block of the sort takes, keys of two digits, runs of hundreds of rows.
VILG_TEST(cuda_stream_embedding_of_many_tokens) {
  EmbeddingCase c(9, 8, {40, 15, 3}, Direction::kImageToText);
  c.text_vocab = 300;
  c.tables[0] = random_floats(static_cast<size_t>(300 * 8), 1);
  for (size_t i = 0; i < c.text.size(); ++i) {
    c.text[i] = i % 40 < 25 ? 0 : static_cast<int32_t>(i * 7 % 300);
  }
  const auto actual = backward(cuda_ops(), c, kF, 0);
  const auto expected = backward(ref_ops(), c, kF, 0);
  for (size_t t = 0; t < 7; ++t) {
    // up to 9 * 226 terms below 1, and partial sums below 100
    EXPECT(max_abs_error(actual[t], expected[t]) < 2034 * 0x1p-18, "table %zu: %g", t,
           max_abs_error(actual[t], expected[t]));
  }
}

VILG_TEST(cuda_stream_embedding_refuses_ids) {
  for (int32_t bad : {-1, 11, INT32_MAX, INT32_MIN}) {
    EmbeddingCase c(2, 4, {3, 2, 3}, Direction::kTextToImage);
    c.image[7] = bad;
    const auto compare = [&] {
      EXPECT(message_of([&] { forward(cuda_ops(), c, kF, kF); }) ==
                 message_of([&] { forward(ref_ops(), c, kF, kF); }),
             "forward, %d", bad);
      EXPECT(message_of([&] { backward(cuda_ops(), c, kF, 0); }) ==
                 message_of([&] { backward(ref_ops(), c, kF, 0); }),
             "backward, %d", bad);
    };
    compare();
    c.text[4] = bad, c.text[5] = bad;
    compare();
  }
}

std::vector<int32_t> some_indices(int64_t rows, int64_t size) {
  std::vector<int32_t> indices;
  for (int64_t i = 0; i < rows; ++i) {
    // a third of all rows are one entry's
    indices.push_back(static_cast<int32_t>(i % 3 == 0 ? size / 2 : i * i % size));
  }
  return indices;
}

VILG_TEST(cuda_gather) {
  for (int64_t dim : {1, 7, 8, 64, 65, 256, 1100}) {
    const int64_t rows = 37, size = 50;
    const auto indices = some_indices(rows, size);
    const auto offset = random_floats(static_cast<size_t>(3 * dim), 7);
    const int32_t second = 2;
    for (DType dtype : {kF, kH}) {
      const Data table(dtype, static_cast<size_t>(size * dim), 5);
      for (int with_offset : {0, 1, 2}) {
        GatherParams p;
        p.table = table.data(), p.table_dtype = dtype;
        p.indices = indices.data();
        p.offset = with_offset ? offset.data() : nullptr;
        p.offset_row = with_offset == 2 ? &second : nullptr;
        p.rows = rows, p.size = size, p.dim = dim;
        Guarded<float> expected(static_cast<size_t>(rows * dim)), actual(expected.size());
        p.out = expected.data();
        ref_ops().gather(p, context());
        p.out = actual.data();
        cuda_ops().gather(p, context());
        EXPECT(same_bits(actual.values(), expected.values()) && actual.intact(), "%s %lld, %d",
               dtype_name(dtype), static_cast<long long>(dim), with_offset);
      }
    }
  }
}

// The order of i, so float32 sums can be told in advance.
VILG_TEST(cuda_scatter_add) {
  for (int64_t size : {1, 5, 255, 300, 70000}) {
    for (int64_t dim : {1, 4, 67, 520}) {
      const int64_t rows = size == 5 ? 5000 : 300;
      if (rows > 300 && dim > 4) continue;
      if (size == 70000 && dim > 4) continue;
      const auto indices = some_indices(rows, size);
      const auto table = random_floats(static_cast<size_t>(size * dim), 5);
      const auto dout = random_floats(static_cast<size_t>(rows * dim), 6);
      Guarded<float> dtable(table.size());
      std::copy(table.begin(), table.end(), dtable.data());
      ScatterAddParams p{dtable.data(), dout.data(), indices.data(), rows, size, dim};
      cuda_ops().scatter_add(p, context());
      std::vector<float> expected = table;
      for (int64_t i = 0; i < rows; ++i) {
        for (int64_t k = 0; k < dim; ++k) {
          expected[static_cast<size_t>(indices[static_cast<size_t>(i)] * dim + k)] +=
              dout[static_cast<size_t>(i * dim + k)];
        }
      }
      EXPECT(same_bits(dtable.values(), expected) && dtable.intact(), "%lld x %lld",
             static_cast<long long>(size), static_cast<long long>(dim));
    }
  }
}

VILG_TEST(cuda_gather_and_scatter_add_refuse_indices) {
  Backend& backend = cuda_backend();
  OpContext device = backend.context(nullptr);
  const std::vector<float> table = random_floats(6, 1);
  const std::vector<int32_t> bad = {1, 0, -1, 3};
  const Tensor device_table = backend.upload(table.data(), kF, {3, 2});
  const Tensor indices = backend.upload(bad.data(), DType::kInt32, {4});
  const Tensor out = backend.zeros(kF, {4, 2});
  GatherParams p;
  p.out = out.f32(), p.table = device_table.data(), p.indices = indices.as<int32_t>();
  p.rows = 4, p.size = 3, p.dim = 2;
  const std::string message = message_of([&] { backend.ops().gather(p, device); });
  EXPECT(
      message == "gather: expected every element of indices from 0 to 2, received -1 at position 2",
      "%s", message.c_str());
  std::vector<float> result(8);
  const auto read = [&](const Tensor& from) {
    backend.copy_out(result.data(), from.data(), from.size_bytes());
    return result;
  };
  EXPECT(read(out) == std::vector<float>(8), "nothing was written");

  ScatterAddParams q{device_table.f32(), out.f32(), indices.as<int32_t>(), 4, 3, 2};
  EXPECT_ERROR(kInvalidArgument, backend.ops().scatter_add(q, device));

  // while recording nothing can be refused: such an index reads row 0 and adds nowhere
  const auto recorded = backend.record([&] {
    backend.ops().gather(p, device);
    q.dtable = device_table.f32();
    backend.ops().scatter_add(q, device);
  });
  recorded->run();
  const auto& t = table;
  EXPECT(read(out) == std::vector<float>({t[2], t[3], t[0], t[1], t[0], t[1], t[0], t[1]}),
         "row 0");
  result.resize(6);
  EXPECT(read(device_table) ==
             std::vector<float>({t[0] + t[0], t[1] + t[1], t[2] + t[2], t[3] + t[3], t[4], t[5]}),
         "each to its own");
}

}  // namespace
}  // namespace vilg::test
