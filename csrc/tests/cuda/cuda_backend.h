// The CUDA ops for tests that, like all others, work on host memory: every op's operands travel to
// the device and back, so the same tests run on the emulation and on a GPU.
#pragma once

#include "kernels/backend.h"
#include "kernels/op_table.h"
#include "plugin/plugin.h"

namespace vilg::test {

// The emulation, or the plugin that the environment variable VILG_CUDA_PLUGIN names.
const VilgPlugin& cuda_plugin();
Backend& cuda_backend();
bool cuda_emulated();

// Call with pointers to host memory and any context.
const OpTable& cuda_ops();

}  // namespace vilg::test
