// Sizes of streams and blocks, which the configs of all models of tokens have.
#pragma once

#include "model/transformer.h"
#include "napi/arguments.h"

namespace vilg::binding {

TransformerConfig transformer_config(const Argument& argument);

}  // namespace vilg::binding
