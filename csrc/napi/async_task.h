// The one kind of asynchronous work. start_task() runs a function on a thread of its own (never
// libuv's four, which belong to the file system and DNS) and returns a promise:
//
//   return start_task(env, std::move(options),
//                     [model, tokens = std::move(tokens)](TaskContext& task) {
//                       return model->forward(tokens, task.stop);       // task thread, no napi
//                       here
//                     },
//                     [](Napi::Env env, Logits& logits) -> Napi::Value {
//                       return to_typed_array(env, logits.values);      // JavaScript thread
//                     });
//
// What the work captures must be its own (copies, shared_ptr): it may outlive the JavaScript
// objects that it came from. Captures are destroyed on the JavaScript thread, before the promise
// settles.
#pragma once

#include <napi.h>

#include <atomic>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <type_traits>
#include <utility>
#include <variant>

#include "core/error.h"
#include "core/stop_flag.h"
#include "napi/environment.h"

namespace vilg::binding {

// The last argument of every asynchronous native function; Argument::task_options() reads it.
struct TaskOptions {
  std::shared_ptr<StopFlag> stop;       // null: the task gets one of its own
  Napi::FunctionReference on_progress;  // may be empty; called with (done, total)
};

class Task;

// What the work sees of its task.
class TaskContext {
 public:
  explicit TaskContext(Task& task);
  // Raised by an AbortSignal, by a progress callback that throws, and when the environment ends.
  const StopFlag& stop;
  // Reports progress; the latest report wins where JavaScript is slower. No-op without a callback.
  void progress(double done, double total);

 private:
  Task& task_;
};

class Task {
 public:
  virtual ~Task();
  Task(const Task&) = delete;
  Task& operator=(const Task&) = delete;

  StopFlag& stop() { return *stop_; }

 protected:
  Task(Napi::Env env, TaskOptions options);
  virtual void run(TaskContext& context) = 0;     // task thread
  virtual void release_work() = 0;                // destroys the work's captures
  virtual Napi::Value result(Napi::Env env) = 0;  // JavaScript thread

 private:
  friend class Environment;
  friend class TaskContext;
  template <typename Work, typename ToJs>
  friend Napi::Value start_task(Napi::Env, TaskOptions, Work, ToJs);

  void begin(Environment& environment);
  void join();
  void deliver_progress(Napi::Env env);
  void settle(Napi::Env env);

  Napi::Promise::Deferred deferred_;
  std::shared_ptr<StopFlag> stop_;
  Napi::FunctionReference on_progress_;
  bool reports_ = false;
  Environment* environment_ = nullptr;
  std::thread thread_;
  // written by the task's thread before it notifies, read by JavaScript's after joining it
  bool stopped_ = false;
  std::optional<Error> error_;
  std::optional<Napi::Error> callback_error_;  // thrown by on_progress; JavaScript thread only
  std::mutex progress_mutex_;
  double done_ = 0, total_ = 0;  // guarded by progress_mutex_
  bool pending_ = false;         // guarded by progress_mutex_: a report waits for delivery
};

template <typename Work, typename ToJs>
class TaskOf final : public Task {
  using Result = std::invoke_result_t<Work&, TaskContext&>;
  using Stored = std::conditional_t<std::is_void_v<Result>, std::monostate, Result>;

 public:
  TaskOf(Napi::Env env, TaskOptions options, Work work, ToJs to_js)
      : Task(env, std::move(options)), work_(std::move(work)), to_js_(std::move(to_js)) {}

 protected:
  void run(TaskContext& context) override {
    if constexpr (std::is_void_v<Result>) {
      (*work_)(context);
    } else {
      result_.emplace((*work_)(context));
    }
  }
  void release_work() override { work_.reset(); }
  Napi::Value result(Napi::Env env) override {
    if constexpr (std::is_void_v<Result>) {
      return to_js_(env);
    } else {
      return to_js_(env, *result_);
    }
  }

 private:
  std::optional<Work> work_;
  std::optional<Stored> result_;
  ToJs to_js_;
};

// See the top of this file. `work` may return nothing; `to_js` then takes the environment alone.
template <typename Work, typename ToJs>
Napi::Value start_task(Napi::Env env, TaskOptions options, Work work, ToJs to_js) {
  auto task = std::make_unique<TaskOf<Work, ToJs>>(env, std::move(options), std::move(work),
                                                   std::move(to_js));
  const Napi::Promise promise = static_cast<Task&>(*task).deferred_.Promise();
  Environment::of(env).start(std::move(task));
  return promise;
}

// For work without a result.
inline Napi::Value to_undefined(Napi::Env env) { return env.Undefined(); }

// Whether something is in use by a task. One task holds it at a time; the next is refused:
//   start_task(env, options,
//              [session, lease = Lease(session, session->in_use, "session")](...) {...}, ...)
class InUse {
 public:
  bool taken() const { return taken_.load(std::memory_order_acquire); }

 private:
  friend class Lease;
  std::atomic<bool> taken_{false};
};
class Lease {
 public:
  // Throws kBusy. `flag` is a member of what `owner` owns.
  template <typename Owner>
  Lease(const std::shared_ptr<Owner>& owner, InUse& flag, const char* name) {
    VILG_CHECK(!flag.taken_.exchange(true, std::memory_order_acquire), kBusy,
               "The %s is busy with an earlier call; await that one first", name);
    flag_ = std::shared_ptr<InUse>(owner, &flag);
  }
  Lease(Lease&&) noexcept = default;
  Lease& operator=(Lease&&) = delete;
  ~Lease() {
    if (flag_) flag_->taken_.store(false, std::memory_order_release);
  }

 private:
  std::shared_ptr<InUse> flag_;
};

}  // namespace vilg::binding
