#include "train/optimizer.h"

#include <cmath>

namespace vilg {

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
  // gradient and two moments
  const size_t needed = static_cast<size_t>(parameters.num_elements()) * 3 * sizeof(float);
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
    m_.push_back(backend.zeros(DType::kFloat32, parameter.value.shape()));
    v_.push_back(backend.zeros(DType::kFloat32, parameter.value.shape()));
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
    if (!parameter.grad) continue;
    AdamWParams params;
    params.parameter = parameter.value.f32();
    params.m = m_[i].f32();
    params.v = v_[i].f32();
    params.grad = parameter.grad.f32();
    params.num_elements = parameter.num_elements();
    params.learning_rate = learning_rate;
    params.beta1 = options_.beta1, params.beta2 = options_.beta2;
    params.epsilon = options_.epsilon;
    params.weight_decay = parameters_->specs()[i].decay ? options_.weight_decay : 0.0f;
    params.grad_scale = grad_scale;
    params.step = steps_;
    backend.ops().adamw(params, context);
  }
  parameters_->zero_grad();
  result.applied = true;
  return result;
}

}  // namespace vilg
