#include "autograd/convolutional_ops.h"

#include <algorithm>
#include <cmath>

#include "autograd/ops.h"

namespace vilg {
namespace {

// What ops without weights have in common: `backward` gets the result's gradient, which is free
// again after it.
Value record_result(Tape& tape, Tensor out, const Value& x,
                    std::function<void(const Tensor& out, const Tensor& dout)> backward) {
  Value result = tape.result(std::move(out), x->needs_grad);
  if (!result->needs_grad) return result;
  tape.record([result, backward = std::move(backward)] {
    if (!result->grad) return;
    const Tensor dout = std::move(result->grad);
    result->grad = Tensor();
    backward(result->data, dout);
  });
  return result;
}

MaxPoolForwardParams pool_params(const Tensor& x) {
  VILG_CHECK(x.shape().rank() == 4, kInternal, "max_pool: %s", x.shape().to_string().c_str());
  MaxPoolForwardParams params;
  params.x = x.f32();
  params.batch = x.dim(0), params.height = x.dim(1), params.width = x.dim(2);
  params.channels = x.dim(3);
  return params;
}

}  // namespace

Value leaky_relu(Tape& tape, const Value& x, float slope) {
  Tensor out = tape.backend().empty(DType::kFloat32, x->data.shape());
  tape.ops().leaky_relu_forward({out.f32(), x->data.f32(), out.num_elements(), slope},
                                tape.context());
  return record_result(tape, std::move(out), x,
                       [&tape, x, slope](const Tensor& y, const Tensor& dy) {
                         LeakyReluBackwardParams params;
                         params.dx = tape.grad_buffer(x, params.accumulate).f32();
                         params.dout = dy.f32();
                         params.out = y.f32();
                         params.num_elements = y.num_elements();
                         params.slope = slope;
                         tape.ops().leaky_relu_backward(params, tape.context());
                       });
}

Value max_pool(Tape& tape, const Value& x) {
  MaxPoolForwardParams forward = pool_params(x->data);
  Tensor out = tape.backend().empty(
      DType::kFloat32, {forward.batch, forward.height / 2, forward.width / 2, forward.channels});
  forward.out = out.f32();
  tape.ops().max_pool_forward(forward, tape.context());
  return record_result(tape, std::move(out), x, [&tape, x](const Tensor&, const Tensor& dout) {
    Tensor dx = tape.backend().empty(DType::kFloat32, x->data.shape());
    const MaxPoolForwardParams s = pool_params(x->data);
    tape.ops().max_pool_backward(
        {dx.f32(), dout.f32(), x->data.f32(), s.batch, s.height, s.width, s.channels},
        tape.context());
    tape.add_grad(x, std::move(dx));
  });
}

namespace {

// GroupNorm whose groups are the channels and whose one picture is the whole batch is BatchNorm.
template <typename Params>
void set_batch_norm(Params& params, const Tensor& x, const BatchNorm& norm, const Tensor& mean,
                    const Tensor& rstd) {
  const int64_t channels = x.dim(-1);
  VILG_CHECK(norm.gamma->num_elements() == channels, kInternal, "batch_norm %s: %s",
             norm.gamma->name.c_str(), x.shape().to_string().c_str());
  params.x = x.data();
  params.mean = mean.f32();
  params.rstd = rstd.f32();
  params.gamma = norm.gamma->value.f32();
  params.beta = norm.beta->value.f32();
  params.batch = 1, params.pixels = x.num_elements() / channels;
  params.channels = channels, params.groups = channels;
}

void update_running_averages(Backend& backend, const BatchNorm& norm, const Tensor& mean,
                             const Tensor& rstd, int64_t count) {
  const auto channels = static_cast<size_t>(mean.num_elements());
  std::vector<float> means(channels), rstds(channels), running(channels);
  backend.copy_out(means.data(), mean.data(), mean.size_bytes());
  backend.copy_out(rstds.data(), rstd.data(), rstd.size_bytes());
  const auto average = [&](const Parameter& parameter, const auto& value) {
    backend.copy_out(running.data(), parameter.value.data(), parameter.value.size_bytes());
    for (size_t c = 0; c < channels; ++c) {
      running[c] =
          static_cast<float>((1.0 - norm.momentum) * running[c] + norm.momentum * value(c));
    }
    backend.copy_in(parameter.value.data(), running.data(), parameter.value.size_bytes());
  };
  const auto n = static_cast<double>(count);
  average(*norm.running_mean, [&](size_t c) { return static_cast<double>(means[c]); });
  average(*norm.running_variance, [&](size_t c) {
    const double variance = 1.0 / (static_cast<double>(rstds[c]) * rstds[c]) - norm.epsilon;
    return std::max(0.0, variance) * n / (n - 1);
  });
}

}  // namespace

Value batch_norm(Tape& tape, const Value& x, const BatchNorm& norm) {
  const int64_t channels = x->data.dim(-1), count = x->data.num_elements() / channels;
  VILG_CHECK(count > 1, kShapeMismatch,
             "Expected more than one value a channel for batch statistics, received %lld",
             static_cast<long long>(count));
  Backend& backend = tape.backend();
  Tensor out = backend.empty(DType::kFloat32, x->data.shape());
  Tensor mean = backend.empty(DType::kFloat32, {channels});
  Tensor rstd = backend.empty(DType::kFloat32, {channels});
  GroupNormForwardParams forward;
  set_batch_norm(forward, x->data, norm, mean, rstd);
  forward.out = out.data();
  forward.epsilon = norm.epsilon;
  tape.ops().group_norm_forward(forward, tape.context());
  update_running_averages(backend, norm, mean, rstd, count);

  Value result =
      tape.result(std::move(out), x->needs_grad || !norm.gamma->frozen || !norm.beta->frozen);
  if (!result->needs_grad) return result;
  tape.record([&tape, x, norm, mean, rstd, result] {
    if (!result->grad) return;
    Backend& memory = tape.backend();
    // the op computes all three gradients: what nobody wants goes to scratch
    Tensor dgamma = tape.grad_buffer(*norm.gamma), dbeta = tape.grad_buffer(*norm.beta);
    if (!dgamma) dgamma = memory.zeros(DType::kFloat32, norm.gamma->value.shape());
    if (!dbeta) dbeta = memory.zeros(DType::kFloat32, norm.beta->value.shape());
    GroupNormBackwardParams params;
    set_batch_norm(params, x->data, norm, mean, rstd);
    const Tensor dx = x->needs_grad ? tape.grad_buffer(x, params.accumulate)
                                    : memory.empty(DType::kFloat32, x->data.shape());
    params.dx = dx.data();
    params.dgamma = dgamma.f32();
    params.dbeta = dbeta.f32();
    params.dout = result->grad.data();
    tape.ops().group_norm_backward(params, tape.context());
    result->grad = Tensor();
  });
  return result;
}

Value batch_norm_by_averages(Tape& tape, const Value& x, const BatchNorm& norm) {
  VILG_CHECK(!tape.recording(), kInternal, "batch_norm_by_averages on a tape that records");
  Backend& backend = tape.backend();
  const auto channels = static_cast<size_t>(x->data.dim(-1));
  const auto read = [&](const Parameter& parameter) {
    std::vector<float> values(channels);
    backend.copy_out(values.data(), parameter.value.data(), parameter.value.size_bytes());
    return values;
  };
  const std::vector<float> gamma = read(*norm.gamma), beta = read(*norm.beta);
  const std::vector<float> mean = read(*norm.running_mean), variance = read(*norm.running_variance);
  // a linear layer with a diagonal weight, small beside the convolution before it
  std::vector<float> scale(channels * channels), shift(channels);
  for (size_t c = 0; c < channels; ++c) {
    const double factor = gamma[c] / std::sqrt(static_cast<double>(variance[c]) + norm.epsilon);
    scale[c * channels + c] = static_cast<float>(factor);
    shift[c] = static_cast<float>(beta[c] - factor * mean[c]);
  }
  const auto width = static_cast<int64_t>(channels);
  Parameter weight{.name = norm.gamma->name,
                   .value = backend.upload(scale.data(), DType::kFloat32, {width, width}),
                   .grad = {},
                   .frozen = true};
  Parameter bias{.name = norm.beta->name,
                 .value = backend.upload(shift.data(), DType::kFloat32, {width}),
                 .grad = {},
                 .frozen = true};
  return linear(tape, x, weight, bias);
}

}  // namespace vilg
