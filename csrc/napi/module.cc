// The addon: one environment's state, then what every file of this folder exports. The contract is
// types/native.d.ts.
#include <napi.h>

#include "napi/arguments.h"
#include "napi/definitions.h"
#include "napi/environment.h"
#include "napi/errors.h"

namespace vilg::binding {
namespace {

// initialize(VilgError, stopped)
Napi::Value initialize(const Napi::CallbackInfo& info) {
  const Argument error_class(info, 0, "VilgError"), stopped(info, 1, "stopped");
  if (!error_class.value().IsFunction()) error_class.refuse("a class");
  if (!stopped.value().IsObject()) stopped.refuse("an object");
  Environment& environment = Environment::of(info.Env());
  environment.error_class = Napi::Persistent(error_class.value().As<Napi::Function>());
  environment.stopped = Napi::Persistent(stopped.value().As<Napi::Object>());
  return info.Env().Undefined();
}

napi_value init(napi_env raw, napi_value raw_exports) {
  return guarded(raw, [&] {
    const Napi::Env env(raw);
    Environment::create(env);
    Napi::Object exports(env, raw_exports);
    exports.Set("version", VILG_VERSION);
    export_function<&initialize>(exports, "initialize");
    define_stop_flag(env, exports);
    define_info(env, exports);
    define_generator(env, exports);
    define_image_tokenizer(env, exports);
    define_matcher(env, exports);
    define_sessions(env, exports);
    define_generator_trainer(env, exports);
    define_tokenizer_trainers(env, exports);
    define_matcher_trainer(env, exports);
    define_kernels(env, exports);
    define_ceilings(env, exports);
    define_metrics(env, exports);
    define_safetensors(env, exports);
    return raw_exports;
  });
}

}  // namespace
}  // namespace vilg::binding

NAPI_MODULE_INIT() { return vilg::binding::init(env, exports); }
