#pragma once

#include <cstdint>

namespace vilg {

// One token a row from softmax(logits / temperature) after top-k, then top-p on what is left. Every
// backend gives the same bits from the same logits, because the result is defined by its
// arithmetic:
//   order: larger logits first, the lower index first on a tie (-0 and 0 tie).
//   temperature 0: the first in that order.
//   mass_v = exp_fixed((logit_v - largest logit) / temperature), float32 operations, then integers
//   (kernels/exp_fixed.h), so that sums do not depend on their order.
//   top-k: the first k keep their mass. top-p: of these the shortest run from the first whose mass
//   reaches p times their mass keep it.
//   The draw: with u = (word 0 . word 1) / 2^64 from Philox(seed, kDraw, stream, position), the
//   first index, in index order, where the cumulative mass exceeds u times the total.
// Tokens whose probability is below 2^-40 of the largest have no mass. A logit may be -inf (never
// drawn) but not NaN or +inf, and not every one -inf: kInvalidArgument.
struct DrawParams {
  int32_t* tokens = nullptr;           // (rows)
  float* log_probabilities = nullptr;  // (rows): log of the token's probability under
                                       // softmax(logits), before temperature and filters; may be
                                       // null
  const float* logits = nullptr;       // (rows, V), rows logits_stride apart
  const uint32_t* streams = nullptr;   // (rows): the candidate's number
  int64_t rows = 0, vocab = 0, logits_stride = 0;
  float temperature = 1.0f;
  int64_t top_k = 0;   // 0: off
  float top_p = 1.0f;  // 1: off
  uint64_t seed = 0;
  uint64_t position = 0;
};
void validate(const DrawParams& params);

}  // namespace vilg
