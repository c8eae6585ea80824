#include "train/codebook_revival.h"

#include <cmath>
#include <set>

#include "kernels/backend.h"
#include "tests/harness.h"

namespace vilg::test {
namespace {

constexpr int64_t kSize = 12, kDim = 3, kRows = 20;

struct Codebook {
  explicit Codebook(Backend& backend) {
    parameter.name = "codebook";
    parameter.value =
        backend.upload(random_floats(kSize * kDim, 1).data(), DType::kFloat32, {kSize, kDim});
  }
  std::vector<float> values() const {
    return {parameter.value.f32(), parameter.value.f32() + kSize * kDim};
  }
  std::vector<float> row(int64_t code) const {
    return {parameter.value.f32() + code * kDim, parameter.value.f32() + (code + 1) * kDim};
  }
  Parameter parameter;
};

// The row of `vectors` that equals `row`, or -1.
int64_t find_row(const std::vector<float>& vectors, const std::vector<float>& row) {
  for (size_t r = 0; r * kDim < vectors.size(); ++r) {
    if (std::equal(row.begin(), row.end(), vectors.begin() + static_cast<int64_t>(r) * kDim)) {
      return static_cast<int64_t>(r);
    }
  }
  return -1;
}

}  // namespace

VILG_TEST(codebook_usage_counts) {
  CodebookUsage usage(4);
  EXPECT(usage.perplexity() == 0 && usage.used() == 0, "nothing yet");
  usage.add(std::vector<int32_t>{0, 1, 2, 3});
  EXPECT(std::abs(usage.perplexity() - 4) < 1e-12 && usage.used() == 4, "%g", usage.perplexity());
  usage.reset();
  usage.add(std::vector<int32_t>{2, 2, 2});
  EXPECT(std::abs(usage.perplexity() - 1) < 1e-12 && usage.used() == 1, "%g", usage.perplexity());
  usage.add(std::vector<int32_t>{1});
  // exp(-(0.75 log 0.75 + 0.25 log 0.25))
  EXPECT(std::abs(usage.perplexity() - 1.7547653506033424) < 1e-12, "%g", usage.perplexity());
  EXPECT_ERROR(kInvalidArgument, usage.add(std::vector<int32_t>{4}));
}

VILG_TEST(dead_codes_come_back_from_the_batch) {
  Backend& backend = ref_backend();
  Codebook codebook(backend);
  const std::vector<float> before = codebook.values();
  CodebookRevival revival(kSize);
  std::vector<int32_t> used;
  for (int32_t code = 0; code < kSize; ++code) {
    if (code != 4 && code != 9) used.push_back(code);
  }
  std::vector<float> vectors;
  for (uint64_t step = 1; step <= 3; ++step) {
    vectors = random_floats(kRows * kDim, static_cast<uint32_t>(step) + 50);
    const Tensor prequant = backend.upload(vectors.data(), DType::kFloat32, {kRows, kDim});
    revival.mark(used);
    revival.advance();
    const auto revived = revival.revive(backend, codebook.parameter, prequant,
                                        std::vector<int32_t>(kRows), 3, 7, step);
    if (step < 3) {
      EXPECT(revived.empty() && codebook.values() == before, "patient until update 3");
    } else {
      EXPECT((revived == std::vector<int32_t>{4, 9}), "%zu revived", revived.size());
    }
  }
  const int64_t first = find_row(vectors, codebook.row(4));
  const int64_t second = find_row(vectors, codebook.row(9));
  EXPECT(first >= 0 && second >= 0 && first != second, "rows %lld and %lld",
         static_cast<long long>(first), static_cast<long long>(second));
  for (int32_t code : used) {
    EXPECT(find_row(before, codebook.row(code)) == code, "code %d was touched", code);
  }
  for (int32_t age : revival.ages()) EXPECT(age == 0, "age %d after the revival", age);
}

VILG_TEST(more_dead_codes_than_rows) {
  Backend& backend = ref_backend();
  Codebook codebook(backend);
  CodebookRevival revival(kSize);
  revival.mark(std::vector<int32_t>{0});
  revival.advance();
  const std::vector<float> vectors = random_floats(2 * kDim, 3);
  const Tensor prequant = backend.upload(vectors.data(), DType::kFloat32, {2, kDim});
  const auto revived =
      revival.revive(backend, codebook.parameter, prequant, std::vector<int32_t>(2), 1, 7, 1);
  EXPECT((revived == std::vector<int32_t>{1, 2}), "%zu revived", revived.size());
  EXPECT(codebook.row(1) != codebook.row(2), "two codes from one row");
}

// A batch of which nearly all is one background: that is one code, and the rest goes to what has
// none.
VILG_TEST(codes_go_where_no_code_is_near) {
  Backend& backend = ref_backend();
  constexpr int64_t kBackground = 400, kThings = 9;
  std::vector<float> vectors = random_floats((kBackground + kThings) * kDim, 21, 1e-3f);
  for (int64_t i = 0; i < kThings; ++i) {
    for (int64_t d = 0; d < kDim; ++d) {
      vectors[static_cast<size_t>((kBackground + i) * kDim + d)] += static_cast<float>(1 + i + d);
    }
  }
  const Tensor prequant =
      backend.upload(vectors.data(), DType::kFloat32, {kBackground + kThings, kDim});
  Codebook codebook(backend);
  backend.fill_zero(codebook.parameter.value.f32(), sizeof(float) * kSize * kDim);
  CodebookRevival revival(kSize);
  revival.mark(std::vector<int32_t>{0});
  revival.advance();
  const std::vector<int32_t> chosen(kBackground +
                                    kThings);  // all of them code 0, at the background
  const auto revived = revival.revive(backend, codebook.parameter, prequant, chosen, 1, 7, 1);
  EXPECT(revived.size() == kSize - 1, "%zu revived", revived.size());
  std::set<int64_t> things;
  for (int32_t code : revived) {
    const int64_t row = find_row(vectors, codebook.row(code));
    if (row >= kBackground) things.insert(row);
  }
  EXPECT(things.size() == kThings, "%zu of the things have a code", things.size());

  initialize_codebook(backend, codebook.parameter, prequant, 5);
  things.clear();
  for (int64_t code = 0; code < kSize; ++code) {
    const int64_t row = find_row(vectors, codebook.row(code));
    if (row >= kBackground) things.insert(row);
  }
  EXPECT(things.size() == kThings, "%zu of the things have a first code", things.size());
  EXPECT_ERROR(kShapeMismatch, revival.revive(backend, codebook.parameter, prequant,
                                              std::vector<int32_t>(3), 1, 7, 1));
}

VILG_TEST(revival_resumes_bit_for_bit) {
  Backend& backend = ref_backend();
  const auto run = [&](Codebook& codebook, CodebookRevival& revival, uint64_t from, uint64_t to,
                       uint64_t seed) {
    for (uint64_t step = from; step < to; ++step) {
      const std::vector<float> vectors =
          random_floats(kRows * kDim, static_cast<uint32_t>(step) + 90);
      const Tensor prequant = backend.upload(vectors.data(), DType::kFloat32, {kRows, kDim});
      const std::vector<int32_t> used{static_cast<int32_t>(step % kSize), 3};
      revival.mark(used);
      revival.advance();
      revival.revive(backend, codebook.parameter, prequant, std::vector<int32_t>(kRows, 3), 4, seed,
                     step);
    }
  };
  Codebook straight(backend), resumed(backend);
  CodebookRevival one(kSize), two(kSize), three(kSize);
  run(straight, one, 0, 20, 11);
  run(resumed, two, 0, 9, 11);
  three.restore(two.ages());
  run(resumed, three, 9, 20, 11);
  EXPECT(straight.values() == resumed.values() && one.ages() == three.ages(), "resumed differs");
  Codebook other(backend);
  CodebookRevival seeded(kSize);
  run(other, seeded, 0, 20, 12);
  EXPECT(straight.values() != other.values(), "another seed gives the same");
  EXPECT_ERROR(kCheckpointIncompatible, three.restore(std::vector<int32_t>(kSize + 1)));
  EXPECT_ERROR(kInvalidArgument, three.mark(std::vector<int32_t>{kSize}));
}

VILG_TEST(codebook_begins_at_the_encoders_outputs) {
  Backend& backend = ref_backend();
  Codebook codebook(backend);
  const std::vector<float> vectors = random_floats(kRows * kDim, 8);
  initialize_codebook(backend, codebook.parameter,
                      backend.upload(vectors.data(), DType::kFloat32, {kRows, kDim}), 5);
  std::set<int64_t> rows;
  for (int64_t code = 0; code < kSize; ++code) rows.insert(find_row(vectors, codebook.row(code)));
  EXPECT(rows.size() == kSize && !rows.contains(-1), "%zu distinct rows", rows.size());

  // fewer rows than codes: the others lie around them, no two alike
  const std::vector<float> few = random_floats(5 * kDim, 9);
  initialize_codebook(backend, codebook.parameter,
                      backend.upload(few.data(), DType::kFloat32, {5, kDim}), 5);
  std::set<std::vector<float>> distinct;
  for (int64_t code = 0; code < kSize; ++code) distinct.insert(codebook.row(code));
  EXPECT(distinct.size() == kSize, "%zu distinct codes", distinct.size());
  for (int64_t code = 0; code < 5; ++code) {
    EXPECT(find_row(few, codebook.row(code)) >= 0, "code %lld is no row",
           static_cast<long long>(code));
  }
  EXPECT_ERROR(kShapeMismatch,
               initialize_codebook(backend, codebook.parameter,
                                   backend.upload(few.data(), DType::kFloat32, {kDim, 5}), 5));
  zero_rows(backend, codebook.parameter.value, std::vector<int32_t>{1, 2});
  for (float v : codebook.row(2)) EXPECT(v == 0, "row 2 is %g", v);
  for (float v : codebook.row(3)) EXPECT(v != 0, "row 3 was zeroed");
}

}  // namespace vilg::test
