// For tests of the emulation itself: its queue, and kernels that are written in the test.
#pragma once

#include <string>
#include <vector>

#include "cuda/launch.h"
#include "cuda/queue.h"
#include "tests/harness.h"

namespace vilg::test {

inline cuda::Queue& emulated_queue() {
  static const auto queue = cuda::open_queue(0);
  return *queue;
}

// Runs a kernel that is given memory for `count` results, poisoned, and gives them back.
template <typename T, typename... Parameters>
std::vector<T> results_of(size_t count, const cuda::Grid& grid, void (*kernel)(T*, Parameters...),
                          std::type_identity_t<Parameters>... arguments) {
  cuda::Queue& queue = emulated_queue();
  Workspace memory(queue.allocator(), count * sizeof(T));
  cuda::launch(queue, grid, kernel, memory.as<T>(), arguments...);
  std::vector<T> results(count);
  queue.copy_out(results.data(), memory.data(), count * sizeof(T));
  return results;
}

// What a launch fails with; empty if it does not.
template <typename... Parameters>
std::string failure_of(const cuda::Grid& grid, void (*kernel)(Parameters...),
                       std::type_identity_t<Parameters>... arguments) {
  try {
    cuda::launch(emulated_queue(), grid, kernel, arguments...);
  } catch (const Error& error) {
    return error.code() == ErrorCode::kInternal ? error.what() : "an error of another code";
  }
  return "";
}

// Sets how strict the emulation is, for a scope.
class Strict {
 public:
  explicit Strict(cuda::emulation::CopyTime copies, uint32_t order_seed = 0)
      : before_(cuda::emulation::strictness()) {
    cuda::emulation::set_strictness({copies, order_seed});
  }
  ~Strict() { cuda::emulation::set_strictness(before_); }
  Strict(const Strict&) = delete;
  Strict& operator=(const Strict&) = delete;

 private:
  cuda::emulation::Strictness before_;
};

inline bool contains(const std::string& text, const char* part) {
  return text.find(part) != std::string::npos;
}

}  // namespace vilg::test
