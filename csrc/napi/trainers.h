// What the trainers of all kinds of models have in common across the boundary.
#pragma once

#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "napi/models.h"
#include "train/gradient_scope.h"
#include "train/training_state.h"

namespace vilg::binding {

// One model in training. The trainer itself is made by the first task, as its moments are large and
// the JavaScript thread should not wait for them.
template <typename Model, typename Trainer>
struct Training {
  std::shared_ptr<Locked<Model>> locked;
  std::function<std::unique_ptr<Trainer>(const StopFlag&)> make;
  InUse in_use;

  // By tasks that hold the lease.
  std::unique_ptr<Trainer> trainer;
  std::vector<Tensor> gradients;  // here between tasks, see GradientScope

  // Readable at any time.
  std::atomic<int64_t> steps{0};
  // What was gathered is not to be used: its task was stopped or failed, perhaps before it ran.
  std::atomic<bool> discard{false};
};

// The model for itself, its weights with this trainer's gradients: for one task.
template <typename Model, typename Trainer>
class TrainingScope {
 public:
  TrainingScope(Training<Model, Trainer>& training, const StopFlag& stop)
      : hold_(training.locked->lock.exclusive(&stop)),
        gradients_(training.locked->model.parameters(), training.gradients) {
    if (!training.trainer) training.trainer = training.make(stop);
    frozen_.emplace(training.locked->model.parameters(), training.trainer->optimizer().frozen());
    if (training.discard.exchange(false)) training.trainer->discard();
  }

 private:
  FairLock::Hold hold_;
  GradientScope gradients_;
  std::optional<FrozenScope> frozen_;  // made when the trainer is there
};

// Captured by a task that gathers gradients: unless it comes to its end, what was gathered is
// thrown away by the next one.
class DiscardUnlessDone {
 public:
  template <typename T>
  explicit DiscardUnlessDone(const std::shared_ptr<T>& training)
      : discard_(training, &training->discard) {}
  DiscardUnlessDone(DiscardUnlessDone&&) = default;
  ~DiscardUnlessDone() {
    if (discard_ && !done_) discard_->store(true);
  }
  void done() { done_ = true; }

 private:
  std::shared_ptr<std::atomic<bool>> discard_;
  bool done_ = false;
};

// What create*Trainer(model, options, ..) have in common. make(optimizer options, gradient mode,
// stop) gives the trainer.
template <typename TrainerClass, typename Locked, typename Make>
Napi::Value create_trainer(const Napi::CallbackInfo& info, std::shared_ptr<Locked> locked,
                           Make make) {
  auto training = std::make_shared<typename TrainerClass::Impl>();
  GradientMode mode;
  const OptimizerOptions options = optimizer_options(Argument(info, 1, "options"), &mode);
  Optimizer::check(locked->model.parameters(), options);
  training->locked = std::move(locked);
  training->make = [make, options, mode](const StopFlag& stop) {
    return make(options, mode, stop);
  };
  return TrainerClass::create(info.Env(), std::move(training));
}

template <typename T>
Napi::Value steps(const Napi::CallbackInfo& info, const std::shared_ptr<T>& training) {
  return Napi::Number::New(info.Env(), static_cast<double>(training->steps.load()));
}

// apply(learningRate, control)
template <typename T>
Napi::Value apply(const Napi::CallbackInfo& info, const std::shared_ptr<T>& training) {
  return start_task(
      info.Env(), Argument(info, 1, "control").task_options(),
      [training,
       learning_rate =
           float_argument(Argument(info, 0, "learningRate"), 0, std::numeric_limits<float>::max()),
       lease = Lease(training, training->in_use, "trainer")](TaskContext& task) {
        const TrainingScope scope(*training, task.stop);
        const Optimizer::Result result = training->trainer->step(learning_rate, &task.stop);
        training->steps = training->trainer->optimizer().steps();
        return result;
      },
      [](Napi::Env env, Optimizer::Result& updated) -> Napi::Value {
        Napi::Object result = Napi::Object::New(env);
        result.Set("gradientNorm", updated.gradient_norm);
        result.Set("applied", updated.applied);
        return result;
      });
}

// saveState(path, control)
template <typename T>
Napi::Value save_state(const Napi::CallbackInfo& info, const std::shared_ptr<T>& training) {
  return start_task(
      info.Env(), Argument(info, 1, "control").task_options(),
      [training, path = Argument(info, 0, "path").string(),
       lease = Lease(training, training->in_use, "trainer")](TaskContext& task) {
        const TrainingScope scope(*training, task.stop);
        save_training_state(path, training->trainer->parts(), training->trainer->extras(),
                            &task.stop);
      },
      to_undefined);
}

// loadState(path, control)
template <typename T>
Napi::Value load_state(const Napi::CallbackInfo& info, const std::shared_ptr<T>& training) {
  return start_task(
      info.Env(), Argument(info, 1, "control").task_options(),
      [training, path = Argument(info, 0, "path").string(),
       lease = Lease(training, training->in_use, "trainer")](TaskContext& task) {
        const TrainingScope scope(*training, task.stop);
        TrainingExtras extras = training->trainer->extras();
        load_training_state(path, training->trainer->parts(), extras, &task.stop);
        training->trainer->restore(std::move(extras));
        training->trainer->discard();
        training->steps = training->trainer->optimizer().steps();
      },
      to_undefined);
}

// The members of every trainer's class, and its own `more`.
template <typename Class>
void define_trainer(Napi::Env env, std::vector<napi_property_descriptor> more) {
  using T = typename Class::Impl;
  more.push_back(Class::template getter<&steps<T>>("steps"));
  more.push_back(Class::template method<&apply<T>>("apply"));
  more.push_back(Class::template method<&save_state<T>>("saveState"));
  more.push_back(Class::template method<&load_state<T>>("loadState"));
  Class::define(env, Napi::Object::New(env), more);
}

}  // namespace vilg::binding
