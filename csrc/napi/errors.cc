#include "napi/errors.h"

#include <cstring>
#include <new>

#include "napi/environment.h"

namespace vilg::binding {

Napi::Value to_js_error(Napi::Env env, const Error& error) {
  const Napi::String code = Napi::String::New(env, error_code_name(error.code()));
  Napi::Object details = Napi::Object::New(env);
  // compilers may see the sources under any path (ccache makes it ../../csrc/...)
  const char* inside = std::strstr(error.file(), "csrc/");
  details.Set("source", format("%s:%d", inside ? inside : error.file(), error.line()));
  for (const auto& [key, value] : error.details()) details.Set(key, value);
  Environment& environment = Environment::of(env);
  if (!environment.error_class.IsEmpty()) {
    return environment.error_class.New({code, Napi::String::New(env, error.message()), details});
  }
  // nobody called initialize() yet: still an Error with a code
  Napi::Object plain = Napi::Error::New(env, error.message()).Value();
  plain.Set("code", code);
  plain.Set("details", details);
  return plain;
}

Error current_error() noexcept {
  try {
    throw;
  } catch (const Error& error) {
    return error;
  } catch (const std::bad_alloc&) {
    return Error(ErrorCode::kOutOfMemory, "Out of host memory", __FILE__, __LINE__);
  } catch (const std::exception& error) {
    return Error(ErrorCode::kInternal, format("Unexpected native exception: %s", error.what()),
                 __FILE__, __LINE__);
  } catch (...) {
    return Error(ErrorCode::kInternal, "Unexpected native exception of an unknown type", __FILE__,
                 __LINE__);
  }
}

}  // namespace vilg::binding
