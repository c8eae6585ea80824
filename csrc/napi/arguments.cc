#include "napi/arguments.h"

#include <cmath>

#include "napi/stop_flag.h"

namespace vilg::binding {
namespace {

std::string describe(const Napi::Value& value) {
  switch (value.Type()) {
    case napi_undefined:
      return "undefined";
    case napi_null:
      return "null";
    case napi_boolean:
      return value.As<Napi::Boolean>() ? "true" : "false";
    case napi_number: {
      const double number = value.As<Napi::Number>().DoubleValue();
      return std::isnan(number) ? "NaN" : format("%.17g", number);
    }
    case napi_string: {
      const std::string text = value.As<Napi::String>();
      return text.size() <= 60 ? "\"" + text + "\"" : format("a string of %zu bytes", text.size());
    }
    case napi_symbol:
      return "a symbol";
    case napi_function:
      return "a function";
    case napi_bigint:
      return "a bigint";
    default:
      if (value.IsTypedArray()) return "a typed array of another kind";
      return value.IsArray() ? "an array" : "an object";
  }
}

constexpr int64_t kMaxSafeInteger = (int64_t{1} << 53) - 1;

}  // namespace

void Argument::refuse(const std::string& what) const {
  VILG_FAIL(kInvalidArgument, "Expected %s for %s, received %s", what.c_str(), name_.c_str(),
            describe(value_).c_str());
}

int64_t Argument::integer(int64_t min, int64_t max) const {
  const double number = value_.IsNumber() ? value_.As<Napi::Number>().DoubleValue() : NAN;
  // a comparison with NaN is false; beyond 2^53 a cast to int64_t could be undefined
  const bool exact =
      std::abs(number) <= static_cast<double>(kMaxSafeInteger) && number == std::trunc(number);
  if (!exact || static_cast<int64_t>(number) < min || static_cast<int64_t>(number) > max) {
    refuse(format("an integer from %lld to %lld", static_cast<long long>(min),
                  static_cast<long long>(max)));
  }
  return static_cast<int64_t>(number);
}

double Argument::number(double min, double max) const {
  const double number = value_.IsNumber() ? value_.As<Napi::Number>().DoubleValue() : NAN;
  if (!(number >= min && number <= max && std::isfinite(number))) {
    refuse(format("a finite number from %g to %g", min, max));
  }
  return number;
}

bool Argument::boolean() const {
  if (!value_.IsBoolean()) refuse("true or false");
  return value_.As<Napi::Boolean>();
}

std::string Argument::string() const {
  if (!value_.IsString()) refuse("a string");
  return value_.As<Napi::String>();
}

size_t Argument::one_of(std::span<const char* const> choices) const {
  if (value_.IsString()) {
    const std::string text = value_.As<Napi::String>();
    for (size_t i = 0; i < choices.size(); ++i) {
      if (text == choices[i]) return i;
    }
  }
  std::string list;
  for (const char* choice : choices) list += (list.empty() ? "" : ", ") + std::string(choice);
  refuse("one of " + list);
}

std::vector<Argument> Argument::elements() const {
  if (!value_.IsArray()) refuse("an array");
  const auto array = value_.As<Napi::Array>();
  std::vector<Argument> result;
  const uint32_t length = array.Length();
  for (uint32_t i = 0; i < length; ++i) {
    result.emplace_back(array.Get(i), format("%s[%u]", name_.c_str(), i));
  }
  return result;
}

std::vector<std::string> Argument::strings() const {
  std::vector<std::string> result;
  for (const Argument& element : elements()) result.push_back(element.string());
  return result;
}

std::vector<int64_t> Argument::integers(int64_t min, int64_t max) const {
  std::vector<int64_t> result;
  for (const Argument& element : elements()) result.push_back(element.integer(min, max));
  return result;
}

Argument Argument::operator[](const char* key) const {
  if (!value_.IsObject()) refuse("an object");
  return Argument(value_.As<Napi::Object>().Get(key), name_ + "." + key);
}

const void* Argument::typed_array(int type, const char* type_name, size_t* count) const {
  napi_typedarray_type actual;
  napi_value buffer;
  size_t length, offset;
  void* data;
  bool is_array = false, is_buffer = false, detached = false;
  const napi_env env = value_.Env();
  if (napi_is_typedarray(env, value_, &is_array) != napi_ok || !is_array ||
      napi_get_typedarray_info(env, value_, &actual, &length, &data, &buffer, &offset) != napi_ok ||
      (type >= 0 && actual != type)) {
    refuse(type_name);
  }
  // another thread could change a shared buffer while it is read
  if (napi_is_arraybuffer(env, buffer, &is_buffer) != napi_ok || !is_buffer) {
    VILG_FAIL(kInvalidArgument,
              "Expected %s over an ordinary ArrayBuffer for %s, received one over a "
              "SharedArrayBuffer",
              type_name, name_.c_str());
  }
  if (napi_is_detached_arraybuffer(env, buffer, &detached) != napi_ok || detached) {
    VILG_FAIL(kInvalidArgument,
              "Expected %s for %s, received one whose ArrayBuffer was detached (transferred)",
              type_name, name_.c_str());
  }
  *count = length;
  if (type < 0) {
    switch (actual) {
      case napi_int16_array:
      case napi_uint16_array:
        *count *= 2;
        break;
      case napi_int32_array:
      case napi_uint32_array:
      case napi_float32_array:
        *count *= 4;
        break;
      case napi_float64_array:
      case napi_bigint64_array:
      case napi_biguint64_array:
        *count *= 8;
        break;
      case napi_int8_array:
      case napi_uint8_array:
      case napi_uint8_clamped_array:
        break;
      default:
        refuse("a typed array of a known kind");
    }
  }
  return data;
}

std::span<const uint8_t> Argument::bytes() const {
  size_t count;
  const void* data = typed_array(-1, "a typed array", &count);
  return {static_cast<const uint8_t*>(data), count};
}

TaskOptions Argument::task_options() const {
  TaskOptions options;
  if (missing()) return options;
  const Argument stop = (*this)["stop"], on_progress = (*this)["onProgress"];
  if (!stop.missing()) options.stop = StopFlagClass::get(stop);
  if (!on_progress.missing()) {
    if (!on_progress.value().IsFunction()) on_progress.refuse("a function");
    options.on_progress = Napi::Persistent(on_progress.value().As<Napi::Function>());
  }
  return options;
}

Napi::Value new_array_buffer(Napi::Env env, size_t size_bytes, void** data) {
  napi_value buffer;
  if (size_bytes >= size_t{1} << 20) {
    // `new ArrayBuffer(n)` throws where the memory is not there; napi_create_arraybuffer aborts
    try {
      buffer = env.Global()
                   .Get("ArrayBuffer")
                   .As<Napi::Function>()
                   .New({Napi::Number::New(env, static_cast<double>(size_bytes))});
    } catch (const Napi::Error&) {
      VILG_FAIL(kOutOfMemory, "JavaScript could not allocate a result of %zu bytes", size_bytes);
    }
    size_t length = 0;
    if (napi_get_arraybuffer_info(env, buffer, data, &length) != napi_ok || length != size_bytes) {
      VILG_FAIL(kInternal, "new ArrayBuffer() did not give a buffer of %zu bytes", size_bytes);
    }
  } else if (napi_create_arraybuffer(env, size_bytes, data, &buffer) != napi_ok) {
    throw Napi::Error::New(env);
  }
  return Napi::Value(env, buffer);
}

Napi::Array to_array(Napi::Env env, const std::vector<std::string>& values) {
  Napi::Array array = Napi::Array::New(env, values.size());
  for (size_t i = 0; i < values.size(); ++i) array.Set(static_cast<uint32_t>(i), values[i]);
  return array;
}

Napi::Array to_array(Napi::Env env, const std::vector<int64_t>& values) {
  Napi::Array array = Napi::Array::New(env, values.size());
  for (size_t i = 0; i < values.size(); ++i) {
    array.Set(static_cast<uint32_t>(i), static_cast<double>(values[i]));
  }
  return array;
}

}  // namespace vilg::binding
