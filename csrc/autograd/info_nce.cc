#include "autograd/info_nce.h"

#include <algorithm>
#include <cmath>
#include <limits>

// All of it runs on the host in double, on every device: B x dim numbers and B x B products are
// thousands of times less work than the towers that made them, and softmaxes of logits up to 100
// apart lose nothing. Rows are spread over threads; each is computed by one, in a fixed order.
namespace vilg {
namespace {

// As in common implementations of normalisation: a row of zeros stays one.
constexpr double kSmallestNorm = 1e-12;

// Rows of unit length, and the lengths that they had.
struct UnitRows {
  size_t count, dim;
  std::vector<double> values, norms;

  const double* row(size_t i) const { return values.data() + i * dim; }
};

void for_each_row(ThreadPool& pool, size_t count, const std::function<void(size_t)>& work) {
  pool.parallel_for(static_cast<int64_t>(count), [&](int64_t i) { work(static_cast<size_t>(i)); });
}

std::vector<float> download(Backend& backend, const Tensor& tensor) {
  std::vector<float> values(static_cast<size_t>(tensor.num_elements()));
  backend.copy_out(values.data(), tensor.data(), tensor.size_bytes());
  return values;
}

UnitRows normalized(Backend& backend, const Tensor& tensor) {
  ThreadPool& pool = *backend.context(nullptr).pool;
  const std::vector<float> host = download(backend, tensor);
  UnitRows rows{.count = host.size() / static_cast<size_t>(tensor.dim(-1)),
                .dim = static_cast<size_t>(tensor.dim(-1)),
                .values = {host.begin(), host.end()},
                .norms = {}};
  rows.norms.resize(rows.count);
  for_each_row(pool, rows.count, [&](size_t i) {
    double* row = rows.values.data() + i * rows.dim;
    double square = 0;
    for (size_t d = 0; d < rows.dim; ++d) square += row[d] * row[d];
    const double norm = std::sqrt(square);
    rows.norms[i] = norm < kSmallestNorm ? kSmallestNorm : norm;  // a NaN stays one
    for (size_t d = 0; d < rows.dim; ++d) row[d] /= rows.norms[i];
  });
  return rows;
}

// All cosines: row i is that of image i.
std::vector<double> cosines(ThreadPool& pool, const UnitRows& images, const UnitRows& texts) {
  std::vector<double> all(images.count * texts.count);
  for_each_row(pool, images.count, [&](size_t i) {
    for (size_t j = 0; j < texts.count; ++j) {
      double sum = 0;
      for (size_t d = 0; d < images.dim; ++d) sum += images.row(i)[d] * texts.row(j)[d];
      all[i * texts.count + j] = sum;
    }
  });
  return all;
}

// Softmaxes of one of the two directions, the loss and the hits summed over pairs.
struct OneWay {
  std::vector<double> largest, log_sum;  // of scale * cosine
  double loss = 0, hits = 0;
};

// Of each pair against itself and its negatives; cosine(i, j) is that of one half of i with the
// other half of j.
template <typename Cosine>
OneWay softmaxes(ThreadPool& pool, size_t count, const PairGroups& groups, double scale,
                 const Cosine& cosine) {
  OneWay result{.largest = std::vector<double>(count), .log_sum = std::vector<double>(count)};
  std::vector<uint8_t> hit(count);
  for_each_row(pool, count, [&](size_t i) {
    const double own = cosine(i, i);
    double rival = -std::numeric_limits<double>::infinity();
    for (size_t j = 0; j < count; ++j) {
      if (groups.opposed(i, j)) rival = std::max(rival, cosine(i, j));
    }
    const double largest = std::max(own, rival);
    double sum = std::exp(scale * (own - largest));
    for (size_t j = 0; j < count; ++j) {
      if (groups.opposed(i, j)) sum += std::exp(scale * (cosine(i, j) - largest));
    }
    result.largest[i] = largest;
    result.log_sum[i] = std::log(sum);
    hit[i] = own > rival;
  });
  for (size_t i = 0; i < count; ++i) {
    result.loss += result.log_sum[i] - scale * (cosine(i, i) - result.largest[i]);
    result.hits += hit[i];
  }
  return result;
}

// The gradient of rows from that of the rows of unit length, sum_j weight(i, j) * others_j: what
// lies along a row does not change its direction.
template <typename Weight>
void add_row_gradients(Tape& tape, const Value& value, const UnitRows& rows, const UnitRows& others,
                       const Weight& weight) {
  if (!value->needs_grad) return;
  ThreadPool& pool = *tape.context().pool;
  std::vector<float> gradient(rows.count * rows.dim);
  for_each_row(pool, rows.count, [&](size_t i) {
    std::vector<double> unit(rows.dim);
    for (size_t j = 0; j < others.count; ++j) {
      const double factor = weight(i, j);
      for (size_t d = 0; d < rows.dim; ++d) unit[d] += factor * others.row(j)[d];
    }
    double along = 0;
    for (size_t d = 0; d < rows.dim; ++d) along += unit[d] * rows.row(i)[d];
    for (size_t d = 0; d < rows.dim; ++d) {
      gradient[i * rows.dim + d] =
          static_cast<float>((unit[d] - along * rows.row(i)[d]) / rows.norms[i]);
    }
  });
  tape.add_grad(value,
                tape.backend().upload(gradient.data(), DType::kFloat32, value->data.shape()));
}

void add_scalar_gradient(Tape& tape, Parameter& parameter, double change) {
  const Tensor gradient = tape.grad_buffer(parameter);
  if (!gradient) return;
  float sum = download(tape.backend(), gradient)[0];
  sum += static_cast<float>(change);
  tape.backend().copy_in(gradient.data(), &sum, sizeof(sum));
}

}  // namespace

InfoNce info_nce(Tape& tape, const Value& images, const Value& texts, Parameter& logit_scale,
                 const PairGroups& groups, float weight) {
  const UnitRows a = normalized(tape.backend(), images->data);
  const UnitRows b = normalized(tape.backend(), texts->data);
  const size_t count = a.count;
  VILG_CHECK(b.count == count && a.dim == b.dim && groups.image.size() == count &&
                 groups.text.size() == count && logit_scale.num_elements() == 1,
             kInternal, "info_nce: %s and %s", images->data.shape().to_string().c_str(),
             texts->data.shape().to_string().c_str());
  VILG_CHECK(static_cast<int64_t>(count) <= kMaxPairs, kInvalidArgument,
             "Expected at most %lld pairs to be compared with each other, received %zu",
             static_cast<long long>(kMaxPairs), count);
  ThreadPool& pool = *tape.context().pool;
  const double scale =
      std::exp(static_cast<double>(download(tape.backend(), logit_scale.value)[0]));
  const std::vector<double> all = cosines(pool, a, b);
  const auto cosine = [&](size_t i, size_t j) { return all[i * count + j]; };
  const auto transposed = [&](size_t i, size_t j) { return all[j * count + i]; };
  tape.context().check_stop();
  const OneWay of_images = softmaxes(pool, count, groups, scale, cosine);
  const OneWay of_texts = softmaxes(pool, count, groups, scale, transposed);
  const double pairs = static_cast<double>(count);
  if (tape.recording() && weight != 0) {
    tape.context().check_stop();
    // the derivative by the logit of image i and text j
    const auto slope = [&](size_t i, size_t j) {
      if (i != j && !groups.opposed(i, j)) return 0.0;
      const double image_share =
          std::exp(scale * (cosine(i, j) - of_images.largest[i]) - of_images.log_sum[i]);
      const double text_share =
          std::exp(scale * (cosine(i, j) - of_texts.largest[j]) - of_texts.log_sum[j]);
      return weight * (image_share + text_share - (i == j ? 2 : 0)) / (2 * pairs);
    };
    std::vector<double> slopes(count * count);
    for_each_row(pool, count, [&](size_t i) {
      for (size_t j = 0; j < count; ++j) slopes[i * count + j] = slope(i, j);
    });
    add_row_gradients(tape, images, a, b,
                      [&](size_t i, size_t j) { return scale * slopes[i * count + j]; });
    add_row_gradients(tape, texts, b, a,
                      [&](size_t i, size_t j) { return scale * slopes[j * count + i]; });
    double change = 0;  // logit_scale is a logarithm: the derivative of exp is itself
    for (size_t k = 0; k < slopes.size(); ++k) change += slopes[k] * scale * all[k];
    add_scalar_gradient(tape, logit_scale, change);
  }
  return {.loss = (of_images.loss + of_texts.loss) / (2 * pairs),
          .image_to_text = of_images.hits / pairs,
          .text_to_image = of_texts.hits / pairs};
}

std::vector<float> unit_rows(Backend& backend, const Tensor& rows) {
  const UnitRows unit = normalized(backend, rows);
  return {unit.values.begin(), unit.values.end()};
}

}  // namespace vilg
