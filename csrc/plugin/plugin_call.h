#pragma once

#include "core/error.h"
#include "plugin/plugin.h"

namespace vilg {

// Calls a function of the plugin's table and throws what it fails with.
template <typename... Parameters, typename... Arguments>
void plugin_call(int (*function)(Parameters...), Arguments... arguments) {
  VilgPluginFailure failure;
  if (function(arguments..., &failure) == 0) return;
  const bool known = failure.code >= 0 && failure.code < kNumErrorCodes;
  throw Error(known ? static_cast<ErrorCode>(failure.code) : ErrorCode::kInternal, failure.message,
              "plugin", failure.line, {{"file", failure.file}});
}

}  // namespace vilg
