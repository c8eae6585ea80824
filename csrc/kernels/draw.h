#pragma once

#include <cstdint>

#include "core/host_device.h"

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
// drawn) but not NaN or +inf, and not every one -inf: kInvalidArgument, or, where work is queued on
// a device and cannot throw, token -1 and a log-probability that is not a number.
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
  const int32_t* step = nullptr;  // where given, *step is added to position
};
void validate(const DrawParams& params);

VILG_HOST_DEVICE inline uint64_t draw_position(const DrawParams& p) {
  return p.position + static_cast<uint64_t>(p.step ? *p.step : 0);
}

}  // namespace vilg
