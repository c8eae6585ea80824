#include "napi/stop_flag.h"

namespace vilg::binding {
namespace {

Napi::Value raise(const Napi::CallbackInfo& info, const std::shared_ptr<StopFlag>& flag) {
  flag->raise();
  return info.Env().Undefined();
}

Napi::Value raised(const Napi::CallbackInfo& info, const std::shared_ptr<StopFlag>& flag) {
  return Napi::Boolean::New(info.Env(), flag->raised());
}

}  // namespace

void define_stop_flag(Napi::Env env, Napi::Object exports) {
  StopFlagClass::define(
      env, exports,
      {StopFlagClass::method<&raise>("raise"), StopFlagClass::getter<&raised>("raised")});
}

}  // namespace vilg::binding
