#include "autograd/ops.h"

namespace vilg {

Value slice_rows(Tape& tape, const Value& x, int64_t start, int64_t count) {
  const int64_t batch = x->data.dim(0), length = x->data.dim(1), channels = x->data.dim(2);
  VILG_CHECK(start >= 0 && start + count <= length, kInternal, "slice %lld + %lld of %lld",
             static_cast<long long>(start), static_cast<long long>(count),
             static_cast<long long>(length));
  Tensor out = tape.backend().empty(DType::kFloat32, {batch, count, channels});
  const size_t slice_bytes = static_cast<size_t>(count * channels) * sizeof(float);
  for (int64_t b = 0; b < batch; ++b) {
    tape.backend().copy(out.f32() + b * count * channels,
                        x->data.f32() + (b * length + start) * channels, slice_bytes);
  }
  Value result = tape.result(std::move(out), x->needs_grad);
  tape.record([&tape, x, result, start, count, batch, length, channels, slice_bytes] {
    if (!result->grad || !x->needs_grad) return;
    bool accumulate;
    Tensor dx = tape.grad_buffer(x, accumulate);
    if (!accumulate) tape.backend().fill_zero(dx.data(), dx.size_bytes());
    for (int64_t b = 0; b < batch; ++b) {
      float* to = dx.f32() + (b * length + start) * channels;
      const float* from = result->grad.f32() + b * count * channels;
      if (!accumulate) {
        tape.backend().copy(to, from, slice_bytes);
        continue;
      }
      AddParams params;
      params.out = to, params.x = to, params.y = from;
      params.num_elements = count * channels;
      tape.ops().add(params, tape.context());
    }
    result->grad = Tensor();
  });
  return result;
}

Value concat_rows(Tape& tape, const Value& x, const Value& y) {
  const int64_t batch = x->data.dim(0), channels = x->data.dim(2);
  const int64_t first = x->data.dim(1), second = y->data.dim(1);
  VILG_CHECK(y->data.dim(0) == batch && y->data.dim(2) == channels, kInternal,
             "concat_rows: %s and %s", x->data.shape().to_string().c_str(),
             y->data.shape().to_string().c_str());
  Tensor out = tape.backend().empty(DType::kFloat32, {batch, first + second, channels});
  // copies `rows` rows of every sample between a part and the rows of the whole from `at`
  const auto copy_part = [&tape, batch, channels, length = first + second](
                             const Tensor& part, const Tensor& whole, int64_t at, bool back) {
    const int64_t rows = part.dim(1);
    for (int64_t b = 0; b < batch; ++b) {
      float* one = part.f32() + b * rows * channels;
      float* other = whole.f32() + (b * length + at) * channels;
      tape.backend().copy(back ? one : other, back ? other : one,
                          static_cast<size_t>(rows * channels) * sizeof(float));
    }
  };
  copy_part(x->data, out, 0, false);
  copy_part(y->data, out, first, false);
  Value result = tape.result(std::move(out), x->needs_grad || y->needs_grad);
  tape.record([&tape, x, y, result, copy_part, first] {
    if (!result->grad) return;
    const auto give = [&](const Value& to, int64_t at) {
      if (!to->needs_grad) return;
      Tensor part = tape.backend().empty(DType::kFloat32, to->data.shape());
      copy_part(part, result->grad, at, true);
      tape.add_grad(to, std::move(part));
    };
    give(x, 0);
    give(y, first);
    result->grad = Tensor();
  });
  return result;
}

}  // namespace vilg
