#include "train/codebook_revival.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/philox.h"

namespace vilg {
namespace {

// Counter positions of initialize_codebook, which no number of updates reaches.
constexpr uint64_t kChoosePosition = ~uint64_t{0};
constexpr uint64_t kNoisePosition = uint64_t{1} << 63;

void check_indices(std::span<const int32_t> indices, size_t size) {
  for (int32_t index : indices) {
    VILG_CHECK(index >= 0 && static_cast<size_t>(index) < size, kInvalidArgument,
               "Expected codes from 0 to %zu, received %d", size - 1, index);
  }
}

// The first `count` of a random order of 0 .. rows - 1 (Fisher-Yates).
std::vector<int64_t> choose_rows(int64_t rows, int64_t count, uint64_t seed, uint64_t position) {
  std::vector<int64_t> order(static_cast<size_t>(rows));
  std::iota(order.begin(), order.end(), int64_t{0});
  for (int64_t i = 0; i < count; ++i) {
    const auto bits = philox(seed, RandomPurpose::kReviveCode, static_cast<uint32_t>(i), position);
    const auto left = static_cast<uint64_t>(rows - i);
    // rows stay far below 2^32, where the bias of this is far below what could be noticed
    const auto offset = static_cast<int64_t>((uint64_t{bits[0]} * left) >> 32);
    std::swap(order[static_cast<size_t>(i)], order[static_cast<size_t>(i + offset)]);
  }
  order.resize(static_cast<size_t>(count));
  return order;
}

void check_vectors(const Parameter& codebook, const Tensor& prequant) {
  VILG_CHECK(prequant.shape().rank() == 2 && prequant.dim(0) >= 1 &&
                 prequant.dim(1) == codebook.value.dim(1),
             kShapeMismatch, "Expected encoder outputs of [rows, %lld], received %s",
             static_cast<long long>(codebook.value.dim(1)), prequant.shape().to_string().c_str());
}

}  // namespace

CodebookUsage::CodebookUsage(int64_t codebook_size) : counts_(static_cast<size_t>(codebook_size)) {}

void CodebookUsage::add(std::span<const int32_t> indices) {
  check_indices(indices, counts_.size());
  for (int32_t index : indices) ++counts_[static_cast<size_t>(index)];
}

void CodebookUsage::reset() { std::fill(counts_.begin(), counts_.end(), 0); }

int64_t CodebookUsage::used() const {
  return std::count_if(counts_.begin(), counts_.end(), [](int64_t count) { return count > 0; });
}

double CodebookUsage::perplexity() const {
  const auto total =
      static_cast<double>(std::accumulate(counts_.begin(), counts_.end(), int64_t{0}));
  if (total == 0) return 0;
  double entropy = 0;
  for (int64_t count : counts_) {
    const double p = static_cast<double>(count) / total;
    if (count > 0) entropy -= p * std::log(p);
  }
  return std::exp(entropy);
}

CodebookRevival::CodebookRevival(int64_t codebook_size)
    : ages_(static_cast<size_t>(codebook_size)), marked_(ages_.size()) {}

void CodebookRevival::mark(std::span<const int32_t> indices) {
  check_indices(indices, ages_.size());
  for (int32_t index : indices) marked_[static_cast<size_t>(index)] = true;
}

void CodebookRevival::advance() {
  for (size_t code = 0; code < ages_.size(); ++code) {
    ages_[code] = marked_[code] ? 0 : std::min(ages_[code], INT32_MAX - 1) + 1;
    marked_[code] = false;
  }
}

std::vector<int32_t> CodebookRevival::revive(Backend& backend, Parameter& codebook,
                                             const Tensor& prequant, int64_t patience,
                                             uint64_t seed, uint64_t update) {
  VILG_CHECK(patience >= 1, kInvalidArgument,
             "Expected codes to be revived after at least 1 update without use, received %lld",
             static_cast<long long>(patience));
  VILG_CHECK(codebook.value.dim(0) == static_cast<int64_t>(ages_.size()), kShapeMismatch,
             "Expected a codebook of %zu codes, received %lld", ages_.size(),
             static_cast<long long>(codebook.value.dim(0)));
  check_vectors(codebook, prequant);
  std::vector<int32_t> dead;
  for (size_t code = 0; code < ages_.size(); ++code) {
    if (ages_[code] >= patience) dead.push_back(static_cast<int32_t>(code));
  }
  // more dead codes than rows: the rest stays dead until the next batch, because of two equal codes
  // only the first could ever be chosen
  const int64_t rows = prequant.dim(0), dim = prequant.dim(1);
  if (static_cast<int64_t>(dead.size()) > rows) dead.resize(static_cast<size_t>(rows));
  const std::vector<int64_t> chosen =
      choose_rows(rows, static_cast<int64_t>(dead.size()), seed, update);
  for (size_t i = 0; i < dead.size(); ++i) {
    backend.copy(codebook.value.f32() + dead[i] * dim, prequant.f32() + chosen[i] * dim,
                 static_cast<size_t>(dim) * sizeof(float));
    ages_[static_cast<size_t>(dead[i])] = 0;
  }
  return dead;
}

void CodebookRevival::restore(std::vector<int32_t> ages) {
  VILG_CHECK(ages.size() == ages_.size(), kCheckpointIncompatible,
             "Expected the ages of %zu codes, found %zu", ages_.size(), ages.size());
  ages_ = std::move(ages);
  std::fill(marked_.begin(), marked_.end(), false);
}

void initialize_codebook(Backend& backend, Parameter& codebook, const Tensor& prequant,
                         uint64_t seed) {
  check_vectors(codebook, prequant);
  const int64_t size = codebook.value.dim(0), rows = prequant.dim(0), dim = prequant.dim(1);
  std::vector<float> vectors(static_cast<size_t>(rows * dim));
  backend.copy_out(vectors.data(), prequant.data(), prequant.size_bytes());
  std::vector<double> deviation(static_cast<size_t>(dim));
  for (int64_t d = 0; d < dim; ++d) {
    double sum = 0, squares = 0;
    for (int64_t r = 0; r < rows; ++r) {
      const double x = vectors[static_cast<size_t>(r * dim + d)];
      sum += x, squares += x * x;
    }
    const double mean = sum / static_cast<double>(rows);
    deviation[static_cast<size_t>(d)] =
        std::sqrt(std::max(0.0, squares / static_cast<double>(rows) - mean * mean));
  }
  const std::vector<int64_t> chosen =
      choose_rows(rows, std::min(size, rows), seed, kChoosePosition);
  std::vector<float> codes(static_cast<size_t>(size * dim));
  for (int64_t code = 0; code < size; ++code) {
    const int64_t row = chosen[static_cast<size_t>(code) % chosen.size()];
    for (int64_t d = 0; d < dim; ++d) {
      float value = vectors[static_cast<size_t>(row * dim + d)];
      if (code >= rows) {
        const auto bits = philox(seed, RandomPurpose::kReviveCode, static_cast<uint32_t>(code),
                                 kNoisePosition + static_cast<uint64_t>(d));
        // uniform within +- sqrt(3) has deviation 1
        const double noise = std::sqrt(3.0) * (2 * uniform_from_bits(bits[0]) - 1);
        value += static_cast<float>(0.1 * deviation[static_cast<size_t>(d)] * noise);
      }
      codes[static_cast<size_t>(code * dim + d)] = value;
    }
  }
  backend.copy_in(codebook.value.f32(), codes.data(), codes.size() * sizeof(float));
}

void zero_rows(Backend& backend, const Tensor& table, std::span<const int32_t> rows) {
  const int64_t dim = table.dim(1);
  for (int32_t row : rows) {
    backend.fill_zero(table.f32() + row * dim, static_cast<size_t>(dim) * sizeof(float));
  }
}

}  // namespace vilg
