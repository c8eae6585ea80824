// A small test harness: VILG_TEST(name) { ... EXPECT(...) ... }. build/tests/vilg_tests [filter
// ...] runs what matches.
#pragma once

#include <cstdint>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "core/dtype.h"
#include "core/error.h"
#include "kernels/op_table.h"

namespace vilg::test {

struct TestCase {
  const char* name;
  void (*run)();
};
std::vector<TestCase>& registry();
struct Registration {
  Registration(const char* name, void (*run)()) { registry().push_back({name, run}); }
};

// Counted, printed with where it happened, and the test goes on.
void report_failure(const char* file, int line, const std::string& message);

// Uniform in [-1, 1); never zeros, which would hide bugs.
std::vector<float> random_floats(size_t count, uint32_t seed, float scale = 1.0f);
std::vector<bf16> to_bf16(const std::vector<float>& values);
std::vector<float> to_float(const std::vector<bf16>& values);

// |actual - expected| / |expected| in the Euclidean norm. NaN on either side gives infinity; so
// does a length mismatch.
double relative_error(const std::vector<float>& actual, const std::vector<float>& expected);
// The largest |actual - expected|; infinity on NaN or a length mismatch.
double max_abs_error(const std::vector<float>& actual, const std::vector<float>& expected);

// Memory poisoned with NaN with canaries on both sides; check() fails the test when a canary is
// gone.
template <typename T>
class Guarded {
 public:
  explicit Guarded(size_t count) : data_(count + 2 * kPad), count_(count) {
    auto* bytes = reinterpret_cast<unsigned char*>(data_.data());
    for (size_t i = 0; i < data_.size() * sizeof(T); ++i) bytes[i] = 0xFF;
  }
  T* data() { return data_.data() + kPad; }
  size_t size() const { return count_; }
  std::vector<T> values() const { return {data_.begin() + kPad, data_.begin() + kPad + count_}; }
  bool intact() const {
    const auto* bytes = reinterpret_cast<const unsigned char*>(data_.data());
    for (size_t i = 0; i < kPad * sizeof(T); ++i) {
      if (bytes[i] != 0xFF || bytes[(kPad + count_) * sizeof(T) + i] != 0xFF) return false;
    }
    return true;
  }

 private:
  static constexpr size_t kPad = 64;
  std::vector<T> data_;
  size_t count_;
};

// A context on the shared pool with an arena of its own.
OpContext& context();
// Runs with that many threads in context(), then puts the old pool back.
void with_threads(int num_threads, const std::function<void()>& body);
// Runs once for every instruction set that this machine has, with its name.
void for_each_isa(const std::function<void(const char*)>& body);

// The central difference of `loss` by x[i].
double finite_difference(std::vector<float>& x, size_t i, double step,
                         const std::function<double()>& loss);

}  // namespace vilg::test

#define VILG_TEST(name)                                                                      \
  static void vilg_test_##name();                                                            \
  static const ::vilg::test::Registration vilg_registration_##name(#name, vilg_test_##name); \
  static void vilg_test_##name()

#define EXPECT(condition, ...)                                                                    \
  do {                                                                                            \
    if (!(condition)) {                                                                           \
      ::vilg::test::report_failure(__FILE__, __LINE__,                                            \
                                   std::string(#condition) + ": " + ::vilg::format(__VA_ARGS__)); \
    }                                                                                             \
  } while (false)

// EXPECT_ERROR(kShapeMismatch, op(params)): fails unless an Error of that code is thrown.
#define EXPECT_ERROR(error_code, ...)                                           \
  do {                                                                          \
    bool vilg_thrown = false;                                                   \
    try {                                                                       \
      __VA_ARGS__;                                                              \
    } catch (const ::vilg::Error& error) {                                      \
      vilg_thrown = error.code() == ::vilg::ErrorCode::error_code;              \
    }                                                                           \
    if (!vilg_thrown)                                                           \
      ::vilg::test::report_failure(__FILE__, __LINE__,                          \
                                   #__VA_ARGS__ " did not throw " #error_code); \
  } while (false)
