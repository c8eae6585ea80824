#pragma once

#include "core/memory.h"
#include "core/stop_flag.h"
#include "core/thread_pool.h"

namespace vilg {

// What an op may use besides its parameters. Passed, never global.
struct OpContext {
  ThreadPool* pool = nullptr;
  Allocator* allocator = nullptr;  // workspace; on the device that the op runs on
  const StopFlag* stop = nullptr;  // may be null; long ops look at it between tasks
  void* queue = nullptr;           // the backend's own, where ops are queued on a device

  void check_stop() const {
    if (stop) stop->check();
  }
};

}  // namespace vilg
