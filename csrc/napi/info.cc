// What the addon runs on, and the two process-wide settings.
#include <string>
#include <vector>

#include "core/error.h"
#include "core/memory.h"
#include "core/thread_pool.h"
#include "kernels/cpu_isa.h"
#include "napi/arguments.h"
#include "napi/definitions.h"
#include "napi/errors.h"
#include "plugin/backends.h"

namespace vilg::binding {
namespace {

Napi::Value backend_info(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Napi::Object result = Napi::Object::New(env);
  result.Set("isa", active_isa());
  result.Set("isas", to_array(env, supported_isas()));
  result.Set("threads", ThreadPool::shared().num_threads());
  result.Set("availableBytes", static_cast<double>(available_host_bytes()));
  return result;
}

// usePlugin(path) -> { devices, libraries }
Napi::Value use_plugin_binding(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const VilgPlugin& plugin = use_plugin(Argument(info, 0, "path").string());
  const std::vector<PluginDevice> found = plugin_devices(plugin);
  Napi::Array devices = Napi::Array::New(env, found.size());
  for (size_t i = 0; i < found.size(); ++i) {
    Napi::Object device = Napi::Object::New(env);
    device.Set("name", found[i].name);
    device.Set("computeMajor", found[i].compute_major);
    device.Set("computeMinor", found[i].compute_minor);
    device.Set("multiprocessors", found[i].multiprocessors);
    device.Set("memoryBytes", static_cast<double>(found[i].memory_bytes));
    device.Set("availableBytes", static_cast<double>(found[i].available_bytes));
    device.Set("emulated", found[i].emulated);
    devices.Set(static_cast<uint32_t>(i), device);
  }
  Napi::Object result = Napi::Object::New(env);
  result.Set("devices", devices);
  result.Set("libraries", plugin_libraries(plugin));
  return result;
}

Napi::Value set_threads(const Napi::CallbackInfo& info) {
  const Argument count(info, 0, "threads");
  const int threads = static_cast<int>(count.integer(1, 1024));
  // a new pool stays for good, since work in flight may hold the old one: none for no change
  if (threads != ThreadPool::shared().num_threads()) ThreadPool::set_shared_num_threads(threads);
  return info.Env().Undefined();
}

Napi::Value set_isa(const Napi::CallbackInfo& info) {
  set_active_isa(Argument(info, 0, "isa").string());
  return info.Env().Undefined();
}

// memoryUse(backend, resetPeak) -> { inUse, peak }
Napi::Value memory_use(const Napi::CallbackInfo& info) {
  Allocator& allocator = backend_named(Argument(info, 0, "backend").string()).allocator();
  Napi::Object result = Napi::Object::New(info.Env());
  result.Set("inUse", static_cast<double>(allocator.bytes_in_use()));
  result.Set("peak", static_cast<double>(allocator.peak_bytes()));
  if (Argument(info, 1, "resetPeak").boolean()) allocator.reset_peak();
  return result;
}

Napi::Value error_codes(const Napi::CallbackInfo& info) {
  std::vector<std::string> names;
  for (int i = 0; i < kNumErrorCodes; ++i) {
    names.emplace_back(error_code_name(static_cast<ErrorCode>(i)));
  }
  return to_array(info.Env(), names);
}

}  // namespace

void define_info(Napi::Env, Napi::Object exports) {
  export_function<&backend_info>(exports, "backendInfo");
  export_function<&use_plugin_binding>(exports, "usePlugin");
  export_function<&set_threads>(exports, "setThreads");
  export_function<&set_isa>(exports, "setIsa");
  export_function<&memory_use>(exports, "memoryUse");
  export_function<&error_codes>(exports, "errorCodes");
}

}  // namespace vilg::binding
