#pragma once

#include "cuda/queue.h"
#include "kernels/attention.h"

// Attention in float32 without tensor cores, for every head size and every alignment.
namespace vilg::cuda {

void attention_forward_plain(const AttentionForwardParams& params, Queue& queue);
void attention_backward_plain(const AttentionBackwardParams& params, Queue& queue);

}  // namespace vilg::cuda
