#pragma once

#include <condition_variable>
#include <list>
#include <mutex>

#include "core/stop_flag.h"

namespace vilg {

// Guards a model's weights: any number of readers (inference) or one writer (training) at a time,
// in the order in which they came, so that neither starves the other. Waiting ends when the
// waiter's stop flag is raised. Not recursive.
class FairLock {
 public:
  FairLock() = default;
  FairLock(const FairLock&) = delete;
  FairLock& operator=(const FairLock&) = delete;

  // Released where it is destroyed.
  class Hold {
   public:
    Hold(Hold&& other) noexcept : lock_(other.lock_), exclusive_(other.exclusive_) {
      other.lock_ = nullptr;
    }
    Hold& operator=(Hold&&) = delete;
    ~Hold() {
      if (lock_) lock_->release(exclusive_);
    }

   private:
    friend class FairLock;
    Hold(FairLock* lock, bool exclusive) : lock_(lock), exclusive_(exclusive) {}
    FairLock* lock_;
    bool exclusive_;
  };

  // Both throw Stopped where `stop` (may be null) is raised before their turn.
  [[nodiscard]] Hold shared(const StopFlag* stop) { return acquire(false, stop); }
  [[nodiscard]] Hold exclusive(const StopFlag* stop) { return acquire(true, stop); }

 private:
  struct Waiter {};
  Hold acquire(bool exclusive, const StopFlag* stop);
  void release(bool exclusive) noexcept;

  std::mutex mutex_;
  std::condition_variable changed_;
  // guarded by mutex_
  std::list<Waiter> queue_;  // oldest first
  int readers_ = 0;
  bool writing_ = false;
};

}  // namespace vilg
