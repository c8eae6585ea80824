#include "core/error.h"

#include <cstdarg>
#include <cstdio>

namespace vilg {

const char* error_code_name(ErrorCode code) {
  switch (code) {
#define VILG_ERROR_CODE(enumerator, name) \
  case ErrorCode::enumerator:             \
    return "ERR_VILG_" #name;
#include "core/error_codes.def"
#undef VILG_ERROR_CODE
  }
  return "ERR_VILG_INTERNAL";
}

std::string format(const char* pattern, ...) {
  va_list args;
  va_start(args, pattern);
  va_list again;
  va_copy(again, args);
  const int length = std::vsnprintf(nullptr, 0, pattern, args);
  va_end(args);
  std::string text(length > 0 ? static_cast<size_t>(length) : 0, '\0');
  if (length > 0) std::vsnprintf(text.data(), text.size() + 1, pattern, again);
  va_end(again);
  return text;
}

}  // namespace vilg
