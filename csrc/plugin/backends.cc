#include "plugin/backends.h"

#include <atomic>
#include <cstdlib>
#include <cstring>

#include "core/error.h"

namespace vilg {
namespace {

std::atomic<const VilgPlugin*> plugin_in_use{nullptr};

}  // namespace

const VilgPlugin& use_plugin(const std::string& path) {
  const VilgPlugin& plugin = load_plugin(path);
  plugin_devices(plugin);
  plugin_in_use = &plugin;
  return plugin;
}

Backend& backend_named(const std::string& name) {
  if (name == "cpu") return cpu_backend();
  if (name == "ref") return ref_backend();
  VILG_CHECK(name.compare(0, 5, "cuda:") == 0, kInvalidArgument,
             "Expected the backend 'cpu', 'ref' or 'cuda:<number>', received '%s'", name.c_str());
  const VilgPlugin* plugin = plugin_in_use;
  VILG_CHECK(plugin, kUnsupported, "Expected a CUDA plugin to be loaded before %s is used",
             name.c_str());
  return plugin_backend(*plugin, std::atoi(name.c_str() + 5));
}

}  // namespace vilg
