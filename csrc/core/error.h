#pragma once

#include <exception>
#include <string>
#include <utility>
#include <vector>

namespace vilg {

enum class ErrorCode {
#define VILG_ERROR_CODE(enumerator, name) enumerator,
#include "core/error_codes.def"
#undef VILG_ERROR_CODE
};

// "ERR_VILG_INVALID_ARGUMENT" and so on.
const char* error_code_name(ErrorCode code);
inline constexpr int kNumErrorCodes = static_cast<int>(ErrorCode::kInternal) + 1;

// Names and values that a program may act on, beside the message ("tensor", "final_norm.bias").
using ErrorDetails = std::vector<std::pair<std::string, std::string>>;

// The one exception of the native code. `file` and `line` say where it was thrown, for bug reports.
class Error : public std::exception {
 public:
  Error(ErrorCode code, std::string message, const char* file, int line, ErrorDetails details = {})
      : code_(code),
        message_(std::move(message)),
        file_(file),
        line_(line),
        details_(std::move(details)) {}

  const char* what() const noexcept override { return message_.c_str(); }
  ErrorCode code() const { return code_; }
  const std::string& message() const { return message_; }
  const char* file() const { return file_; }
  int line() const { return line_; }
  const ErrorDetails& details() const { return details_; }

 private:
  ErrorCode code_;
  std::string message_;
  const char* file_;
  int line_;
  ErrorDetails details_;
};

// Thrown where work notices that its StopFlag was raised. Not an Error: the caller asked for it.
class Stopped : public std::exception {
 public:
  const char* what() const noexcept override { return "stopped by the caller"; }
};

// printf into a string.
[[gnu::format(printf, 1, 2)]] std::string format(const char* pattern, ...);

}  // namespace vilg

// VILG_CHECK(m > 0, kInvalidArgument, "Expected a positive row count, received %d", m)
#define VILG_CHECK(condition, code, ...)                                                  \
  do {                                                                                    \
    if (!(condition)) [[unlikely]] {                                                      \
      throw ::vilg::Error(::vilg::ErrorCode::code, ::vilg::format(__VA_ARGS__), __FILE__, \
                          __LINE__);                                                      \
    }                                                                                     \
  } while (false)

#define VILG_FAIL(code, ...) \
  throw ::vilg::Error(::vilg::ErrorCode::code, ::vilg::format(__VA_ARGS__), __FILE__, __LINE__)
