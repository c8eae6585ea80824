#pragma once

#include <functional>
#include <memory>

#include "core/tensor.h"
#include "kernels/op_table.h"

namespace vilg {

// Ops that were recorded once, run again: pointers and sizes stay as they were, what lies behind
// the pointers is read anew.
class RecordedWork {
 public:
  virtual ~RecordedWork() = default;
  virtual void run() = 0;
};

// A place to compute: an op table, the memory that its ops work on, and the ways in and out of it.
// Models, tape, trainer and sampler know nothing else about where they run.
class Backend {
 public:
  virtual ~Backend() = default;
  virtual const OpTable& ops() const = 0;
  virtual Allocator& allocator() = 0;
  virtual const char* device() const = 0;  // "cpu", "cuda:0"
  virtual void copy_in(void* to, const void* from_host, size_t size_bytes) = 0;
  virtual void copy_out(void* to_host, const void* from, size_t size_bytes) = 0;
  virtual void copy(void* to, const void* from, size_t size_bytes) = 0;
  virtual void fill_zero(void* to, size_t size_bytes) = 0;
  // Bytes that can still be allocated; 0 when unknown.
  virtual size_t available_bytes() = 0;
  // Memory that is kept for the next allocation goes back to the system.
  virtual void trim() = 0;
  virtual OpContext context(const StopFlag* stop) = 0;
  // Records the ops and copies that `work` asks for without running them. Null where a backend
  // gains nothing by it; then `work` was not called.
  virtual std::unique_ptr<RecordedWork> record(const std::function<void()>& work) = 0;
  // Milliseconds from the beginning of the work to its end on the device.
  virtual double time(const std::function<void()>& work) = 0;

  Tensor empty(DType dtype, const Shape& shape) { return Tensor::empty(allocator(), dtype, shape); }
  Tensor zeros(DType dtype, const Shape& shape) {
    Tensor tensor = empty(dtype, shape);
    fill_zero(tensor.data(), tensor.size_bytes());
    return tensor;
  }
  Tensor upload(const void* from_host, DType dtype, const Shape& shape) {
    Tensor tensor = empty(dtype, shape);
    copy_in(tensor.data(), from_host, tensor.size_bytes());
    return tensor;
  }
};

// Process-wide and never destroyed, so that tensors may outlive everything else.
Backend& cpu_backend();
Backend& ref_backend();

}  // namespace vilg
