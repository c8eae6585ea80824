#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "model/vqgan.h"

namespace vilg {

struct CodebookRateOptions {
  float weight = 0;     // of the rate, in nats, beside the squared distance
  float decay = 0.99f;  // share of the old frequencies that an update keeps, below 1
  // Throws kInvalidArgument.
  void validate(const VqganConfig& config) const;
};

// Entropy-constrained vector quantisation (Chou, Lookabaugh and Gray 1989): a vector z chooses the
// code i with the least |z - e_i|^2 + weight * -ln p_i, where p_i is how often i was chosen of
// late. Otherwise an encoder that sees more of the picture than its own place tells of it wherever
// a place has nothing of its own to tell: white backgrounds get a hundred names, which a generator
// then has to learn.
//
// The rate is the codebook's last dimension, sqrt(weight * -ln p_i) where all vectors are 0, so the
// lookup is the plain one, and so is the tokenizer that comes of it: the weights that would write
// or read that dimension are 0.
class CodebookRate {
 public:
  CodebookRate(Vqgan& tokenizer, const CodebookRateOptions& options);

  // The codes that the running update uses.
  void gather(std::span<const int32_t> indices);
  // After an update of the weights: new frequencies, and the last dimension as it has to be.
  void update();
  // Forgets what was gathered.
  void discard();
  // These codes are new: they cost what they would if all were alike.
  void reset(std::span<const int32_t> codes);
  void reset();  // all

  // All the state there is between two updates: p (K).
  const std::vector<float>& frequencies() const { return frequencies_; }
  void restore(std::vector<float> frequencies);

 private:
  void write();

  Vqgan* tokenizer_;
  CodebookRateOptions options_;
  std::vector<float> frequencies_;
  std::vector<int64_t> counts_;
};

}  // namespace vilg
