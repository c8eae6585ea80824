#include "train/codebook_averages.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace vilg {

void CodebookAveragesOptions::validate() const {
  VILG_CHECK(decay >= 0 && decay < 1, kInvalidArgument,
             "Expected a decay of the codebook's averages from 0 to below 1, received %g",
             static_cast<double>(decay));
  VILG_CHECK(epsilon > 0 && std::isfinite(epsilon), kInvalidArgument,
             "Expected a positive epsilon of the codebook's averages, received %g",
             static_cast<double>(epsilon));
}

CodebookAverages::CodebookAverages(Backend& backend, const Parameter& codebook,
                                   const CodebookAveragesOptions& options)
    : backend_(&backend),
      options_(options),
      size_(codebook.value.dim(0)),
      dim_(codebook.value.dim(1)),
      new_counts_(static_cast<size_t>(size_)),
      new_sums_(backend.zeros(DType::kFloat32, codebook.value.shape())) {
  options.validate();
  reset(codebook);
}

std::vector<float> CodebookAverages::read(const Parameter& codebook) const {
  std::vector<float> values(static_cast<size_t>(size_ * dim_));
  backend_->copy_out(values.data(), codebook.value.f32(), codebook.value.size_bytes());
  return values;
}

void CodebookAverages::gather(const Tensor& vectors, std::span<const int32_t> indices) {
  const auto rows = static_cast<int64_t>(indices.size());
  VILG_CHECK(vectors.num_elements() == rows * dim_, kInternal, "%s vectors, %zu codes",
             vectors.shape().to_string().c_str(), indices.size());
  for (const int32_t index : indices) ++new_counts_[static_cast<size_t>(index)];
  const Tensor codes = backend_->upload(indices.data(), DType::kInt32, {rows});
  OpContext context = backend_->context(nullptr);
  backend_->ops().scatter_add(
      {new_sums_.f32(), vectors.f32(), codes.as<int32_t>(), rows, size_, dim_}, context);
}

void CodebookAverages::update(Parameter& codebook) {
  std::vector<float> batch_sums(sums_.size());
  backend_->copy_out(batch_sums.data(), new_sums_.data(), new_sums_.size_bytes());
  const double kept = options_.decay, fresh = 1 - kept, epsilon = options_.epsilon;
  for (size_t i = 0; i < sums_.size(); ++i) {
    sums_[i] = static_cast<float>(kept * sums_[i] + fresh * batch_sums[i]);
  }
  for (size_t code = 0; code < counts_.size(); ++code) {
    counts_[code] =
        static_cast<float>(kept * counts_[code] + fresh * static_cast<double>(new_counts_[code]));
  }
  const double total = std::accumulate(counts_.begin(), counts_.end(), 0.0);
  const double smoothing = total / (total + static_cast<double>(size_) * epsilon);
  std::vector<float> codes(sums_.size());
  for (size_t code = 0; code < counts_.size(); ++code) {
    const double count = (counts_[code] + epsilon) * smoothing;
    for (size_t d = 0; d < static_cast<size_t>(dim_); ++d) {
      const size_t i = code * static_cast<size_t>(dim_) + d;
      codes[i] = static_cast<float>(sums_[i] / count);
    }
  }
  backend_->copy_in(codebook.value.f32(), codes.data(), codebook.value.size_bytes());
  discard();
}

void CodebookAverages::discard() {
  std::fill(new_counts_.begin(), new_counts_.end(), 0);
  backend_->fill_zero(new_sums_.data(), new_sums_.size_bytes());
}

void CodebookAverages::reset(const Parameter& codebook, std::span<const int32_t> codes) {
  if (codes.empty()) return;
  const std::vector<float> values = read(codebook);
  for (const int32_t code : codes) {
    counts_[static_cast<size_t>(code)] = 1;
    std::copy_n(values.begin() + code * dim_, dim_, sums_.begin() + code * dim_);
  }
}

void CodebookAverages::reset(const Parameter& codebook) {
  counts_.assign(static_cast<size_t>(size_), 1);
  sums_ = read(codebook);
  discard();
}

void CodebookAverages::restore(std::vector<float> counts, std::vector<float> sums) {
  VILG_CHECK(counts.size() == counts_.size() && sums.size() == sums_.size(),
             kCheckpointIncompatible, "Expected the averages of %zu codes, found those of %zu",
             counts_.size(), counts.size());
  counts_ = std::move(counts);
  sums_ = std::move(sums);
  discard();
}

}  // namespace vilg
