// A C++ object as a JavaScript class. Napi::ObjectWrap is not used: its methods unwrap `this`
// without asking what it is, so that a.run.call(b) reads b's memory as an a.
//
//   struct SessionTraits {
//     using Impl = Session;
//     static constexpr const char* kName = "Session";
//     static int64_t size_bytes(const Session& s);   // optional: what V8 should know of
//     static std::shared_ptr<Session> construct(const Napi::CallbackInfo&);  // optional: `new`
//     works
//   };
//   using SessionClass = Wrap<SessionTraits>;
//   Napi::Value step(const Napi::CallbackInfo& info, const std::shared_ptr<Session>& session);
//
//   SessionClass::define(env, exports, {SessionClass::method<&step>("step")});
//   return SessionClass::create(env, std::make_shared<Session>(...));        // made by a factory
//   const std::shared_ptr<Session> s = SessionClass::get(Argument(info, 0, "session"));
//
// Every class has `disposed` and dispose(), which drops the handle's share; tasks in flight hold
// their own. Methods called later throw kDisposed, called on something else kInvalidArgument.
#pragma once

#include <napi.h>

#include <memory>
#include <utility>
#include <vector>

#include "napi/arguments.h"
#include "napi/environment.h"
#include "napi/errors.h"

namespace vilg::binding {

template <typename Traits>
class Wrap {
 public:
  using Impl = typename Traits::Impl;
  using Method = Napi::Value (*)(const Napi::CallbackInfo&, const std::shared_ptr<Impl>&);

  template <Method Function>
  static napi_property_descriptor method(const char* name) {
    return {name, nullptr, call<Function>, nullptr, nullptr, nullptr, napi_default_method, nullptr};
  }
  template <Method Function>
  static napi_property_descriptor getter(const char* name) {
    return {name, nullptr, nullptr, call<Function>, nullptr, nullptr, napi_configurable, nullptr};
  }

  // exports[kName] = the class.
  static void define(Napi::Env env, Napi::Object exports,
                     std::vector<napi_property_descriptor> all) {
    all.push_back(
        {"dispose", nullptr, dispose, nullptr, nullptr, nullptr, napi_default_method, nullptr});
    all.push_back(
        {"disposed", nullptr, nullptr, disposed, nullptr, nullptr, napi_configurable, nullptr});
    napi_value constructor;
    if (napi_define_class(env, Traits::kName, NAPI_AUTO_LENGTH, construct, nullptr, all.size(),
                          all.data(), &constructor) != napi_ok) {
      throw Napi::Error::New(env);
    }
    Environment::of(env).classes[tag_address()] =
        Napi::Persistent(Napi::Function(env, constructor));
    exports.Set(Traits::kName, Napi::Value(env, constructor));
  }

  static Napi::Value create(Napi::Env env, std::shared_ptr<Impl> impl) {
    VILG_CHECK(impl, kInternal, "no %s to wrap", Traits::kName);
    Environment& environment = Environment::of(env);
    environment.constructing = std::move(impl);
    return environment.classes.at(tag_address()).New({});
  }

  static std::shared_ptr<Impl> get(const Argument& argument) {
    Box* box = unbox(argument.value().Env(), argument.value());
    if (!box) argument.refuse(std::string("a ") + Traits::kName);
    VILG_CHECK(box->impl, kDisposed, "The %s was disposed", Traits::kName);
    return box->impl;
  }

 private:
  struct Box {
    std::shared_ptr<Impl> impl;
    int64_t size_bytes = 0;
  };

  // Different for every class of every loaded copy of the addon: two versions of it in one process
  // do not take each other's objects for their own.
  static const void* tag_address() {
    static const char anchor = 0;
    return &anchor;
  }
  static napi_type_tag tag() {
    return {0x7d1f8e0a5b6c4e93u, reinterpret_cast<uintptr_t>(tag_address())};
  }

  // Null where `value` is not an object of this class.
  static Box* unbox(napi_env env, napi_value value) {
    napi_valuetype type;
    bool ours = false;
    void* box = nullptr;
    const napi_type_tag own = tag();
    if (napi_typeof(env, value, &type) != napi_ok || type != napi_object ||
        napi_check_object_type_tag(env, value, &own, &ours) != napi_ok || !ours ||
        napi_unwrap(env, value, &box) != napi_ok) {
      return nullptr;
    }
    return static_cast<Box*>(box);
  }

  static void account(napi_env env, int64_t change) {
    int64_t total;
    if (change != 0) napi_adjust_external_memory(env, change, &total);
  }

  template <Method Function>
  static napi_value call(napi_env env, napi_callback_info raw) {
    return guarded(env, [&] {
      const Napi::CallbackInfo info(env, raw);
      const std::shared_ptr<Impl> impl = get(Argument(info.This(), "this"));
      return static_cast<napi_value>(Function(info, impl));
    });
  }

  static napi_value construct(napi_env env, napi_callback_info raw) {
    return guarded(env, [&]() -> napi_value {
      const Napi::CallbackInfo info(env, raw);
      Environment& environment = Environment::of(env);
      VILG_CHECK(info.IsConstructCall(), kInvalidArgument, "%s is a class: call it with new",
                 Traits::kName);
      auto impl = std::static_pointer_cast<Impl>(std::exchange(environment.constructing, nullptr));
      if (!impl) {
        if constexpr (requires { Traits::construct(info); }) {
          impl = Traits::construct(info);
        } else {
          VILG_FAIL(kUnsupported, "A %s is made by a function of this module, not by new",
                    Traits::kName);
        }
      }
      auto box = std::make_unique<Box>();
      if constexpr (requires { Traits::size_bytes(*impl); }) {
        box->size_bytes = Traits::size_bytes(*impl);
      }
      box->impl = std::move(impl);
      const napi_type_tag own = tag();
      const napi_finalize finalize = [](napi_env finalizing, void* data, void*) {
        const std::unique_ptr<Box> owned(static_cast<Box*>(data));
        account(finalizing, -owned->size_bytes);
      };
      const int64_t size_bytes = box->size_bytes;
      if (napi_wrap(env, info.This(), box.get(), finalize, nullptr, nullptr) != napi_ok) {
        throw Napi::Error::New(env);
      }
      box.release();
      account(env, size_bytes);
      // last: an object with the tag is a whole one
      if (napi_type_tag_object(env, info.This(), &own) != napi_ok) throw Napi::Error::New(env);
      return info.This();
    });
  }

  static napi_value dispose(napi_env env, napi_callback_info raw) {
    return guarded(env, [&]() -> napi_value {
      const Napi::CallbackInfo info(env, raw);
      Box* box = unbox(env, info.This());
      if (!box) Argument(info.This(), "this").refuse(std::string("a ") + Traits::kName);
      account(env, -std::exchange(box->size_bytes, 0));
      box->impl.reset();
      return info.Env().Undefined();
    });
  }

  static napi_value disposed(napi_env env, napi_callback_info raw) {
    return guarded(env, [&]() -> napi_value {
      const Napi::CallbackInfo info(env, raw);
      Box* box = unbox(env, info.This());
      if (!box) Argument(info.This(), "this").refuse(std::string("a ") + Traits::kName);
      return Napi::Boolean::New(env, box->impl == nullptr);
    });
  }
};

}  // namespace vilg::binding
