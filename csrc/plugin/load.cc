#include <dlfcn.h>

#include <cstring>
#include <map>
#include <mutex>

#include "core/error.h"
#include "plugin/plugin_backend.h"

namespace vilg {

const VilgPlugin& load_plugin(const std::string& path) {
  static std::mutex mutex;
  static auto& loaded = *new std::map<std::string, const VilgPlugin*>;
  std::lock_guard lock(mutex);
  if (const auto found = loaded.find(path); found != loaded.end()) return *found->second;
  void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!library) {
    const char* reason = dlerror();
    VILG_FAIL(kUnsupported, "The plugin %s could not be loaded: %s", path.c_str(),
              reason ? reason : "no reason given");
  }
  const auto entry = reinterpret_cast<VilgPluginEntry>(dlsym(library, "vilg_plugin"));
  VILG_CHECK(entry, kUnsupported, "%s is no plugin: it has no function vilg_plugin", path.c_str());
  const VilgPlugin* plugin = entry();
  VILG_CHECK(
      plugin->table_bytes == sizeof(VilgPlugin) && std::strcmp(plugin->version, VILG_VERSION) == 0,
      kUnsupported, "Expected the plugin %s of version %s, found version %s: build both again",
      path.c_str(), VILG_VERSION, plugin->version);
  loaded[path] = plugin;
  return *plugin;
}

}  // namespace vilg
