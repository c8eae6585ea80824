#include "core/fair_lock.h"

#include <chrono>

namespace vilg {

FairLock::Hold FairLock::acquire(bool exclusive, const StopFlag* stop) {
  std::unique_lock lock(mutex_);
  const auto self = queue_.emplace(queue_.end());
  const auto my_turn = [&] {
    return self == queue_.begin() && !writing_ && (!exclusive || readers_ == 0);
  };
  while (!my_turn()) {
    if (stop && stop->raised()) {
      queue_.erase(self);
      changed_.notify_all();
      throw Stopped();
    }
    // nobody notifies for a stop flag: it is looked at every few milliseconds
    changed_.wait_for(lock, std::chrono::milliseconds(5));
  }
  queue_.erase(self);
  if (exclusive) {
    writing_ = true;
  } else {
    ++readers_;
  }
  // the next in the queue may be a reader that can go on beside this one
  changed_.notify_all();
  return Hold(this, exclusive);
}

void FairLock::release(bool exclusive) noexcept {
  {
    std::lock_guard lock(mutex_);
    if (exclusive) {
      writing_ = false;
    } else {
      --readers_;
    }
  }
  changed_.notify_all();
}

}  // namespace vilg
