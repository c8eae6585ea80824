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

// Puts codes that nothing chooses any more back where the encoder's outputs are.
class CodebookRevival {
 public:
  explicit CodebookRevival(int64_t codebook_size);

  // The codes that the running update uses; then, once an update, advance.
  void mark(std::span<const int32_t> indices);
  void advance();

  // Replaces the codes that no vector of the last `patience` updates chose by rows of `prequant`
  // (rows, D), encoder outputs on `backend` that chose the codes `indices`. A row is drawn in
  // proportion to its squared distance from the nearest code: were all alike, flat backgrounds,
  // which most vectors are of, would get most of the codes, and the same white a hundred names. By
  // Philox(seed, kReviveCode, draw, update): a resumed run draws what the first would have. Returns
  // the codes, in ascending order: the optimizer's moments for them are stale (zero_rows).
  std::vector<int32_t> revive(Backend& backend, Parameter& codebook, const Tensor& prequant,
                              std::span<const int32_t> indices, int64_t patience, uint64_t seed,
                              uint64_t update);

  // Updates since each code was last chosen: all the state there is between two updates.
  const std::vector<int32_t>& ages() const { return ages_; }
  void restore(std::vector<int32_t> ages);

 private:
  std::vector<int32_t> ages_;
  std::vector<bool> marked_;
};

// A fresh codebook from encoder outputs (rows, D), drawn as revived codes are: distinct rows while
// there are enough, then these again with noise of a tenth of each dimension's standard deviation.
// Random codes far from the encoder's first outputs would leave nearly all of them dead.
void initialize_codebook(Backend& backend, Parameter& codebook, const Tensor& prequant,
                         uint64_t seed);

// Zeroes rows of a float32 table (size, D).
void zero_rows(Backend& backend, const Tensor& table, std::span<const int32_t> rows);

}  // namespace vilg
