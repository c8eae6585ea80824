#include "tests/harness.h"

#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <limits>

#include "cpu/isa.h"

namespace vilg::test {
namespace {
int failures = 0;
ThreadPool* pool = nullptr;
}  // namespace

std::vector<TestCase>& registry() {
  static std::vector<TestCase> tests;
  return tests;
}

void report_failure(const char* file, int line, const std::string& message) {
  ++failures;
  std::printf("  %s:%d: %s\n", file, line, message.c_str());
}

std::vector<float> random_floats(size_t count, uint32_t seed, float scale) {
  std::mt19937 engine(seed);
  std::uniform_real_distribution<float> uniform(-1.0f, 1.0f);
  std::vector<float> values(count);
  for (float& value : values) {
    do {
      value = scale * uniform(engine);
    } while (value == 0.0f && scale != 0.0f);
  }
  return values;
}

std::vector<bf16> to_bf16(const std::vector<float>& values) {
  std::vector<bf16> result(values.size());
  for (size_t i = 0; i < values.size(); ++i) result[i] = float_to_bf16(values[i]);
  return result;
}

std::vector<float> to_float(const std::vector<bf16>& values) {
  std::vector<float> result(values.size());
  for (size_t i = 0; i < values.size(); ++i) result[i] = bf16_to_float(values[i]);
  return result;
}

double relative_error(const std::vector<float>& actual, const std::vector<float>& expected) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  if (actual.size() != expected.size()) return kInfinity;
  double difference = 0, norm = 0;
  for (size_t i = 0; i < actual.size(); ++i) {
    const double d = static_cast<double>(actual[i]) - expected[i];
    difference += d * d;
    norm += static_cast<double>(expected[i]) * expected[i];
  }
  if (!(difference <= std::numeric_limits<double>::max())) return kInfinity;
  if (norm == 0) return difference == 0 ? 0 : kInfinity;
  return std::sqrt(difference / norm);
}

double max_abs_error(const std::vector<float>& actual, const std::vector<float>& expected) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  if (actual.size() != expected.size()) return kInfinity;
  double largest = 0;
  for (size_t i = 0; i < actual.size(); ++i) {
    const double d = std::abs(static_cast<double>(actual[i]) - expected[i]);
    if (!(d <= std::numeric_limits<double>::max())) return kInfinity;
    largest = std::max(largest, d);
  }
  return largest;
}

OpContext& context() {
  static HostArena arena;
  static OpContext op_context;
  op_context.pool = pool ? pool : &ThreadPool::shared();
  op_context.allocator = &arena;
  return op_context;
}

void with_threads(int num_threads, const std::function<void()>& body) {
  ThreadPool own(num_threads);
  ThreadPool* before = pool;
  pool = &own;
  context();
  body();
  pool = before;
  context();
}

void for_each_isa(const std::function<void(const char*)>& body) {
  using cpu::Isa;
  const Isa before = cpu::active_isa();
  for (Isa isa : {Isa::kV2, Isa::kV3, Isa::kV4, Isa::kV4Bf16, Isa::kNeon}) {
    if (!cpu::isa_supported(isa)) continue;
    cpu::set_active_isa(isa);
    body(cpu::isa_name(isa));
  }
  cpu::set_active_isa(before);
}

double finite_difference(std::vector<float>& x, size_t i, double step,
                         const std::function<double()>& loss) {
  const float before = x[i];
  x[i] = static_cast<float>(before + step);
  const double up = loss(), x_up = x[i];
  x[i] = static_cast<float>(before - step);
  const double down = loss(), x_down = x[i];
  x[i] = before;
  return (up - down) / (x_up - x_down);  // the steps that float32 really took
}

}  // namespace vilg::test

namespace {

// Every argument must be part of the name; one that begins with - must not, one that begins with =
// must be all of it.
bool selected(const char* name, int argc, char** argv) {
  for (int i = 1; i < argc; ++i) {
    if (argv[i][0] == '=') {
      if (std::strcmp(name, argv[i] + 1) != 0) return false;
      continue;
    }
    const bool excludes = argv[i][0] == '-';
    const bool found = std::strstr(name, argv[i] + (excludes ? 1 : 0)) != nullptr;
    if (found == excludes) return false;
  }
  return true;
}

}  // namespace

int main(int argc, char** argv) {
  using namespace vilg::test;
  if (argc == 2 && std::strcmp(argv[1], "--list") == 0) {
    for (const TestCase& test : registry()) std::printf("%s\n", test.name);
    return 0;
  }
  int passed = 0, failed = 0;
  for (const TestCase& test : registry()) {
    if (!selected(test.name, argc, argv)) continue;
    const int before = failures;
    const auto start = std::chrono::steady_clock::now();
    try {
      test.run();
    } catch (const std::exception& error) {
      report_failure(test.name, 0, std::string("threw ") + error.what());
    }
    const double seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    const bool ok = failures == before;
    (ok ? passed : failed) += 1;
    std::printf("%s %s (%.2f s)\n", ok ? "ok  " : "FAIL", test.name, seconds);
    std::fflush(stdout);
  }
  std::printf("%d passed, %d failed\n", passed, failed);
  return failed || passed + failed == 0 ? 1 : 0;  // a filter that matches nothing is a failure
}
