#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "core/memory.h"

// A GPU and the one order in which work is done on it: memory, copies and kernels follow each other
// as they were asked for. queue.cu implements it with the CUDA runtime, emulation/queue.cc on the
// host. Not for two threads at once, but for its allocator.
namespace vilg::cuda {

struct DeviceProperties {
  std::string name;
  int compute_major = 0, compute_minor = 0;
  int multiprocessors = 1;
  size_t memory_bytes = 0, available_bytes = 0;
  size_t shared_bytes_per_block = 0;  // the most that a kernel may ask for
  bool emulated = false;
};

// Work that was recorded and can be run again; what it read through pointers, it reads anew.
class Recording {
 public:
  virtual ~Recording() = default;
};

class Queue {
 public:
  virtual ~Queue() = default;
  virtual const DeviceProperties& properties() const = 0;

  // Blocks are handed out again as soon as they are given back: the next user's work comes after
  // the last one's. 256-byte aligned.
  virtual Allocator& allocator() = 0;
  virtual void trim() = 0;
  virtual size_t available_bytes() = 0;

  // Host memory may be changed as soon as copy_in returns; copy_out waits until the data is there,
  // and with it all earlier work.
  virtual void copy_in(void* to, const void* from_host, size_t size_bytes) = 0;
  virtual void copy_out(void* to_host, const void* from, size_t size_bytes) = 0;
  virtual void copy(void* to, const void* from, size_t size_bytes) = 0;
  virtual void fill(void* to, unsigned char value, size_t size_bytes) = 0;
  virtual void synchronize() = 0;

  // Between the two calls nothing runs: it is recorded. Only launches, copy() and fill() may be
  // recorded; copy_in, copy_out and synchronize throw. Memory that is given back meanwhile stays
  // with the recording. abandon_recording() after an exception.
  virtual void begin_recording() = 0;
  virtual std::unique_ptr<Recording> end_recording() = 0;
  virtual void abandon_recording() noexcept = 0;
  virtual bool recording() const = 0;
  virtual void replay(Recording& recording) = 0;

  // Time on the device: between the two calls on an otherwise idle device, in milliseconds.
  virtual void start_timer() = 0;
  virtual double stop_timer() = 0;
};

int device_count();  // throws when there is no driver or no device
DeviceProperties describe_device(int device);
std::unique_ptr<Queue> open_queue(int device);

}  // namespace vilg::cuda
