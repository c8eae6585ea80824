#pragma once

#include "cuda/queue.h"
#include "kernels/convolution.h"

namespace vilg::cuda {

// p.dweight += the gradient by the weights.
void add_weight_gradient(const Conv2dBackwardParams& p, Queue& queue);

// to[i] += partial[0][i] + partial[1][i] + ... in this order, for i < count.
void add_partial_sums(float* to, const float* partial, int64_t parts, int64_t count, Queue& queue);

}  // namespace vilg::cuda
