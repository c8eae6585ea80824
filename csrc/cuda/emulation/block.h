#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "cuda/emulation/fiber.h"

// One thread block of a kernel, run on the host by one thread of the operating system. It is strict
// where a GPU is silent: shared memory begins as NaN, asynchronous copies arrive as late as they
// may (or, in a second run, as early), and these are errors with block and thread: threads of a
// warp that meet in different instructions, threads that wait for each other for ever, writing
// beyond shared memory, copies that nobody waits for.
namespace vilg::cuda::emulation {

struct Dim3 {
  uint32_t x = 1, y = 1, z = 1;
  Dim3() = default;
  // Throws for what a GPU would silently take modulo 2^32.
  Dim3(int64_t x_, int64_t y_ = 1, int64_t z_ = 1) : x(narrow(x_)), y(narrow(y_)), z(narrow(z_)) {}

 private:
  static uint32_t narrow(int64_t size);
};

inline constexpr int kWarpSize = 32;
inline constexpr uint32_t kFullWarp = 0xffffffffu;

// When copies of cp.async take place: at the wait that makes sure of them, so that a missing wait
// or barrier reads poison; or at once, so that a copy into memory that others still read is seen.
enum class CopyTime { kLatest, kEarliest };

struct Strictness {
  CopyTime copies = CopyTime::kLatest;
  // 0: blocks and threads run in the order of their numbers, a warp as far as it can; otherwise in
  // a random order, with a change of warp wherever a thread waits.
  uint32_t order_seed = 0;
};
// For all launches that begin later.
void set_strictness(const Strictness& strictness);
Strictness strictness();

struct AsyncCopy {
  void* to;
  const void* from;
  uint32_t size_bytes, copied_bytes;  // what is not copied is zero
};

struct Thread {
  Dim3 index;
  uint32_t number = 0;  // in the block
  std::vector<std::vector<AsyncCopy>> groups;
  std::vector<AsyncCopy> uncommitted;
};

// What a collective operation of a warp does: `lanes` are the 32 arguments, in which it also leaves
// the results.
using Collective = void (*)(void* const* lanes);

class Block {
 public:
  Block();
  ~Block();

  // Runs `kernel` once for each thread. Throws what went wrong, with block and thread.
  void run(const std::function<void()>& kernel, Dim3 grid, Dim3 block_index, Dim3 threads,
           size_t shared_bytes);

  // --- called by the threads of the block that runs ---------------------------------------------
  static Block& current();
  Thread& thread() { return threads_[running_]; }
  Dim3 grid, index, size;
  unsigned char* shared() { return shared_; }
  size_t shared_bytes() const { return shared_bytes_; }

  void barrier();
  // All 32 lanes must come with the same operation. As on a GPU, what a lane has written before is
  // seen by the others after only if it `orders_memory`.
  void collective(const char* what, Collective operation, void* argument,
                  bool orders_memory = false);
  [[noreturn]] void fail(const std::string& what);

 private:
  // What ThreadSanitizer knows a meeting of threads by. Two in turn: who comes to the next meeting
  // early must not seem to have met those who have yet to leave this one.
  struct Meeting {
    char objects[2];
    uint32_t number = 0;
    void* object() { return &objects[number % 2]; }
  };
  struct Warp {
    uint32_t live = kFullWarp, ready = kFullWarp, arrived = 0;
    const char* what = nullptr;
    Collective operation = nullptr;
    std::array<void*, kWarpSize> arguments{};
    Meeting meeting;
  };
  static void enter();
  void prepare_shared(size_t size_bytes);
  void check_shared_margins() const;
  void release_shared();
  void finish_thread();
  // Goes on with any thread that can; back to run() when none is left.
  void next(bool ends);
  void release_barrier();
  int pick();
  std::string where(uint32_t thread) const;

  std::vector<std::unique_ptr<Fiber>> fibers_;
  std::vector<Thread> threads_;
  std::vector<Warp> warps_;
  Fiber main_{Fiber::CurrentThread{}};
  Fiber* previous_ = nullptr;
  const std::function<void()>* kernel_ = nullptr;
  uint32_t running_ = 0, live_ = 0, waiting_ = 0;
  uint32_t random_ = 0;  // state of the order's generator; 0: in order
  Meeting barrier_;
  char entered_ = 0, left_ = 0;  // what ThreadSanitizer knows the ways from and to run() by
  std::exception_ptr error_;
  unsigned char* shared_ = nullptr;
  std::unique_ptr<unsigned char[]> shared_memory_;
  size_t shared_capacity_ = 0, shared_bytes_ = 0;
};

}  // namespace vilg::cuda::emulation
