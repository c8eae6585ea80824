#include "train/codebook_revival.h"

#include <algorithm>
#include <cmath>
#include <limits>
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

// Rows (rows, D) on the host that are far from codes.
class SpreadRows {
 public:
  SpreadRows(Backend& backend, const Tensor& prequant)
      : dim_(prequant.dim(1)),
        vectors_(static_cast<size_t>(prequant.num_elements())),
        distances_(static_cast<size_t>(prequant.dim(0)), std::numeric_limits<double>::infinity()) {
    backend.copy_out(vectors_.data(), prequant.data(), prequant.size_bytes());
  }

  const float* row(int64_t index) const { return vectors_.data() + index * dim_; }

  // Each row has chosen one of `codes` (size, D), its nearest.
  void keep_from(const std::vector<float>& codes, std::span<const int32_t> indices) {
    for (size_t r = 0; r < distances_.size(); ++r) {
      distances_[r] =
          squared_distance(row(static_cast<int64_t>(r)), codes.data() + indices[r] * dim_);
    }
  }

  // A row drawn in proportion to its squared distance from the nearest code, any row if there is no
  // code yet; it counts as a code from then on. -1: every row is a code. (Arthur and Vassilvitskii,
  // k-means++, 2007.)
  int64_t draw(uint64_t seed, uint64_t draw, uint64_t position) {
    const bool any = std::isinf(distances_.front());
    double total = 0;
    for (double distance : distances_) total += any ? 1 : distance;
    if (total == 0) return -1;
    const auto bits =
        philox(seed, RandomPurpose::kReviveCode, static_cast<uint32_t>(draw), position);
    double left = static_cast<double>(uniform_from_bits(bits[0])) * total;
    int64_t chosen = -1;
    for (size_t r = 0; r < distances_.size(); ++r) {
      const double share = any ? 1 : distances_[r];
      if (share == 0) continue;
      chosen = static_cast<int64_t>(r);  // the last one, should rounding leave something over
      left -= share;
      if (left < 0) break;
    }
    for (size_t r = 0; r < distances_.size(); ++r) {
      distances_[r] =
          std::min(distances_[r], squared_distance(row(static_cast<int64_t>(r)), row(chosen)));
    }
    return chosen;
  }

 private:
  double squared_distance(const float* x, const float* y) const {
    double sum = 0;
    for (int64_t d = 0; d < dim_; ++d) {
      const double difference = static_cast<double>(x[d]) - static_cast<double>(y[d]);
      sum += difference * difference;
    }
    return sum;
  }

  int64_t dim_;
  std::vector<float> vectors_;
  std::vector<double> distances_;  // squared, of each row to the nearest code
};

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
                                             const Tensor& prequant,
                                             std::span<const int32_t> indices, int64_t patience,
                                             uint64_t seed, uint64_t update) {
  VILG_CHECK(patience >= 1, kInvalidArgument,
             "Expected codes to be revived after at least 1 update without use, received %lld",
             static_cast<long long>(patience));
  VILG_CHECK(codebook.value.dim(0) == static_cast<int64_t>(ages_.size()), kShapeMismatch,
             "Expected a codebook of %zu codes, received %lld", ages_.size(),
             static_cast<long long>(codebook.value.dim(0)));
  check_vectors(codebook, prequant);
  check_indices(indices, ages_.size());
  VILG_CHECK(static_cast<int64_t>(indices.size()) == prequant.dim(0), kShapeMismatch,
             "Expected a code for each of %lld encoder outputs, received %zu",
             static_cast<long long>(prequant.dim(0)), indices.size());
  std::vector<int32_t> dead;
  for (size_t code = 0; code < ages_.size(); ++code) {
    if (ages_[code] >= patience) dead.push_back(static_cast<int32_t>(code));
  }
  if (dead.empty()) return dead;
  const int64_t size = codebook.value.dim(0), dim = codebook.value.dim(1);
  std::vector<float> codes(static_cast<size_t>(size * dim));
  backend.copy_out(codes.data(), codebook.value.data(), codebook.value.size_bytes());
  SpreadRows rows(backend, prequant);
  rows.keep_from(codes, indices);
  for (size_t i = 0; i < dead.size(); ++i) {
    const int64_t chosen = rows.draw(seed, i, update);
    if (chosen < 0) {
      // the batch has no more vectors that are not codes; of two equal codes only the first could
      // ever be chosen, so the rest stays dead until the next batch
      dead.resize(i);
      break;
    }
    backend.copy_in(codebook.value.f32() + dead[i] * dim, rows.row(chosen),
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
  SpreadRows vectors(backend, prequant);
  std::vector<double> deviation(static_cast<size_t>(dim));
  for (int64_t d = 0; d < dim; ++d) {
    double sum = 0, squares = 0;
    for (int64_t r = 0; r < rows; ++r) {
      const double x = vectors.row(r)[d];
      sum += x, squares += x * x;
    }
    const double mean = sum / static_cast<double>(rows);
    deviation[static_cast<size_t>(d)] =
        std::sqrt(std::max(0.0, squares / static_cast<double>(rows) - mean * mean));
  }
  std::vector<float> codes(static_cast<size_t>(size * dim));
  int64_t distinct = 0;
  for (int64_t code = 0; code < size; ++code) {
    float* to = codes.data() + code * dim;
    const int64_t row =
        distinct == code ? vectors.draw(seed, static_cast<uint64_t>(code), kChoosePosition) : -1;
    if (row >= 0) {
      std::copy_n(vectors.row(row), dim, to);
      ++distinct;
      continue;
    }
    const float* from = codes.data() + code % distinct * dim;
    for (int64_t d = 0; d < dim; ++d) {
      const auto bits = philox(seed, RandomPurpose::kReviveCode, static_cast<uint32_t>(code),
                               kNoisePosition + static_cast<uint64_t>(d));
      // uniform within +- sqrt(3) has deviation 1
      const double noise = std::sqrt(3.0) * (2 * uniform_from_bits(bits[0]) - 1);
      to[d] = from[d] + static_cast<float>(0.1 * deviation[static_cast<size_t>(d)] * noise);
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
