// Trainers of matchers.
#include "train/matcher_trainer.h"

#include "napi/definitions.h"
#include "napi/matcher.h"
#include "napi/trainers.h"

namespace vilg::binding {
namespace {

using MatcherTraining = Training<Matcher, MatcherTrainer>;
struct MatcherTrainerTraits {
  using Impl = MatcherTraining;
  static constexpr const char* kName = "MatcherTrainer";
};
using MatcherTrainerClass = Wrap<MatcherTrainerTraits>;

// accumulate(text, valid, image, batch, scale, control)
Napi::Value accumulate_matches(const Napi::CallbackInfo& info,
                               const std::shared_ptr<MatcherTraining>& training) {
  return start_task(
      info.Env(), Argument(info, 5, "control").task_options(),
      [training, batch = batch_arguments(info, 0),
       scale = float_argument(Argument(info, 4, "scale"), 0, 1e30),
       lease = Lease(training, training->in_use, "trainer"),
       discard = DiscardUnlessDone(training)](TaskContext& task) mutable {
        const TrainingScope scope(*training, task.stop);
        MatcherTrainer& trainer = *training->trainer;
        const Comparison result{trainer.accumulate(batch, scale, &task.stop),
                                1 / trainer.matcher().scale()};
        discard.done();
        return result;
      },
      to_comparison);
}

// createMatcherTrainer(matcher, options)
Napi::Value create_matcher_trainer(const Napi::CallbackInfo& info) {
  const auto locked = MatcherClass::get(Argument(info, 0, "model"));
  return create_trainer<MatcherTrainerClass>(
      info, locked,
      [locked](const OptimizerOptions& options, const GradientMode& mode, const StopFlag&) {
        return std::make_unique<MatcherTrainer>(model_of(locked), options, mode);
      });
}

}  // namespace

void define_matcher_trainer(Napi::Env env, Napi::Object exports) {
  using Class = MatcherTrainerClass;
  define_trainer<Class>(env, {Class::method<&accumulate_matches>("accumulate")});
  export_function<&create_matcher_trainer>(exports, "createMatcherTrainer");
}

}  // namespace vilg::binding
