// A draw by the op of any table.
#pragma once

#include <numeric>

#include "tests/harness.h"

namespace vilg::test {

struct DrawResult {
  std::vector<int32_t> tokens;
  std::vector<float> log_probabilities;
  bool operator==(const DrawResult&) const = default;
};

inline DrawResult run(const OpTable& ops, DrawParams p) {
  const auto rows = static_cast<size_t>(p.rows);
  Guarded<int32_t> tokens(rows);
  Guarded<float> logs(rows);
  std::vector<uint32_t> streams(rows);
  std::iota(streams.begin(), streams.end(), 0u);
  p.tokens = tokens.data();
  p.log_probabilities = logs.data();
  if (!p.streams) p.streams = streams.data();
  if (!p.logits_stride) p.logits_stride = p.vocab;
  ops.draw(p, context());
  EXPECT(tokens.intact() && logs.intact(), "writes outside");
  return {tokens.values(), logs.values()};
}

}  // namespace vilg::test
