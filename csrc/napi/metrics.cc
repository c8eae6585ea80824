// What the metrics of pictures compute natively.
#include <vector>

#include "metrics/feature_moments.h"
#include "metrics/frechet_distance.h"
#include "napi/arguments.h"
#include "napi/async_task.h"
#include "napi/definitions.h"
#include "napi/errors.h"

namespace vilg::binding {
namespace {

constexpr int64_t kMaxDimensions = int64_t{1} << 20;

std::vector<double> copied(std::span<const double> values) {
  return {values.begin(), values.end()};
}

// Runs `work(context)` on the shared pool with an arena of its own.
template <typename Work>
auto in_context(TaskContext& task, const Work& work) {
  HostArena arena;
  OpContext context{.pool = &ThreadPool::shared(), .allocator = &arena, .stop = &task.stop};
  return work(context);
}

// featureMoments(features, dimensions, control) -> { mean, scatter }
Napi::Value feature_moments(const Napi::CallbackInfo& info) {
  const int64_t d = Argument(info, 1, "dimensions").integer(1, kMaxDimensions);
  const Argument argument(info, 0, "features");
  const std::span<const double> features = argument.array<double>();
  const int64_t count = static_cast<int64_t>(features.size()) / d;
  return start_task(
      info.Env(), Argument(info, 2, "control").task_options(),
      [features = copied(features), count, d](TaskContext& task) {
        return in_context(task, [&](OpContext& context) {
          return vilg::feature_moments(features, count, d, context);
        });
      },
      [](Napi::Env env, const FeatureMoments& moments) -> Napi::Value {
        Napi::Object result = Napi::Object::New(env);
        result.Set("mean", to_typed_array(env, moments.mean));
        result.Set("scatter", to_typed_array(env, moments.scatter));
        return result;
      });
}

struct Gaussian {
  std::vector<double> mean, covariance;
  GaussianView view() const { return {mean, covariance}; }
};
Gaussian gaussian_argument(const Argument& argument) {
  const std::span<const double> mean = argument["mean"].array<double>();
  const auto d = static_cast<int64_t>(mean.size());
  if (d < 1 || d > kMaxDimensions) argument.refuse("a mean of 1 to 2^20 numbers");
  return {copied(mean), copied(argument["covariance"].array<double>(d * d))};
}

// frechetDistance({ mean, covariance }, { mean, covariance }, control) -> number
Napi::Value frechet_distance(const Napi::CallbackInfo& info) {
  return start_task(
      info.Env(), Argument(info, 2, "control").task_options(),
      [a = gaussian_argument(Argument(info, 0, "a")),
       b = gaussian_argument(Argument(info, 1, "b"))](TaskContext& task) {
        return in_context(task, [&](OpContext& context) {
          return vilg::frechet_distance(a.view(), b.view(), context);
        });
      },
      [](Napi::Env env, double distance) -> Napi::Value {
        return Napi::Number::New(env, distance);
      });
}

}  // namespace

void define_metrics(Napi::Env, Napi::Object exports) {
  export_function<&feature_moments>(exports, "featureMoments");
  export_function<&frechet_distance>(exports, "frechetDistance");
}

}  // namespace vilg::binding
