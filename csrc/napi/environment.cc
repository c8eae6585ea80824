#include "napi/environment.h"

#include <algorithm>

#include "napi/async_task.h"
#include "napi/errors.h"

namespace vilg::binding {

void Environment::create(Napi::Env env) {
  auto* environment = new Environment(env);
  env.SetInstanceData<Environment>(environment);
}

Environment& Environment::of(Napi::Env env) {
  auto* environment = env.GetInstanceData<Environment>();
  VILG_CHECK(environment, kInternal, "the environment has no state");
  return *environment;
}

Environment::Environment(Napi::Env env) : env_(env) {
  // One thread-safe function for all tasks of the environment. It keeps the event loop alive only
  // while tasks run (start and deliver below).
  const napi_threadsafe_function_call_js call = [](napi_env raw, napi_value, void* context, void*) {
    if (!raw) return;
    try {
      static_cast<Environment*>(context)->deliver(raw);
    } catch (...) {
      // A worker that is being terminated runs no JavaScript: every call into it fails, down to
      // making the error that says so. Its promises have nobody left to tell, and shut_down() frees
      // what was not delivered.
    }
  };
  if (napi_create_threadsafe_function(env, nullptr, nullptr,
                                      Napi::String::New(env, "ernie-vilg tasks"), 0, 1, nullptr,
                                      nullptr, this, call, &notifier_) != napi_ok) {
    throw Napi::Error::New(env);
  }
  napi_unref_threadsafe_function(env, notifier_);
  // Hooks run last in, first out: this one before the thread-safe function's own, so every thread
  // is joined while notify() is still allowed.
  napi_add_env_cleanup_hook(
      env, [](void* self) { static_cast<Environment*>(self)->shut_down(); }, this);
}

Environment::~Environment() {
  // runs when the environment deletes all references itself
  error_class.SuppressDestruct();
  stopped.SuppressDestruct();
  for (auto& [tag, constructor] : classes) constructor.SuppressDestruct();
}

void Environment::start(std::unique_ptr<Task> task) {
  VILG_CHECK(!closing_, kDisposed, "The JavaScript environment is shutting down");
  Task* started = task.get();
  tasks_.push_back(std::move(task));
  try {
    started->begin(*this);
  } catch (...) {
    tasks_.pop_back();
    throw;
  }
  if (tasks_.size() == 1) napi_ref_threadsafe_function(env_, notifier_);
}

void Environment::notify(Task* task, bool done) {
  {
    std::lock_guard lock(mutex_);
    (done ? done_ : progressing_).push_back(task);
  }
  napi_call_threadsafe_function(notifier_, nullptr, napi_tsfn_nonblocking);
}

void Environment::deliver(Napi::Env env) {
  std::vector<Task*> done, progressing;
  {
    std::lock_guard lock(mutex_);
    done.swap(done_);
    progressing.swap(progressing_);
  }
  // progress first: a task that is in both lists reports before it settles
  for (Task* task : progressing) {
    Napi::HandleScope scope(env);
    task->deliver_progress(env);
  }
  for (Task* task : done) {
    Napi::HandleScope scope(env);
    const auto found =
        std::find_if(tasks_.begin(), tasks_.end(), [&](auto& one) { return one.get() == task; });
    const std::unique_ptr<Task> finished = std::move(*found);
    tasks_.erase(found);
    finished->settle(env);
  }
  if (!done.empty() && tasks_.empty()) napi_unref_threadsafe_function(env, notifier_);
}

void Environment::shut_down() noexcept {
  closing_ = true;
  for (auto& task : tasks_) task->stop().raise();
  for (auto& task : tasks_) task->join();
  // their promises stay pending: no JavaScript may run any more
  tasks_.clear();
  napi_release_threadsafe_function(notifier_, napi_tsfn_abort);
}

}  // namespace vilg::binding
