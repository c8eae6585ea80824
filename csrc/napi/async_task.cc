#include "napi/async_task.h"

#include <system_error>

#include "napi/errors.h"

namespace vilg::binding {

TaskContext::TaskContext(Task& task) : stop(*task.stop_), task_(task) {}

void TaskContext::progress(double done, double total) {
  if (!task_.reports_) return;
  {
    std::lock_guard lock(task_.progress_mutex_);
    task_.done_ = done;
    task_.total_ = total;
    if (std::exchange(task_.pending_, true)) return;
  }
  task_.environment_->notify(&task_, false);
}

Task::Task(Napi::Env env, TaskOptions options)
    : deferred_(env),
      stop_(options.stop ? std::move(options.stop) : std::make_shared<StopFlag>()),
      on_progress_(std::move(options.on_progress)),
      reports_(!on_progress_.IsEmpty()) {}

Task::~Task() { join(); }

void Task::begin(Environment& environment) {
  environment_ = &environment;
  try {
    thread_ = std::thread([this] {
      try {
        stop_->check();
        TaskContext context(*this);
        run(context);
      } catch (const Stopped&) {
        stopped_ = true;
      } catch (...) {
        error_ = current_error();
      }
      environment_->notify(this, true);
    });
  } catch (const std::system_error& error) {
    VILG_FAIL(kOutOfMemory, "The system gave no thread for the task: %s", error.what());
  }
}

void Task::join() {
  if (thread_.joinable()) thread_.join();
}

void Task::deliver_progress(Napi::Env env) {
  double done, total;
  {
    std::lock_guard lock(progress_mutex_);
    done = done_;
    total = total_;
    pending_ = false;
  }
  if (callback_error_) return;
  try {
    on_progress_.Call({Napi::Number::New(env, done), Napi::Number::New(env, total)});
  } catch (const Napi::Error& error) {
    // the caller's own error ends the work and rejects its promise; it may be any value
    callback_error_ = error;
    stop_->raise();
  }
}

void Task::settle(Napi::Env env) {
  join();
  release_work();
  if (callback_error_) {
    deferred_.Reject(callback_error_->Value());
    return;
  }
  if (stopped_) {
    const Napi::ObjectReference& marker = Environment::of(env).stopped;
    deferred_.Reject(marker.IsEmpty() ? env.Undefined() : Napi::Value(marker.Value()));
    return;
  }
  try {
    if (error_) {
      deferred_.Reject(to_js_error(env, *error_));
    } else {
      deferred_.Resolve(result(env));
    }
  } catch (const Napi::Error& error) {
    deferred_.Reject(error.Value());
  } catch (...) {
    deferred_.Reject(to_js_error(env, current_error()));
  }
}

}  // namespace vilg::binding
