#pragma once

#include <cstdint>

#include "core/dtype.h"
#include "core/error.h"

// The checks that most ops' validate() is made of. Each names the op and the parameter.
namespace vilg {

inline void check_pointer(const char* op, const char* name, const void* pointer) {
  VILG_CHECK(pointer, kInvalidArgument, "%s: expected memory for %s, received a null pointer", op,
             name);
}

inline void check_positive(const char* op, const char* name, int64_t value) {
  VILG_CHECK(value > 0, kInvalidArgument, "%s: expected a positive %s, received %lld", op, name,
             static_cast<long long>(value));
}

inline void check_float_dtype(const char* op, const char* name, DType dtype) {
  VILG_CHECK(dtype == DType::kFloat32 || dtype == DType::kBFloat16, kUnsupported,
             "%s: expected float32 or bfloat16 for %s, received %s", op, name, dtype_name(dtype));
}

// For finite numbers in [low, high]; NaN fails.
inline void check_range(const char* op, const char* name, double value, double low, double high) {
  VILG_CHECK(value >= low && value <= high, kInvalidArgument,
             "%s: expected %s from %g to %g, received %g", op, name, low, high, value);
}

// Every index in [0, size), or an error with the first position and value that is not.
inline void check_indices(const char* op, const char* name, const int32_t* indices, int64_t count,
                          int64_t size) {
  for (int64_t i = 0; i < count; ++i) {
    VILG_CHECK(indices[i] >= 0 && indices[i] < size, kInvalidArgument,
               "%s: expected every element of %s from 0 to %lld, received %d at position %lld", op,
               name, static_cast<long long>(size - 1), indices[i], static_cast<long long>(i));
  }
}

}  // namespace vilg
