#pragma once

#include <memory>
#include <string>
#include <vector>

#include "kernels/backend.h"
#include "plugin/plugin.h"

namespace vilg {

struct PluginDevice {
  std::string name;
  int compute_major = 0, compute_minor = 0, multiprocessors = 0;
  uint64_t memory_bytes = 0, available_bytes = 0;
  bool emulated = false;
};

// The table of a plugin file; throws kUnsupported with the reason when the file cannot be loaded,
// is none, or was built with another version. Loaded once, never closed.
const VilgPlugin& load_plugin(const std::string& path);

std::vector<PluginDevice> plugin_devices(const VilgPlugin& plugin);
std::string plugin_libraries(const VilgPlugin& plugin);

// A queue of its own on a device of the plugin, for a process's whole life. The same object for the
// same plugin and device.
Backend& plugin_backend(const VilgPlugin& plugin, int device);

}  // namespace vilg
