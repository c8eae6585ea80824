#pragma once

#include "cuda/queue.h"

namespace vilg::cuda {

// sum = sums[0] + .. + sums[count - 1], in an order that follows from count alone.
void add_up(Queue& queue, double* sum, const double* sums, int64_t count);

}  // namespace vilg::cuda
