// The synchronous conversion of errors: whatever leaves a function of ours becomes a JavaScript
// exception here (async_task.h has the other half). Nothing else in csrc/napi catches.
#pragma once

#include <napi.h>

#include <exception>

#include "core/error.h"

namespace vilg::binding {

// `error` as an object of the class that initialize() was given: code, message and details, which
// holds `source` (file:line of the native code) and what the error itself carries.
Napi::Value to_js_error(Napi::Env env, const Error& error);

// The exception in flight as an Error: std::bad_alloc becomes kOutOfMemory, what is not ours
// kInternal. Call inside a catch block; a Stopped must have been caught before.
Error current_error() noexcept;

// Runs `body` and turns everything it throws into a pending JavaScript exception.
template <typename Body>
napi_value guarded(napi_env env, Body body) noexcept {
  try {
    try {
      return body();
    } catch (const Napi::Error& error) {
      error.ThrowAsJavaScriptException();
    } catch (...) {
      napi_throw(env, to_js_error(env, current_error()));
    }
  } catch (...) {
    // Making or throwing the error failed: an exception is pending already, or the environment is
    // being terminated and runs no JavaScript any more.
  }
  return nullptr;
}

// exports.name = function: exported<&fn>(exports, "name") for
//   Napi::Value fn(const Napi::CallbackInfo& info)
template <Napi::Value (*Function)(const Napi::CallbackInfo&)>
void export_function(Napi::Object exports, const char* name) {
  const Napi::Env env = exports.Env();
  napi_value function;
  const napi_callback callback = [](napi_env raw, napi_callback_info info) -> napi_value {
    return guarded(raw, [&] { return static_cast<napi_value>(Function({raw, info})); });
  };
  if (napi_create_function(env, name, NAPI_AUTO_LENGTH, callback, nullptr, &function) != napi_ok) {
    throw Napi::Error::New(env);
  }
  exports.Set(name, Napi::Value(env, function));
}

}  // namespace vilg::binding
