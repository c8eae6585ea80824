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
// may (or, in a second run, as early), threads of a warp that meet in different instructions and
// threads that wait for each other for ever are errors with block and thread.
namespace vilg::cuda::emulation {

struct Dim3 {
  uint32_t x = 1, y = 1, z = 1;
  Dim3() = default;
  Dim3(int64_t x_, int64_t y_ = 1, int64_t z_ = 1)
      : x(static_cast<uint32_t>(x_)), y(static_cast<uint32_t>(y_)), z(static_cast<uint32_t>(z_)) {}
};

inline constexpr int kWarpSize = 32;
inline constexpr uint32_t kFullWarp = 0xffffffffu;

// When copies of cp.async take place: at the wait that makes sure of them, so that a missing wait
// or barrier reads poison; or at once, so that a copy into memory that others still read is seen.
enum class CopyTime { kLatest, kEarliest };

struct Strictness {
  CopyTime copies = CopyTime::kLatest;
  uint32_t order_seed = 0;  // 0: threads go on in order of their number, otherwise in a random one
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

  // --- called by the threads of the block that runs
  // ------------------------------------------------
  static Block& current();
  Thread& thread() { return threads_[running_]; }
  Dim3 grid, index, size;
  unsigned char* shared() { return shared_; }
  size_t shared_bytes() const { return shared_bytes_; }

  void barrier();
  // All 32 lanes must come with the same operation.
  void collective(const char* what, Collective operation, void* argument);
  [[noreturn]] void fail(const std::string& what);

 private:
  struct Warp {
    uint32_t live = 0, ready = 0, arrived = 0;
    const char* what = nullptr;
    std::array<void*, kWarpSize> arguments{};
  };
  static void enter();
  void finish_thread();
  // Goes on with any thread that can; back to run() when none is left.
  void next(bool ends);
  void release_barrier();
  int pick() const;
  std::string where(uint32_t thread) const;

  std::vector<std::unique_ptr<Fiber>> fibers_;
  std::vector<Thread> threads_;
  std::vector<Warp> warps_;
  std::vector<uint32_t> order_;  // of lanes within each warp
  Fiber main_{Fiber::CurrentThread{}};
  Fiber* previous_ = nullptr;
  const std::function<void()>* kernel_ = nullptr;
  uint32_t running_ = 0, live_ = 0, waiting_ = 0;
  bool ends_ = false;
  std::exception_ptr error_;
  unsigned char* shared_ = nullptr;
  std::unique_ptr<unsigned char[]> shared_memory_;
  size_t shared_capacity_ = 0, shared_bytes_ = 0;
};

}  // namespace vilg::cuda::emulation
