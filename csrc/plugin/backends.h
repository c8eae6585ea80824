#pragma once

#include <string>

#include "kernels/backend.h"
#include "plugin/plugin_backend.h"

namespace vilg {

// The plugin that "cuda:<n>" means from now on, for the whole process; throws as load_plugin() and
// plugin_devices() do, and then nothing has changed.
const VilgPlugin& use_plugin(const std::string& path);

// "cpu", "ref", or "cuda:<n>" of the plugin in use. Throws kUnsupported where there is none.
Backend& backend_named(const std::string& name);

}  // namespace vilg
