#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "autograd/tape.h"

namespace vilg {

// How much of a codebook some pictures use.
class CodebookUsage {
 public:
  explicit CodebookUsage(int64_t codebook_size);
  void add(std::span<const int32_t> indices);
  void reset();
  const std::vector<int64_t>& counts() const { return counts_; }
  int64_t used() const;  // codes that occurred
  // exp of the entropy of the codes' frequencies: the size when all are used alike, 1 when one code
  // is all, 0 before the first index.
  double perplexity() const;

 private:
  std::vector<int64_t> counts_;
};

// Puts codes that went unused for `patience` steps back where the encoder's outputs are: each
// becomes a row of the batch, drawn without replacement by Philox(seed, kReviveCode, draw, step),
// so that a resumed run draws what the first would have.
class CodebookRevival {
 public:
  CodebookRevival(int64_t codebook_size, int64_t patience, uint64_t seed);

  // Once after every optimizer step. `indices`: the codes that the step used; `prequant` (rows, D):
  // encoder outputs of the step, on `backend`. Returns the codes that were replaced, in ascending
  // order: the optimizer's moments for them are stale (zero_rows).
  std::vector<int32_t> update(Backend& backend, Parameter& codebook, const Tensor& prequant,
                              std::span<const int32_t> indices, uint64_t step);

  // Steps since each code was last used: all the state there is.
  const std::vector<int32_t>& ages() const { return ages_; }
  void restore(std::vector<int32_t> ages);

 private:
  int64_t patience_;
  uint64_t seed_;
  std::vector<int32_t> ages_;
};

// A fresh codebook from encoder outputs (rows, D): distinct rows while there are enough, then rows
// again with noise of a tenth of each dimension's standard deviation. Random codes far from the
// encoder's first outputs would leave nearly all of them dead.
void initialize_codebook(Backend& backend, Parameter& codebook, const Tensor& prequant,
                         uint64_t seed);

// Zeroes rows of a float32 table (size, D).
void zero_rows(Backend& backend, const Tensor& table, std::span<const int32_t> rows);

}  // namespace vilg
