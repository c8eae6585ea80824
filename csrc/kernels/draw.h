#pragma once

#include <cstdint>

namespace vilg {

// One token a row from softmax(logits / temperature) after top-k, then top-p on what is left
// (kernels of both backends give the same bits from the same logits):
//   temperature 0: the largest logit, the lowest index on a tie.
//   top-k: the k largest, ties to the lower index. top-p: the shortest run of the most probable
//   whose mass reaches p. The draw: u from Philox(seed, kDraw, stream, position); the first index,
//   in index order, where the cumulative mass exceeds u times the total. Masses are 64-bit fixed
//   point, so that their sums do not depend on order.
struct DrawParams {
  int32_t* tokens = nullptr;           // (rows)
  float* log_probabilities = nullptr;  // (rows): log of the token's probability under
                                       // softmax(logits), before temperature and filters
  const float* logits = nullptr;       // (rows, V), rows logits_stride apart
  const uint32_t* streams = nullptr;   // (rows): the candidate's number
  int64_t rows = 0, vocab = 0, logits_stride = 0;
  float temperature = 1.0f;
  int64_t top_k = 0;   // 0: off
  float top_p = 1.0f;  // 1: off
  uint64_t seed = 0;
  uint64_t position = 0;
};

}  // namespace vilg
