#include "cuda/emulation/block.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <random>

#include "core/error.h"

namespace vilg::cuda::emulation {
namespace {

Strictness current_strictness;
thread_local Block* current_block = nullptr;

constexpr size_t kSharedAlignment = 1024;

}  // namespace

void set_strictness(const Strictness& strictness) { current_strictness = strictness; }
Strictness strictness() { return current_strictness; }

Block::Block() = default;
Block::~Block() = default;

Block& Block::current() { return *current_block; }

std::string Block::where(uint32_t thread) const {
  return format("block (%u, %u, %u), thread %u", index.x, index.y, index.z, thread);
}

void Block::run(const std::function<void()>& kernel, Dim3 grid_size, Dim3 block_index, Dim3 threads,
                size_t shared_bytes) {
  const uint32_t count = threads.x * threads.y * threads.z;
  VILG_CHECK(count >= 1 && count <= 1024 && count % kWarpSize == 0, kInternal,
             "a block of %u threads: expected whole warps, at most 1024 threads", count);
  grid = grid_size, index = block_index, size = threads;
  if (shared_bytes > shared_capacity_) {
    shared_capacity_ = shared_bytes;
    shared_memory_ = std::make_unique<unsigned char[]>(shared_bytes + kSharedAlignment);
  }
  shared_bytes_ = shared_bytes;
  if (shared_memory_) {
    // at the end of the allocation, so that AddressSanitizer sees what lies beyond
    auto address = reinterpret_cast<uintptr_t>(shared_memory_.get()) + shared_capacity_ +
                   kSharedAlignment - shared_bytes;
    shared_ = reinterpret_cast<unsigned char*>(address & ~uintptr_t{127});
    std::memset(shared_, 0xff, shared_bytes);
  }
  while (fibers_.size() < count) fibers_.push_back(std::make_unique<Fiber>());
  threads_.resize(count);
  warps_.assign(count / kWarpSize, Warp{});
  for (uint32_t i = 0; i < count; ++i) {
    Thread& thread = threads_[i];
    thread.number = i;
    thread.index = Dim3(i % threads.x, i / threads.x % threads.y, i / threads.x / threads.y);
    thread.groups.clear();
    thread.uncommitted.clear();
    fibers_[i]->prepare(enter);
  }
  for (Warp& warp : warps_) warp.live = warp.ready = kFullWarp;
  order_.resize(kWarpSize);
  for (uint32_t i = 0; i < kWarpSize; ++i) order_[i] = i;
  if (const uint32_t seed = current_strictness.order_seed) {
    std::mt19937 engine(seed + block_index.x * 7919u + block_index.y * 104729u);
    std::shuffle(order_.begin(), order_.end(), engine);
  }
  live_ = count, waiting_ = 0, error_ = nullptr, kernel_ = &kernel, ends_ = false;
  Block* const outer = current_block;
  current_block = this;
  running_ = static_cast<uint32_t>(pick());
  previous_ = &main_;
  race_release(this);
  Fiber::switch_to(main_, *fibers_[running_], false);
  race_acquire(this);
  current_block = outer;
  if (error_) std::rethrow_exception(error_);
}

// The first thing on a thread's own stack.
void Block::enter() {
  Block& block = *current_block;
  Fiber::entered(*block.previous_);
  race_acquire(&block);
  try {
    (*block.kernel_)();
    const Thread& thread = block.thread();
    if (!thread.groups.empty() || !thread.uncommitted.empty()) {
      block.fail("ends with asynchronous copies that nobody has waited for");
    }
  } catch (...) {
    if (!block.error_) block.error_ = std::current_exception();
  }
  race_release(&block);
  block.finish_thread();
  block.next(true);
  __builtin_unreachable();
}

void Block::finish_thread() {
  Warp& warp = warps_[running_ / kWarpSize];
  const uint32_t bit = 1u << (running_ % kWarpSize);
  warp.live &= ~bit;
  warp.ready &= ~bit;
  --live_;
  if (waiting_ > 0 && waiting_ == live_) release_barrier();
}

void Block::release_barrier() {
  waiting_ = 0;
  for (Warp& warp : warps_) warp.ready = warp.live;
}

// A thread that can go on: of the same warp if there is one, because then few warps are between
// two barriers at a time. -1: none.
int Block::pick() const {
  const auto warps = static_cast<uint32_t>(warps_.size());
  const uint32_t first = running_ / kWarpSize < warps ? running_ / kWarpSize : 0;
  for (uint32_t i = 0; i < warps; ++i) {
    const uint32_t w = (first + i) % warps;
    const uint32_t ready = warps_[w].ready;
    if (!ready) continue;
    if (current_strictness.order_seed == 0) {
      return static_cast<int>(w * kWarpSize + static_cast<uint32_t>(std::countr_zero(ready)));
    }
    for (uint32_t lane : order_) {
      if (ready >> lane & 1u) return static_cast<int>(w * kWarpSize + lane);
    }
  }
  return -1;
}

void Block::next(bool ends) {
  Fiber& from = *fibers_[running_];
  int chosen = error_ ? -1 : pick();
  if (chosen < 0 && !error_ && live_ > 0) {
    std::string who;
    for (uint32_t w = 0; w < warps_.size(); ++w) {
      if (warps_[w].live == 0) continue;
      who += format("; warp %u: %d threads left, of which %d wait in %s", w,
                    std::popcount(warps_[w].live), std::popcount(warps_[w].arrived),
                    warps_[w].arrived ? warps_[w].what : "a barrier");
    }
    error_ = std::make_exception_ptr(Error(
        ErrorCode::kInternal,
        format("kernel: %s and all others wait for ever%s", where(running_).c_str(), who.c_str()),
        __FILE__, __LINE__));
  }
  previous_ = &from;
  if (chosen < 0) {
    Fiber::switch_to(from, main_, ends || error_ != nullptr);
    return;
  }
  if (static_cast<uint32_t>(chosen) == running_ && !ends) return;
  running_ = static_cast<uint32_t>(chosen);
  Fiber::switch_to(from, *fibers_[running_], ends);
}

void Block::barrier() {
  Warp& warp = warps_[running_ / kWarpSize];
  race_release(&warps_);
  warp.ready &= ~(1u << (running_ % kWarpSize));
  if (++waiting_ == live_) {
    release_barrier();
  } else {
    next(false);
  }
  race_acquire(&warps_);
}

void Block::collective(const char* what, Collective operation, void* argument) {
  Warp& warp = warps_[running_ / kWarpSize];
  const uint32_t lane = running_ % kWarpSize;
  if (warp.arrived == 0) {
    warp.what = what;
  } else if (std::strcmp(warp.what, what) != 0) {
    fail(format("comes to %s while others of its warp are in %s", what, warp.what));
  }
  warp.arguments[lane] = argument;
  warp.arrived |= 1u << lane;
  race_release(&warp);
  if (warp.arrived == kFullWarp) {
    race_acquire(&warp);
    operation(warp.arguments.data());
    race_release(&warp);
    warp.arrived = 0;
    warp.ready = warp.live;
  } else {
    warp.ready &= ~(1u << lane);
    next(false);
  }
  race_acquire(&warp);
}

void Block::fail(const std::string& what) {
  VILG_FAIL(kInternal, "kernel: %s %s", where(running_).c_str(), what.c_str());
}

}  // namespace vilg::cuda::emulation
