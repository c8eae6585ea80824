// Image tokenizers' losses across the boundary, for their own gradients and for their trainer.
#pragma once

#include "model/vqgan.h"
#include "napi/models.h"

namespace vilg::binding {

int64_t count_argument(const Argument& argument);  // of pictures
VqganLossWeights loss_weights(const Argument& argument);
Napi::Value to_losses(Napi::Env env, const VqganLosses& losses);

}  // namespace vilg::binding
