#pragma once

#include <cstddef>
#include <cstdint>

// Threads of a block are fibers: stacks of their own on one thread of the operating system, which
// changes from one to the next only where a thread of a GPU would wait.
namespace vilg::cuda::emulation {

class Fiber {
 public:
  static constexpr size_t kStackBytes = 64 * 1024;

  Fiber();
  ~Fiber();
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  // The next switch_to() enters `entry`, which must not return.
  void prepare(void (*entry)());
  // Leaves the stack that runs now, to be resumed by a later switch, and goes on with `to`. Either
  // may be the thread's own stack: a Fiber made by for_current_thread().
  static void switch_to(Fiber& from, Fiber& to, bool from_ends);

  struct CurrentThread {};
  explicit Fiber(CurrentThread);

  // Call first in `entry`: tells AddressSanitizer that the switch has happened.
  static void entered(Fiber& previous);

 private:
  void* stack_ = nullptr;  // lowest address
  size_t size_ = 0;
  void* stack_pointer_ = nullptr;
  void* fake_stack_ = nullptr;   // AddressSanitizer's
  void* thread_race_ = nullptr;  // ThreadSanitizer's
  bool own_stack_ = false;
};

// What one thread of the block has written becomes visible to those that acquire later; only
// ThreadSanitizer needs to be told.
void race_release(void* object);
void race_acquire(void* object);

}  // namespace vilg::cuda::emulation
