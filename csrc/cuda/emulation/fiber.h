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

  // The next switch_to() enters `entry`, which must not return. Again only after the last switch
  // from it had from_ends.
  void prepare(void (*entry)());
  // Leaves the stack that runs now, to be resumed by a later switch, and goes on with `to`. Either
  // may be the stack of the system's thread, which the second constructor stands for.
  static void switch_to(Fiber& from, Fiber& to, bool from_ends);

  struct CurrentThread {};
  explicit Fiber(CurrentThread);

  // Call first in `entry`: tells AddressSanitizer that the switch has happened.
  static void entered(Fiber& previous);

 private:
  void* stack_ = nullptr;  // lowest address; below it lies a page that nobody may touch
  size_t size_ = 0;
  void* stack_pointer_ = nullptr;
  void* fake_stack_ = nullptr;   // AddressSanitizer's
  void* thread_race_ = nullptr;  // ThreadSanitizer's
  bool own_stack_ = false;
};

// Only ThreadSanitizer needs to be told: what was done before a release happened before what
// follows a later acquire of the same object.
void race_release(void* object);
void race_acquire(void* object);
// While one lives, what this fiber reads and writes is nobody's race: the emulation itself.
class RaceIgnored {
 public:
  RaceIgnored();
  ~RaceIgnored();
  RaceIgnored(const RaceIgnored&) = delete;
  RaceIgnored& operator=(const RaceIgnored&) = delete;
};

}  // namespace vilg::cuda::emulation
