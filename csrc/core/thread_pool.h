#pragma once

#include <cstdint>
#include <functional>
#include <memory>

namespace vilg {

// The process-wide pool (no OpenMP, not libuv's threads). Work is split into numbered tasks that
// threads take from an atomic counter, so how it is split, and with it every reduction order, is up
// to the caller and independent of the number of threads. Several threads may call parallel_for at
// once; each helps with its own tasks.
class ThreadPool {
 public:
  explicit ThreadPool(int num_threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  // Runs task(0) .. task(num_tasks - 1) and waits for all. The first exception is thrown again
  // here; tasks that had not begun by then are skipped. Calls from inside a task run inline.
  void parallel_for(int64_t num_tasks, const std::function<void(int64_t)>& task);

  // The calling thread counts as one.
  int num_threads() const;

  // Made at first use with one thread a core, never destroyed: workers must outlive every
  // environment of the process.
  static ThreadPool& shared();
  // Work in flight keeps the pool that it began with.
  static void set_shared_num_threads(int num_threads);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// ceil(a / b) for positive numbers.
constexpr int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

}  // namespace vilg
