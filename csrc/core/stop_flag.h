#pragma once

#include <atomic>

#include "core/error.h"

namespace vilg {

// Raised from the JavaScript thread, read by the work between layers and tiles.
class StopFlag {
 public:
  void raise() { raised_.store(true, std::memory_order_relaxed); }
  bool raised() const { return raised_.load(std::memory_order_relaxed); }
  void check() const {
    if (raised()) throw Stopped();
  }

 private:
  std::atomic<bool> raised_{false};
};

}  // namespace vilg
