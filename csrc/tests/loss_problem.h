// Operands of cross_entropy, and the op of any table run on them.
#pragma once

#include <algorithm>
#include <cstring>

#include "tests/harness.h"

namespace vilg::test {

struct CrossEntropyCase {
  int64_t rows, vocab;
  std::vector<float> logits;
  std::vector<int32_t> targets;
  float row_scale = 0.7f, label_smoothing = 0, z_loss = 0;

  CrossEntropyCase(int64_t rows_, int64_t vocab_, float scale) : rows(rows_), vocab(vocab_) {
    logits = random_floats(static_cast<size_t>(rows * vocab), static_cast<uint32_t>(vocab), scale);
    for (int64_t r = 0; r < rows; ++r) {
      targets.push_back(r % 5 == 3 ? -1 : static_cast<int32_t>(r * 31 % vocab));
    }
  }
};

struct CrossEntropyResult {
  std::vector<float> loss, dlogits;
  bool operator==(const CrossEntropyResult&) const = default;
};

inline CrossEntropyResult run(const OpTable& ops, const CrossEntropyCase& c,
                              bool in_place = false) {
  Guarded<float> loss(c.targets.size()), dlogits(c.logits.size());
  if (in_place) std::copy(c.logits.begin(), c.logits.end(), dlogits.data());
  CrossEntropyParams p;
  p.loss = loss.data();
  p.dlogits = dlogits.data();
  p.logits = in_place ? dlogits.data() : c.logits.data();
  p.targets = c.targets.data();
  p.rows = c.rows;
  p.vocab = c.vocab;
  p.row_scale = c.row_scale;
  p.label_smoothing = c.label_smoothing;
  p.z_loss = c.z_loss;
  ops.cross_entropy(p, context());
  EXPECT(loss.intact() && dlogits.intact(), "writes outside");
  if (!in_place) {  // the loss alone is the same
    Guarded<float> alone(c.targets.size());
    p.loss = alone.data();
    p.dlogits = nullptr;
    ops.cross_entropy(p, context());
    EXPECT(std::memcmp(alone.data(), loss.data(), loss.size() * sizeof(float)) == 0,
           "%s: forward only differs", ops.name);
  }
  return {loss.values(), dlogits.values()};
}

}  // namespace vilg::test
