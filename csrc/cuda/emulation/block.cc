#include "cuda/emulation/block.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "core/error.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(address, size) (void)0
#define ASAN_UNPOISON_MEMORY_REGION(address, size) (void)0
#endif

namespace vilg::cuda::emulation {
namespace {

Strictness current_strictness;
thread_local Block* current_block = nullptr;

constexpr size_t kSharedAlignment = 1024;
constexpr size_t kSharedMargin = 256;  // on either side, to see what is written there
constexpr size_t kSharedSlack = 2 * kSharedMargin + kSharedAlignment;
constexpr unsigned char kMarginByte = 0xa5, kPoison = 0xff;

}  // namespace

void set_strictness(const Strictness& strictness) { current_strictness = strictness; }
Strictness strictness() { return current_strictness; }

uint32_t Dim3::narrow(int64_t size) {
  VILG_CHECK(size >= 0 && size <= 0x7fffffff, kInternal,
             "a grid or a block of %lld: expected at most 2^31 - 1", static_cast<long long>(size));
  return static_cast<uint32_t>(size);
}

Block::Block() = default;
Block::~Block() { release_shared(); }

Block& Block::current() { return *current_block; }

std::string Block::where(uint32_t thread) const {
  return format("block (%u, %u, %u), thread %u", index.x, index.y, index.z, thread);
}

void Block::run(const std::function<void()>& kernel, Dim3 grid_size, Dim3 block_index, Dim3 threads,
                size_t shared_bytes) {
  const uint64_t count = uint64_t{threads.x} * threads.y * threads.z;
  VILG_CHECK(count >= 1 && count <= 1024 && count % kWarpSize == 0, kInternal,
             "a block of %u x %u x %u threads: expected whole warps, at most 1024 threads",
             threads.x, threads.y, threads.z);
  grid = grid_size, index = block_index, size = threads;
  prepare_shared(shared_bytes);
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
  random_ = current_strictness.order_seed;
  if (random_ != 0) {
    random_ = random_ * 2654435761u + block_index.x * 7919u + block_index.y * 104729u +
              block_index.z * 1299709u;
    random_ |= 1u;  // the generator stays at 0
  }
  live_ = static_cast<uint32_t>(count), waiting_ = 0, running_ = 0, error_ = nullptr;
  kernel_ = &kernel;
  Block* const outer = current_block;
  current_block = this;
  running_ = static_cast<uint32_t>(pick());
  previous_ = &main_;
  race_release(&entered_);
  Fiber::switch_to(main_, *fibers_[running_], false);
  race_acquire(&left_);
  current_block = outer;
  if (error_) {
    fibers_.clear();  // some are in the middle of the kernel for ever
    std::rethrow_exception(error_);
  }
  check_shared_margins();
}

void Block::prepare_shared(size_t size_bytes) {
  if (size_bytes > shared_capacity_ || !shared_memory_) {
    release_shared();
    shared_memory_ = std::make_unique<unsigned char[]>(size_bytes + kSharedSlack);
    shared_capacity_ = size_bytes;
  }
  const auto lowest = reinterpret_cast<uintptr_t>(shared_memory_.get()) + kSharedMargin;
  shared_ = shared_memory_.get() + kSharedMargin +
            (kSharedAlignment - lowest % kSharedAlignment) % kSharedAlignment;
  shared_bytes_ = size_bytes;
  ASAN_UNPOISON_MEMORY_REGION(shared_ - kSharedMargin, size_bytes + 2 * kSharedMargin);
  std::memset(shared_ - kSharedMargin, kMarginByte, kSharedMargin);
  std::memset(shared_, kPoison, size_bytes);
  std::memset(shared_ + size_bytes, kMarginByte, kSharedMargin);
  ASAN_POISON_MEMORY_REGION(shared_ - kSharedMargin, kSharedMargin);
  ASAN_POISON_MEMORY_REGION(shared_ + size_bytes, kSharedMargin);
}

void Block::check_shared_margins() const {
  ASAN_UNPOISON_MEMORY_REGION(shared_ - kSharedMargin, shared_bytes_ + 2 * kSharedMargin);
  const auto intact = [](const unsigned char* margin) {
    return std::all_of(margin, margin + kSharedMargin,
                       [](unsigned char byte) { return byte == kMarginByte; });
  };
  VILG_CHECK(intact(shared_ - kSharedMargin) && intact(shared_ + shared_bytes_), kInternal,
             "kernel: block (%u, %u, %u) wrote outside its %zu bytes of shared memory", index.x,
             index.y, index.z, shared_bytes_);
}

void Block::release_shared() {
  if (!shared_memory_) return;
  ASAN_UNPOISON_MEMORY_REGION(shared_memory_.get(), shared_capacity_ + kSharedSlack);
  shared_memory_.reset();
}

// The first thing on a thread's own stack.
void Block::enter() {
  Block& block = *current_block;
  Fiber::entered(*block.previous_);
  race_acquire(&block.entered_);
  try {
    (*block.kernel_)();
    const Thread& thread = block.thread();
    const auto copies = [](const std::vector<AsyncCopy>& group) { return !group.empty(); };
    if (copies(thread.uncommitted) ||
        std::any_of(thread.groups.begin(), thread.groups.end(), copies)) {
      block.fail("ends with asynchronous copies that nobody has waited for");
    }
  } catch (...) {
    if (!block.error_) block.error_ = std::current_exception();
  }
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
  ++barrier_.number;
  for (Warp& warp : warps_) warp.ready = warp.live;
}

// A thread that can go on: of the same warp if there is one, because then few warps are between
// two barriers at a time. -1: none.
int Block::pick() {
  const auto warps = static_cast<uint32_t>(warps_.size());
  uint32_t first = running_ / kWarpSize;
  int turn = 0;
  if (random_ != 0) {
    random_ ^= random_ << 13, random_ ^= random_ >> 17, random_ ^= random_ << 5;
    first = (random_ >> 8) % warps;
    turn = static_cast<int>(random_ % kWarpSize);
  }
  for (uint32_t i = 0; i < warps; ++i) {
    const uint32_t w = (first + i) % warps;
    if (const uint32_t ready = warps_[w].ready) {
      const auto lane = static_cast<uint32_t>(std::countr_zero(std::rotr(ready, turn)) + turn);
      return static_cast<int>(w * kWarpSize + lane % kWarpSize);
    }
  }
  return -1;
}

void Block::next(bool ends) {
  Fiber& from = *fibers_[running_];
  const int chosen = error_ ? -1 : pick();
  if (chosen < 0 && !error_ && live_ > 0) {
    std::string who;
    for (size_t w = 0; w < warps_.size(); ++w) {
      if (warps_[w].live == 0) continue;
      who += format("; warp %zu has %d left", w, std::popcount(warps_[w].live));
      if (const int arrived = std::popcount(warps_[w].arrived)) {
        who += format(", %d of them in %s", arrived, warps_[w].what);
      }
    }
    error_ = std::make_exception_ptr(
        Error(ErrorCode::kInternal,
              format("kernel: %s and all others wait for ever, %u of them in a barrier%s",
                     where(running_).c_str(), waiting_, who.c_str()),
              __FILE__, __LINE__));
  }
  previous_ = &from;
  race_release(&left_);  // also where it only waits: after an error it is never resumed
  if (chosen < 0) {
    Fiber::switch_to(from, main_, ends || error_ != nullptr);
    return;
  }
  if (static_cast<uint32_t>(chosen) == running_) return;
  running_ = static_cast<uint32_t>(chosen);
  Fiber::switch_to(from, *fibers_[running_], ends);
}

void Block::barrier() {
  void* const meeting = barrier_.object();
  race_release(meeting);
  Warp& warp = warps_[running_ / kWarpSize];
  warp.ready &= ~(1u << (running_ % kWarpSize));
  if (++waiting_ == live_) release_barrier();
  // with an order of its own, the last to come need not be the first to leave
  if (waiting_ != 0 || random_ != 0) next(false);
  race_acquire(meeting);
}

void Block::collective(const char* what, Collective operation, void* argument, bool orders_memory) {
  Warp& warp = warps_[running_ / kWarpSize];
  const uint32_t lane = running_ % kWarpSize;
  if (warp.arrived == 0) {
    warp.what = what, warp.operation = operation;
  } else if (warp.operation != operation || std::strcmp(warp.what, what) != 0) {
    fail(format("comes to %s while others of its warp are in %s", what,
                std::strcmp(warp.what, what) != 0 ? warp.what : "the same of another type"));
  }
  void* const meeting = warp.meeting.object();
  if (orders_memory) race_release(meeting);
  warp.arguments[lane] = argument;
  warp.arrived |= 1u << lane;
  warp.ready &= ~(1u << lane);
  if (warp.arrived == kFullWarp) {
    RaceIgnored ignored;
    operation(warp.arguments.data());
    warp.arrived = 0;
    warp.ready = kFullWarp;
    ++warp.meeting.number;
  }
  if (warp.arrived != 0 || random_ != 0) next(false);
  if (orders_memory) race_acquire(meeting);
}

void Block::fail(const std::string& what) {
  VILG_FAIL(kInternal, "kernel: %s %s", where(running_).c_str(), what.c_str());
}

}  // namespace vilg::cuda::emulation
