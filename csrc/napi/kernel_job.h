// One call of a kernel by itself: copies of its inputs in memory of the backend, the runs, and
// their times.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "core/memory.h"
#include "core/tensor.h"
#include "core/thread_pool.h"
#include "kernels/op_table.h"
#include "napi/arguments.h"
#include "napi/async_task.h"
#include "plugin/backends.h"

namespace vilg::binding {

// Of positive numbers; refuses a product that no array could have.
inline int64_t product(std::initializer_list<int64_t> factors) {
  int64_t result = 1;
  for (const int64_t factor : factors) {
    VILG_CHECK(!__builtin_mul_overflow(result, factor, &result) && result <= (int64_t{1} << 40),
               kInvalidArgument, "Expected sizes whose product is at most 2^40");
  }
  return result;
}

// { backend: 'cpu' | 'ref' | 'cuda:<n>', precision, threads: 0 for the shared pool,
//   timings: 0 for one run that is not timed }
struct RunOptions {
  explicit RunOptions(const Argument& options) {
    constexpr const char* kPrecisions[] = {"float32", "bfloat16"};
    backend = &backend_named(options["backend"].string());
    dtype = options["precision"].one_of(kPrecisions) == 0 ? DType::kFloat32 : DType::kBFloat16;
    threads = static_cast<int>(options["threads"].integer(0, 1024));
    timings = options["timings"].integer(0, 1'000'000);
  }
  Backend* backend;
  DType dtype;  // in which a kernel gets its matrices, and of its products
  int threads;
  int64_t timings;
};

// Everything one call works on. Movable into the task.
class Job {
 public:
  // How many runs on a device one timing is the mean of (lib/kernels.ts, `timings`).
  static constexpr int kDeviceRunsPerTiming = 20;

  explicit Job(const RunOptions& options)
      : options_(options), is_device_(options.backend->context(nullptr).queue != nullptr) {}

  // A copy of the typed array, still float32 (or int32, uint8).
  template <typename T>
  Tensor copy(std::span<const T> values, DType dtype) {
    Tensor tensor = empty(dtype, static_cast<int64_t>(values.size()));
    if (!values.empty()) backend().copy_in(tensor.data(), values.data(), values.size_bytes());
    return tensor;
  }
  Tensor copy(std::span<const float> values) { return copy(values, DType::kFloat32); }
  Tensor empty(DType dtype, int64_t count) { return Tensor::empty(allocator(), dtype, {count}); }

  // On the task's thread:
  void begin(TaskContext& task) {
    context_ = backend().context(&task.stop);
    context_.allocator = &allocator();
    if (options_.threads > 0) context_.pool = &own_pool_.emplace(options_.threads);
  }
  const OpTable& ops() const { return backend().ops(); }

  // `tensor` in another type.
  Tensor convert(const Tensor& tensor, DType dtype) {
    if (!tensor || tensor.dtype() == dtype) return tensor;
    Tensor result = Tensor::empty(allocator(), dtype, tensor.shape());
    ops().convert({.out = result.data(),
                   .x = tensor.data(),
                   .x_dtype = tensor.dtype(),
                   .out_dtype = dtype,
                   .num_elements = tensor.num_elements()},
                  context_);
    return result;
  }

  // Does the work as often as asked, and times it.
  template <typename Work>
  void measure(TaskContext& task, const Work& work) {
    allocator().reset_peak();
    const size_t held = allocator().bytes_in_use();
    if (options_.timings == 0) work();
    // what starts and ends a measurement on a device takes as long as a small kernel
    const int in_a_row = is_device_ ? kDeviceRunsPerTiming : 1;
    for (int64_t i = 0; i < options_.timings; ++i) {
      context_.check_stop();
      const double milliseconds = backend().time([&] {
        for (int run = 0; run < in_a_row; ++run) work();
      });
      milliseconds_.push_back(milliseconds / in_a_row);
      task.progress(static_cast<double>(i + 1), static_cast<double>(options_.timings));
    }
    workspace_bytes_ = allocator().peak_bytes() - held;
  }
  template <typename Params>
  void run(TaskContext& task, void (*op)(const Params&, OpContext&), const Params& params) {
    measure(task, [&] { op(params, context_); });
  }
  // The tensor in host memory, as float32 or int32.
  Tensor result(const Tensor& tensor) {
    const Tensor wide =
        tensor.dtype() == DType::kBFloat16 ? convert(tensor, DType::kFloat32) : tensor;
    if (!is_device_) return wide;
    Tensor host = Tensor::empty(arena_, wide.dtype(), wide.shape());
    backend().copy_out(host.data(), wide.data(), wide.size_bytes());
    return host;
  }
  const std::vector<double>& milliseconds() const { return milliseconds_; }
  // The most that the op used at once beside its arguments and results.
  size_t workspace_bytes() const { return workspace_bytes_; }

  Backend& backend() const { return *options_.backend; }

 private:
  // Its own on the host, where other work would disturb the measurement of memory.
  Allocator& allocator() { return is_device_ ? backend().allocator() : arena_; }

  RunOptions options_;
  bool is_device_;
  HostArena arena_;  // outlives every tensor of the job: declared before them
  std::optional<ThreadPool> own_pool_;
  OpContext context_;
  std::vector<double> milliseconds_;
  size_t workspace_bytes_ = 0;
};

}  // namespace vilg::binding
