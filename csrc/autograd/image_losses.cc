#include "autograd/image_losses.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "autograd/device_double.h"

namespace vilg {
namespace {

int64_t row_count(const Value& x) { return x->data.num_elements() / x->data.dim(-1); }

// Fills in where a loss op puts its gradient, if anybody wants it.
void set_gradient(Tape& tape, const Value& x, float weight, float*& dx, bool& accumulate) {
  if (x->needs_grad && weight != 0) dx = tape.grad_buffer(x, accumulate).f32();
}

// A loss of few values, of which each counts by itself: value(logit) gives its loss and slope.
template <typename F>
double mean_on_host(Tape& tape, const Value& logits, float weight, const F& value) {
  std::vector<float> values(static_cast<size_t>(logits->data.num_elements()));
  tape.backend().copy_out(values.data(), logits->data.data(), logits->data.size_bytes());
  const double count = static_cast<double>(values.size());
  double sum = 0;
  for (float& x : values) {
    const auto [loss, slope] = value(x);
    sum += loss;
    x = static_cast<float>(weight * slope / count);
  }
  if (logits->needs_grad && weight != 0) {
    tape.add_grad(logits,
                  tape.backend().upload(values.data(), DType::kFloat32, logits->data.shape()));
  }
  return sum / count;
}

struct LossAndSlope {
  double loss, slope;
};

}  // namespace

double feature_distance(Tape& tape, const Value& features, const Tensor& target,
                        const Parameter& channel_weights, float weight) {
  const int64_t channels = features->data.dim(-1), rows = row_count(features);
  VILG_CHECK(features->data.shape() == target.shape() && channel_weights.num_elements() == channels,
             kInternal, "feature_distance: %s and %s by %lld weights",
             features->data.shape().to_string().c_str(), target.shape().to_string().c_str(),
             static_cast<long long>(channel_weights.num_elements()));
  const DeviceDouble sum(tape);
  FeatureDistanceParams params;
  params.sum = sum.data();
  params.x = features->data.f32();
  params.y = target.f32();
  params.weights = channel_weights.value.f32();
  params.rows = rows, params.channels = channels;
  params.scale = weight / static_cast<float>(rows);
  set_gradient(tape, features, weight, params.dx, params.accumulate);
  tape.ops().feature_distance(params, tape.context());
  return sum.read() / static_cast<double>(rows);
}

double hinge_loss(Tape& tape, const Value& logits, bool real, float weight) {
  const double sign = real ? -1 : 1;
  return mean_on_host(tape, logits, weight, [sign](double logit) {
    const double margin = 1 + sign * logit;
    // a NaN stays one
    return margin <= 0 ? LossAndSlope{0, 0} : LossAndSlope{margin, sign};
  });
}

double adversarial_loss(Tape& tape, const Value& logits, float weight) {
  return mean_on_host(tape, logits, weight, [](double logit) { return LossAndSlope{-logit, -1}; });
}

double logit_laplace(Tape& tape, const Value& stats, const Tensor& targets, float weight) {
  const int64_t channels = targets.dim(-1), pixels = row_count(stats);
  VILG_CHECK(stats->data.dim(-1) == 2 * channels && targets.num_elements() == pixels * channels,
             kInternal, "logit_laplace: %s of %s", stats->data.shape().to_string().c_str(),
             targets.shape().to_string().c_str());
  const DeviceDouble sum(tape);
  const auto count = targets.num_elements();
  LogitLaplaceParams params;
  params.sum = sum.data();
  params.stats = stats->data.f32();
  params.targets = targets.f32();
  params.pixels = pixels, params.channels = channels;
  params.scale = weight / static_cast<float>(count);
  set_gradient(tape, stats, weight, params.dstats, params.accumulate);
  tape.ops().logit_laplace(params, tape.context());
  return sum.read() / static_cast<double>(count);
}

double uniform_divergence(Tape& tape, const Value& logits, float weight) {
  const int64_t rows = row_count(logits);
  const Tensor divergence = tape.backend().empty(DType::kFloat32, {rows});
  UniformDivergenceParams params;
  params.divergence = divergence.f32();
  params.logits = logits->data.f32();
  params.rows = rows, params.vocab = logits->data.dim(-1);
  params.scale = weight / static_cast<float>(rows);
  set_gradient(tape, logits, weight, params.dlogits, params.accumulate);
  tape.ops().uniform_divergence(params, tape.context());
  std::vector<float> values(static_cast<size_t>(rows));
  tape.backend().copy_out(values.data(), divergence.data(), divergence.size_bytes());
  double sum = 0;
  for (float value : values) sum += value;
  return sum / static_cast<double>(rows);
}

namespace {

std::vector<int32_t> largest_of_rows(Tape& tape, const Tensor& values) {
  const int64_t n = values.dim(-1), rows = values.num_elements() / n;
  const Tensor indices = tape.backend().empty(DType::kInt32, {rows});
  tape.ops().argmax({indices.as<int32_t>(), values.f32(), rows, n}, tape.context());
  std::vector<int32_t> host(static_cast<size_t>(rows));
  tape.backend().copy_out(host.data(), indices.data(), indices.size_bytes());
  return host;
}

// A row each, 1 at its index and 0 elsewhere.
Tensor one_hot(Tape& tape, const std::vector<int32_t>& indices, const Shape& shape) {
  Backend& backend = tape.backend();
  const int64_t n = shape[-1], rows = static_cast<int64_t>(indices.size());
  VILG_CHECK(rows * n <= std::numeric_limits<int32_t>::max(), kUnsupported,
             "Expected at most 2^31 - 1 probabilities in a batch for hard codes, received %lld x "
             "%lld; use smaller batches",
             static_cast<long long>(rows), static_cast<long long>(n));
  std::vector<int32_t> places(indices.size());
  for (int64_t r = 0; r < rows; ++r) {
    places[static_cast<size_t>(r)] = static_cast<int32_t>(r * n) + indices[static_cast<size_t>(r)];
  }
  const std::vector<float> ones(indices.size(), 1.0f);
  const Tensor at = backend.upload(places.data(), DType::kInt32, {rows});
  const Tensor value = backend.upload(ones.data(), DType::kFloat32, {rows});
  Tensor out = backend.zeros(DType::kFloat32, shape);
  // a table of single elements, to each of which at most one row adds
  tape.ops().scatter_add({out.f32(), value.f32(), at.as<int32_t>(), rows, rows * n, 1},
                         tape.context());
  return out;
}

}  // namespace

GumbelSoftmax gumbel_softmax(Tape& tape, const Value& logits, const GumbelOptions& options) {
  VILG_CHECK(options.temperature > 0 && std::isfinite(options.temperature), kInvalidArgument,
             "Expected a temperature above 0, received %g",
             static_cast<double>(options.temperature));
  const int64_t n = logits->data.dim(-1), rows = row_count(logits);
  const float scale = 1.0f / options.temperature;
  const Tensor soft = tape.backend().empty(DType::kFloat32, logits->data.shape());
  tape.ops().gumbel_noise({soft.f32(), logits->data.f32(), rows, n, options.seed, options.draw},
                          tape.context());
  tape.ops().softmax_forward({soft.f32(), soft.f32(), rows, n, scale}, tape.context());
  GumbelSoftmax drawn;
  drawn.indices = largest_of_rows(tape, soft);
  drawn.probabilities = tape.result(
      options.hard ? one_hot(tape, drawn.indices, soft.shape()) : soft, logits->needs_grad);
  if (!drawn.probabilities->needs_grad) return drawn;
  tape.record([&tape, logits, soft, scale, rows, n, result = drawn.probabilities] {
    if (!result->grad) return;
    Tensor dlogits = std::move(result->grad);
    result->grad = Tensor();
    tape.ops().softmax_backward({dlogits.f32(), dlogits.f32(), soft.f32(), rows, n, scale},
                                tape.context());
    tape.add_grad(logits, std::move(dlogits));
  });
  return drawn;
}

}  // namespace vilg
