#include "train/optimizer.h"

#include <algorithm>
#include <cmath>

namespace vilg {
namespace {

const ParameterGroup* group_of(const OptimizerOptions& options, const std::string& name) {
  for (const ParameterGroup& group : options.groups) {
    for (const std::string& pattern : group.weights) {
      if (matches_name(pattern, name)) return &group;
    }
  }
  return nullptr;
}

bool is_frozen(const OptimizerOptions& options, const std::string& name) {
  const ParameterGroup* group = group_of(options, name);
  return group && group->learning_rate_scale == 0;
}

// A pattern without a weight is a mistake: what it was meant for would learn like the rest.
void check_groups(const ParameterList& parameters, const OptimizerOptions& options) {
  const std::vector<ParameterSpec>& specs = parameters.specs();
  for (const ParameterGroup& group : options.groups) {
    VILG_CHECK(group.learning_rate_scale >= 0 && std::isfinite(group.learning_rate_scale) &&
                   (!group.weight_decay || *group.weight_decay >= 0),
               kInvalidArgument, "Expected a learning rate scale and a decay of at least 0");
    for (const std::string& pattern : group.weights) {
      const bool found = std::ranges::any_of(
          specs, [&](const ParameterSpec& spec) { return matches_name(pattern, spec.name); });
      VILG_CHECK(found, kInvalidArgument,
                 "Expected the name of weights in a group, received \"%s\", which none of %zu "
                 "from %s to %s has",
                 pattern.c_str(), specs.size(), specs.front().name.c_str(),
                 specs.back().name.c_str());
    }
  }
  const bool trains = std::ranges::any_of(
      specs, [&](const ParameterSpec& spec) { return !is_frozen(options, spec.name); });
  VILG_CHECK(trains, kInvalidArgument,
             "Expected groups that leave weights to train, all are frozen");
}

}  // namespace

bool matches_name(std::string_view pattern, std::string_view name) {
  // the parts between stars, one after the other, each where it first fits but for the last
  const size_t star = pattern.find('*');
  if (star == std::string_view::npos) return pattern == name;
  if (!name.starts_with(pattern.substr(0, star))) return false;
  name.remove_prefix(star);
  pattern.remove_prefix(star + 1);
  for (size_t next = pattern.find('*'); next != std::string_view::npos; next = pattern.find('*')) {
    const std::string_view part = pattern.substr(0, next);
    const size_t found = name.find(part);
    if (found == std::string_view::npos) return false;
    name.remove_prefix(found + part.size());
    pattern.remove_prefix(next + 1);
  }
  return name.ends_with(pattern);
}

void Optimizer::check(ParameterList& parameters, const OptimizerOptions& options) {
  VILG_CHECK(options.beta1 >= 0 && options.beta1 < 1 && options.beta2 >= 0 && options.beta2 < 1,
             kInvalidArgument, "Expected betas from 0 to below 1, received %g and %g",
             static_cast<double>(options.beta1), static_cast<double>(options.beta2));
  VILG_CHECK(options.epsilon > 0 && std::isfinite(options.epsilon), kInvalidArgument,
             "Expected a positive epsilon, received %g", static_cast<double>(options.epsilon));
  VILG_CHECK(options.weight_decay >= 0 && options.clip_norm >= 0, kInvalidArgument,
             "Expected weightDecay and clipNorm of at least 0, received %g and %g",
             static_cast<double>(options.weight_decay), static_cast<double>(options.clip_norm));
  for (const Parameter& parameter : parameters.all()) {
    VILG_CHECK(parameter.value.dtype() == DType::kFloat32, kUnsupported,
               "Training needs a model in float32 (load it with precision: 'float32'), %s is %s",
               parameter.name.c_str(), dtype_name(parameter.value.dtype()));
  }
  check_groups(parameters, options);
  // gradient and two moments
  size_t needed = 0;
  for (const Parameter& parameter : parameters.all()) {
    if (is_frozen(options, parameter.name)) continue;
    needed += static_cast<size_t>(parameter.num_elements()) * 3 * sizeof(float);
  }
  const size_t available = parameters.backend().available_bytes();
  VILG_CHECK(available == 0 || needed <= available, kOutOfMemory,
             "Training this model needs %zu bytes for gradients and optimizer states, %zu bytes "
             "are available",
             needed, available);
}

Optimizer::Optimizer(ParameterList& parameters, const OptimizerOptions& options)
    : parameters_(&parameters), options_(options) {
  check(parameters, options);
  Backend& backend = parameters.backend();
  for (const Parameter& parameter : parameters.all()) {
    frozen_.push_back(is_frozen(options, parameter.name));
    const auto moment = [&] {
      return frozen_.back() ? Tensor() : backend.zeros(DType::kFloat32, parameter.value.shape());
    };
    m_.push_back(moment());
    v_.push_back(moment());
  }
}

double Optimizer::gradient_norm() const {
  Backend& backend = parameters_->backend();
  OpContext context = backend.context(nullptr);
  const auto count = static_cast<int64_t>(parameters_->all().size());
  const Tensor sums = backend.zeros(DType::kUInt8, {count * static_cast<int64_t>(sizeof(double))});
  for (int64_t i = 0; i < count; ++i) {
    const Parameter& parameter = parameters_->all()[static_cast<size_t>(i)];
    if (!parameter.grad) continue;
    SquaredNormParams params;
    params.sum = sums.as<double>() + i;
    params.x = parameter.grad.f32();
    params.num_elements = parameter.num_elements();
    backend.ops().squared_norm(params, context);
  }
  std::vector<double> host(static_cast<size_t>(count));
  backend.copy_out(host.data(), sums.data(), sums.size_bytes());
  double total = 0;
  for (double sum : host) total += sum;
  return std::sqrt(total);
}

Optimizer::Result Optimizer::step(float learning_rate, const StopFlag* stop) {
  VILG_CHECK(learning_rate >= 0 && std::isfinite(learning_rate), kInvalidArgument,
             "Expected a finite learning rate of at least 0, received %g",
             static_cast<double>(learning_rate));
  Backend& backend = parameters_->backend();
  // an update is all or nothing: the last moment to stop is before it
  if (stop) stop->check();
  OpContext context = backend.context(nullptr);
  Result result;
  result.gradient_norm = gradient_norm();
  if (!std::isfinite(result.gradient_norm)) {
    parameters_->zero_grad();
    return result;
  }
  float grad_scale = 1.0f;
  if (options_.clip_norm > 0 && result.gradient_norm > options_.clip_norm) {
    grad_scale = static_cast<float>(options_.clip_norm / result.gradient_norm);
  }
  ++steps_;
  for (size_t i = 0; i < m_.size(); ++i) {
    Parameter& parameter = parameters_->all()[i];
    if (!parameter.grad || frozen_[i]) continue;
    const ParameterGroup* group = group_of(options_, parameter.name);
    const float weight_decay =
        group && group->weight_decay ? *group->weight_decay : options_.weight_decay;
    AdamWParams params;
    params.parameter = parameter.value.f32();
    params.m = m_[i].f32();
    params.v = v_[i].f32();
    params.grad = parameter.grad.f32();
    params.num_elements = parameter.num_elements();
    params.learning_rate = learning_rate * (group ? group->learning_rate_scale : 1.0f);
    params.beta1 = options_.beta1, params.beta2 = options_.beta2;
    params.epsilon = options_.epsilon;
    params.weight_decay = parameters_->specs()[i].decay ? weight_decay : 0.0f;
    params.grad_scale = grad_scale;
    params.step = steps_;
    backend.ops().adamw(params, context);
  }
  parameters_->zero_grad();
  result.applied = true;
  return result;
}

}  // namespace vilg
