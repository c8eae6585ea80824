// What one JavaScript environment (the main thread, or one worker_threads worker) owns of the
// addon. Nothing of it is static, so environments come and go independently of each other.
#pragma once

#include <napi.h>

#include <list>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <vector>

namespace vilg::binding {

class Task;

class Environment {
 public:
  // Makes the state of `env` and hooks its shutdown. Once per environment, from module.cc.
  static void create(Napi::Env env);
  static Environment& of(Napi::Env env);
  ~Environment();
  Environment(const Environment&) = delete;
  Environment& operator=(const Environment&) = delete;

  // What initialize() registered: the class of errors, and the value that a promise rejects with
  // after its stop flag was raised.
  Napi::FunctionReference error_class;
  Napi::ObjectReference stopped;

  // Constructors of the wrapped classes, by wrap.h's type tag.
  std::unordered_map<const void*, Napi::FunctionReference> classes;
  // Set for the moment in which wrap.h calls such a constructor; empty: JavaScript called it.
  std::shared_ptr<void> constructing;

  // Takes the task and starts its thread. JavaScript thread.
  void start(std::unique_ptr<Task> task);
  // From the task's thread: it is done, or has progress to report.
  void notify(Task* task, bool done);
  // Tasks that run at the moment. JavaScript thread.
  size_t num_tasks() const { return tasks_.size(); }

 private:
  explicit Environment(Napi::Env env);
  void deliver(Napi::Env env);
  void shut_down() noexcept;

  Napi::Env env_;
  napi_threadsafe_function notifier_ = nullptr;
  std::list<std::unique_ptr<Task>> tasks_;  // JavaScript thread only
  bool closing_ = false;                    // JavaScript thread only
  std::mutex mutex_;
  std::vector<Task*> done_;         // guarded by mutex_
  std::vector<Task*> progressing_;  // guarded by mutex_
};

}  // namespace vilg::binding
