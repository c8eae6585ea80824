// Typed arrays in and out. Results are always copies in fresh ArrayBuffers: some runtimes forbid
// buffers over native memory, and a copy aliases nothing.
#pragma once

#include <napi.h>

#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

namespace vilg::binding {

template <typename T>
struct TypedArrayType;
#define VILG_TYPED_ARRAY(T, enumerator, text)                 \
  template <>                                                 \
  struct TypedArrayType<T> {                                  \
    static constexpr napi_typedarray_type kType = enumerator; \
    static constexpr const char* kName = text;                \
  };
VILG_TYPED_ARRAY(float, napi_float32_array, "Float32Array")
VILG_TYPED_ARRAY(double, napi_float64_array, "Float64Array")
VILG_TYPED_ARRAY(int32_t, napi_int32_array, "Int32Array")
VILG_TYPED_ARRAY(uint16_t, napi_uint16_array, "Uint16Array")
VILG_TYPED_ARRAY(uint8_t, napi_uint8_array, "Uint8Array")
#undef VILG_TYPED_ARRAY

// Throws kOutOfMemory where JavaScript cannot have a buffer of that size (napi_create_arraybuffer
// would end the process). `data` is where the bytes are.
Napi::Value new_array_buffer(Napi::Env env, size_t size_bytes, void** data);

template <typename T>
Napi::Value to_typed_array(Napi::Env env, const T* values, size_t count) {
  void* data;
  const Napi::Value buffer = new_array_buffer(env, count * sizeof(T), &data);
  if (count) std::memcpy(data, values, count * sizeof(T));
  napi_value array;
  if (napi_create_typedarray(env, TypedArrayType<T>::kType, count, buffer, 0, &array) != napi_ok) {
    throw Napi::Error::New(env);
  }
  return Napi::Value(env, array);
}
template <typename T>
Napi::Value to_typed_array(Napi::Env env, const std::vector<T>& values) {
  return to_typed_array(env, values.data(), values.size());
}
template <typename T>
Napi::Value to_typed_array(Napi::Env env, std::span<const T> values) {
  return to_typed_array(env, values.data(), values.size());
}

// An array of strings or of numbers.
Napi::Array to_array(Napi::Env env, const std::vector<std::string>& values);
Napi::Array to_array(Napi::Env env, const std::vector<int64_t>& values);

}  // namespace vilg::binding
