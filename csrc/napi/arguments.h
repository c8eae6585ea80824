// Reading what JavaScript passed. lib/ has checked options already and words its errors for users;
// this is the second line, which must hold against any value at all.
//
//   const Argument options(info, 1, "options");
//   const int64_t grid = options["grid"].integer(1, 4096);
//   const std::span<const float> q = Argument(info, 0, "q").array<float>(batch * heads * ...);
#pragma once

#include <napi.h>

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "core/error.h"
#include "napi/async_task.h"
#include "napi/typed_arrays.h"

namespace vilg::binding {

class Argument {
 public:
  Argument(const Napi::CallbackInfo& info, size_t index, std::string name)
      : value_(info[index]), name_(std::move(name)) {}
  Argument(Napi::Value value, std::string name) : value_(value), name_(std::move(name)) {}

  const Napi::Value& value() const { return value_; }
  const std::string& name() const { return name_; }
  bool missing() const { return value_.IsUndefined(); }

  // Both bounds inclusive. NaN, infinities, fractions and what double cannot hold are refused.
  int64_t integer(int64_t min, int64_t max) const;
  double number(double min, double max) const;  // finite
  bool boolean() const;
  std::string string() const;
  // The position of the string in `choices`.
  template <size_t N>
  size_t one_of(const char* const (&choices)[N]) const {
    return one_of(std::span<const char* const>(choices, N));
  }
  std::vector<std::string> strings() const;
  std::vector<int64_t> integers(int64_t min, int64_t max) const;

  // The elements of a typed array of just this type, byteOffset and length honoured. Detached and
  // shared buffers are refused. Borrowed: valid until control returns to JavaScript, so work on
  // another thread copies.
  template <typename T>
  std::span<const T> array() const {
    size_t count;
    const void* data = typed_array(TypedArrayType<T>::kType, TypedArrayType<T>::kName, &count);
    return {static_cast<const T*>(data), count};
  }
  // The same of exactly `count` elements; kShapeMismatch otherwise.
  template <typename T>
  std::span<const T> array(int64_t count) const {
    const std::span<const T> values = array<T>();
    VILG_CHECK(static_cast<int64_t>(values.size()) == count, kShapeMismatch,
               "Expected %s of length %lld for %s, received %zu elements", TypedArrayType<T>::kName,
               static_cast<long long>(count), name_.c_str(), values.size());
    return values;
  }
  // The bytes of a typed array of any type (or a Buffer). Borrowed, too.
  std::span<const uint8_t> bytes() const;

  Argument operator[](const char* key) const;  // a property of an object
  std::vector<Argument> elements() const;      // of an array

  // { stop?: StopFlag, onProgress?: (done, total) => void } or undefined: the last argument of
  // every asynchronous function.
  TaskOptions task_options() const;

  // Throws kInvalidArgument: "Expected <what> for <name>, received <this>".
  [[noreturn]] void refuse(const std::string& what) const;

 private:
  size_t one_of(std::span<const char* const> choices) const;
  // Any type where `type` is -1.
  const void* typed_array(int type, const char* type_name, size_t* count) const;

  Napi::Value value_;
  std::string name_;
};

}  // namespace vilg::binding
