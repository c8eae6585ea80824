#include "core/thread_pool.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

#include "core/error.h"

namespace vilg {
namespace {

thread_local bool inside_task = false;

// Long enough to bridge the gap between two ops of one model, short enough to leave the event loop
// its core.
constexpr auto kSpin = std::chrono::microseconds(20);

inline void cpu_relax() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// One parallel_for call. Lives on the caller's stack; workers may touch it only while `users`
// counts them.
struct Region {
  const std::function<void(int64_t)>* task;
  int64_t num_tasks;
  std::atomic<int64_t> next{0};
  std::atomic<int64_t> users{0};
  std::atomic<bool> failed{false};
  std::mutex error_mutex;
  std::exception_ptr error;

  void work() {
    inside_task = true;
    for (int64_t i; (i = next.fetch_add(1, std::memory_order_relaxed)) < num_tasks;) {
      if (failed.load(std::memory_order_relaxed)) continue;
      try {
        (*task)(i);
      } catch (...) {
        std::lock_guard lock(error_mutex);
        if (!failed.exchange(true)) error = std::current_exception();
      }
    }
    inside_task = false;
  }
  bool exhausted() const { return next.load(std::memory_order_relaxed) >= num_tasks; }
};

}  // namespace

struct ThreadPool::Impl {
  std::vector<std::thread> workers;
  std::mutex mutex;
  std::condition_variable wake;
  std::vector<Region*> regions;  // guarded by mutex
  std::atomic<uint64_t> epoch{0};
  std::atomic<int64_t> sleepers{0};
  bool quit = false;  // guarded by mutex

  // A region that still has tasks, with this thread counted as its user.
  Region* take() {
    for (Region* region : regions) {
      if (!region->exhausted()) {
        region->users.fetch_add(1, std::memory_order_relaxed);
        return region;
      }
    }
    return nullptr;
  }

  void run() {
    uint64_t seen = 0;
    for (;;) {
      Region* region = nullptr;
      {
        std::unique_lock lock(mutex);
        if (quit) return;
        seen = epoch.load(std::memory_order_relaxed);
        region = take();
      }
      if (region) {
        region->work();
        region->users.fetch_sub(1, std::memory_order_release);
        continue;
      }
      const auto deadline = std::chrono::steady_clock::now() + kSpin;
      bool fresh = false;
      while (!(fresh = epoch.load(std::memory_order_acquire) != seen) &&
             std::chrono::steady_clock::now() < deadline) {
        for (int i = 0; i < 16; ++i) cpu_relax();
      }
      if (fresh) continue;
      std::unique_lock lock(mutex);
      sleepers.fetch_add(1, std::memory_order_relaxed);
      wake.wait(lock, [&] { return quit || epoch.load(std::memory_order_relaxed) != seen; });
      sleepers.fetch_sub(1, std::memory_order_relaxed);
      if (quit) return;
    }
  }
};

ThreadPool::ThreadPool(int num_threads) : impl_(std::make_unique<Impl>()) {
  VILG_CHECK(num_threads >= 1 && num_threads <= 1024, kInvalidArgument,
             "Expected a thread count from 1 to 1024, received %d", num_threads);
  for (int i = 1; i < num_threads; ++i) {
    impl_->workers.emplace_back([impl = impl_.get()] { impl->run(); });
  }
}

ThreadPool::~ThreadPool() {
  {
    std::lock_guard lock(impl_->mutex);
    impl_->quit = true;
  }
  impl_->wake.notify_all();
  for (std::thread& worker : impl_->workers) worker.join();
}

int ThreadPool::num_threads() const { return static_cast<int>(impl_->workers.size()) + 1; }

void ThreadPool::parallel_for(int64_t num_tasks, const std::function<void(int64_t)>& task) {
  if (num_tasks <= 0) return;
  if (num_tasks == 1 || inside_task || impl_->workers.empty()) {
    for (int64_t i = 0; i < num_tasks; ++i) task(i);
    return;
  }
  Region region;
  region.task = &task;
  region.num_tasks = num_tasks;
  bool sleeping;
  {
    std::lock_guard lock(impl_->mutex);
    impl_->regions.push_back(&region);
    impl_->epoch.fetch_add(1, std::memory_order_release);
    sleeping = impl_->sleepers.load(std::memory_order_relaxed) > 0;
  }
  if (sleeping) impl_->wake.notify_all();
  region.work();
  {
    std::lock_guard lock(impl_->mutex);
    std::erase(impl_->regions, &region);
  }
  // no new users from here on: wait for those that are still in their last task
  for (int spins = 0; region.users.load(std::memory_order_acquire) != 0; ++spins) {
    if (spins < 4096) {
      cpu_relax();
    } else {
      std::this_thread::yield();
    }
  }
  if (region.error) std::rethrow_exception(region.error);
}

namespace {
std::mutex shared_mutex;
ThreadPool* shared_pool = nullptr;  // leaked on purpose
}  // namespace

ThreadPool& ThreadPool::shared() {
  std::lock_guard lock(shared_mutex);
  if (!shared_pool) {
    shared_pool =
        new ThreadPool(std::max(1, static_cast<int>(std::thread::hardware_concurrency())));
  }
  return *shared_pool;
}

void ThreadPool::set_shared_num_threads(int num_threads) {
  auto* fresh = new ThreadPool(num_threads);
  std::lock_guard lock(shared_mutex);
  // the old pool stays alive: work in flight may still use it
  shared_pool = fresh;
}

}  // namespace vilg
