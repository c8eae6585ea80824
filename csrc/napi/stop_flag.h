#pragma once

#include <napi.h>

#include <memory>

#include "core/stop_flag.h"
#include "napi/wrap.h"

namespace vilg::binding {

// new StopFlag(): raise() ends the tasks that were started with it.
struct StopFlagTraits {
  using Impl = StopFlag;
  static constexpr const char* kName = "StopFlag";
  static std::shared_ptr<StopFlag> construct(const Napi::CallbackInfo&) {
    return std::make_shared<StopFlag>();
  }
};
using StopFlagClass = Wrap<StopFlagTraits>;

void define_stop_flag(Napi::Env env, Napi::Object exports);

}  // namespace vilg::binding
