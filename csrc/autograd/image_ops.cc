#include "autograd/image_ops.h"

#include <algorithm>
#include <cmath>
#include <optional>

#include "autograd/device_double.h"

namespace vilg {
namespace {

struct ImageShape {
  int64_t batch, height, width, channels;
  int64_t pixels() const { return height * width; }
};

ImageShape image_shape(const char* op, const Tensor& x) {
  VILG_CHECK(x.shape().rank() == 4, kInternal, "%s: expected (B, height, width, C), have %s", op,
             x.shape().to_string().c_str());
  return {x.dim(0), x.dim(1), x.dim(2), x.dim(3)};
}

bool trains(const Parameter& parameter) { return !parameter.frozen; }
bool trains(const GroupNorm& norm) { return trains(*norm.gamma) || trains(*norm.beta); }

GroupNormForwardParams norm_params(const Tensor& x, const GroupNorm& norm, const Tensor& mean,
                                   const Tensor& rstd, bool swish) {
  const ImageShape s = image_shape("group_norm", x);
  VILG_CHECK(norm.gamma->num_elements() == s.channels && norm.beta->num_elements() == s.channels,
             kInternal, "group_norm %s: %s", norm.gamma->name.c_str(),
             x.shape().to_string().c_str());
  GroupNormForwardParams params;
  params.mean = mean.f32();
  params.rstd = rstd.f32();
  params.x = x.data();
  params.gamma = norm.gamma->value.f32();
  params.beta = norm.beta->value.f32();
  params.batch = s.batch, params.pixels = s.pixels(), params.channels = s.channels;
  params.groups = norm.groups;
  params.epsilon = norm.epsilon;
  params.swish = swish;
  return params;
}

// The gradient of group_norm, into x and the norm's weights.
void norm_backward(Tape& tape, const Value& x, const GroupNorm& norm, const Tensor& mean,
                   const Tensor& rstd, bool swish, const Tensor& dout) {
  // the op computes all three gradients: what nobody wants goes to scratch
  Tensor dgamma = tape.grad_buffer(*norm.gamma), dbeta = tape.grad_buffer(*norm.beta), dx;
  if (!dgamma) dgamma = tape.backend().zeros(DType::kFloat32, norm.gamma->value.shape());
  if (!dbeta) dbeta = tape.backend().zeros(DType::kFloat32, norm.beta->value.shape());
  GroupNormBackwardParams params;
  if (x->needs_grad) {
    dx = tape.grad_buffer(x, params.accumulate);
  } else {
    dx = tape.backend().empty(DType::kFloat32, x->data.shape());
  }
  const ImageShape s = image_shape("group_norm", x->data);
  params.dx = dx.data();
  params.dgamma = dgamma.f32();
  params.dbeta = dbeta.f32();
  params.dout = dout.data();
  params.x = x->data.data();
  params.gamma = norm.gamma->value.f32();
  params.beta = norm.beta->value.f32();
  params.mean = mean.f32();
  params.rstd = rstd.f32();
  params.batch = s.batch, params.pixels = s.pixels(), params.channels = s.channels;
  params.groups = norm.groups;
  params.swish = swish;
  tape.ops().group_norm_backward(params, tape.context());
}

Tensor upsampled(Tape& tape, const Tensor& x) {
  const ImageShape s = image_shape("upsample", x);
  Tensor out =
      tape.backend().empty(DType::kFloat32, {s.batch, 2 * s.height, 2 * s.width, s.channels});
  UpsampleForwardParams params;
  params.out = out.data();
  params.x = x.data();
  params.batch = s.batch, params.height = s.height, params.width = s.width;
  params.channels = s.channels;
  tape.ops().upsample_forward(params, tape.context());
  return out;
}

void upsample_backward(Tape& tape, const Tensor& dx, const Tensor& dout) {
  const ImageShape s = image_shape("upsample", dx);
  UpsampleBackwardParams params;
  params.dx = dx.data();
  params.dout = dout.data();
  params.batch = s.batch, params.height = s.height, params.width = s.width;
  params.channels = s.channels;
  tape.ops().upsample_backward(params, tape.context());
}

// Sum of the op's errors between x and target; weight / count times its gradient into x.
template <typename Params>
double mean_error(Tape& tape, void (*op)(const Params&, OpContext&), const Value& x,
                  const Tensor& target, float weight) {
  VILG_CHECK(x->data.shape() == target.shape(), kInternal, "error of %s against %s",
             x->data.shape().to_string().c_str(), target.shape().to_string().c_str());
  const DeviceDouble sum(tape);
  const auto count = x->data.num_elements();
  Params params;
  params.sum = sum.data();
  params.x = x->data.f32();
  params.y = target.f32();
  params.num_elements = count;
  params.scale = weight / static_cast<float>(count);
  if (x->needs_grad && weight != 0) params.dx = tape.grad_buffer(x, params.accumulate).f32();
  op(params, tape.context());
  return sum.read() / static_cast<double>(count);
}

}  // namespace

Value group_norm(Tape& tape, const Value& x, const GroupNorm& norm, bool swish) {
  const ImageShape s = image_shape("group_norm", x->data);
  Tensor out = tape.backend().empty(DType::kFloat32, x->data.shape());
  Tensor mean = tape.backend().empty(DType::kFloat32, {s.batch, norm.groups});
  Tensor rstd = tape.backend().empty(DType::kFloat32, {s.batch, norm.groups});
  GroupNormForwardParams forward = norm_params(x->data, norm, mean, rstd, swish);
  forward.out = out.data();
  tape.ops().group_norm_forward(forward, tape.context());

  Value result = tape.result(std::move(out), x->needs_grad || trains(norm));
  if (!result->needs_grad) return result;
  tape.record([&tape, x, norm, swish, mean, rstd, result] {
    if (!result->grad) return;
    norm_backward(tape, x, norm, mean, rstd, swish, result->grad);
    result->grad = Tensor();
  });
  return result;
}

Value conv2d(Tape& tape, const Value& x, Parameter& weight, Parameter* bias,
             const ConvOptions& options) {
  const ImageShape s = image_shape("conv2d", x->data);
  const Tensor& w = weight.value;
  VILG_CHECK(w.shape().rank() == 4 && w.dim(3) == s.channels &&
                 (!bias || bias->num_elements() == w.dim(0)),
             kInternal, "conv2d %s: %s by %s", weight.name.c_str(),
             x->data.shape().to_string().c_str(), w.shape().to_string().c_str());
  VILG_CHECK(options.upsample == 1 || options.upsample == 2, kInternal, "conv2d %s: upsample %lld",
             weight.name.c_str(), static_cast<long long>(options.upsample));

  Conv2dForwardParams forward;
  forward.x = x->data.data();
  forward.weight = w.data();
  forward.bias = bias ? bias->value.f32() : nullptr;
  forward.residual = options.residual ? options.residual->data.data() : nullptr;
  forward.weight_dtype = w.dtype();
  forward.compute = tape.compute();
  forward.batch = s.batch, forward.height = s.height, forward.width = s.width;
  forward.in_channels = s.channels, forward.out_channels = w.dim(0);
  forward.kernel_y = w.dim(1), forward.kernel_x = w.dim(2);
  forward.stride = options.stride, forward.upsample = options.upsample;
  forward.pad_top = options.pad_top, forward.pad_left = options.pad_left;
  forward.pad_bottom = options.pad_bottom, forward.pad_right = options.pad_right;

  std::optional<GroupNorm> norm;
  Tensor mean, rstd;
  if (options.norm) {
    norm = *options.norm;
    mean = tape.backend().empty(DType::kFloat32, {s.batch, norm->groups});
    rstd = tape.backend().empty(DType::kFloat32, {s.batch, norm->groups});
    tape.ops().group_norm_forward(norm_params(x->data, *norm, mean, rstd, true), tape.context());
    forward.norm_mean = mean.f32();
    forward.norm_rstd = rstd.f32();
    forward.norm_gamma = norm->gamma->value.f32();
    forward.norm_beta = norm->beta->value.f32();
    forward.norm_groups = norm->groups;
  }
  Tensor out = tape.backend().empty(
      DType::kFloat32, {s.batch, forward.out_height(), forward.out_width(), forward.out_channels});
  VILG_CHECK(!options.residual || options.residual->data.shape() == out.shape(), kInternal,
             "conv2d %s: residual %s, result %s", weight.name.c_str(),
             options.residual->data.shape().to_string().c_str(), out.shape().to_string().c_str());
  forward.out = out.data();
  tape.ops().conv2d_forward(forward, tape.context());

  const Value residual = options.residual;
  Value result = tape.result(std::move(out),
                             x->needs_grad || trains(weight) || (bias && trains(*bias)) ||
                                 (norm && trains(*norm)) || (residual && residual->needs_grad));
  if (!result->needs_grad) return result;
  tape.record([&tape, x, &weight, bias, norm, mean, rstd, residual, result, forward] {
    if (!result->grad) return;
    Tensor dout = std::move(result->grad);
    result->grad = Tensor();
    Backend& backend = tape.backend();

    // what the convolution really read
    Tensor input = x->data;
    if (norm) {
      Tensor normed = backend.empty(DType::kFloat32, x->data.shape());
      GroupNormForwardParams again = norm_params(x->data, *norm, mean, rstd, true);
      again.out = normed.data();
      tape.ops().group_norm_forward(again, tape.context());
      input = normed;
    }
    if (forward.upsample == 2) input = upsampled(tape, input);

    Conv2dBackwardParams params;
    const Tensor dweight = tape.grad_buffer(weight);
    const Tensor dbias = bias ? tape.grad_buffer(*bias) : Tensor();
    const bool plain = !norm && forward.upsample == 1;
    Tensor dinput;
    if (plain && x->needs_grad) {
      dinput = tape.grad_buffer(x, params.accumulate);
    } else if (x->needs_grad || (norm && trains(*norm))) {
      dinput = backend.empty(DType::kFloat32, input.shape());
    }
    params.dx = dinput.data();
    params.dweight = dweight ? dweight.f32() : nullptr;
    params.dbias = dbias ? dbias.f32() : nullptr;
    params.dout = dout.data();
    params.x = input.data();
    params.weight = forward.weight;
    params.weight_dtype = forward.weight_dtype;
    params.compute = forward.compute;
    params.batch = forward.batch;
    params.height = input.dim(1), params.width = input.dim(2);
    params.in_channels = forward.in_channels, params.out_channels = forward.out_channels;
    params.kernel_y = forward.kernel_y, params.kernel_x = forward.kernel_x;
    params.stride = forward.stride;
    params.pad_top = forward.pad_top, params.pad_left = forward.pad_left;
    params.pad_bottom = forward.pad_bottom, params.pad_right = forward.pad_right;
    if (params.dx || params.dweight || params.dbias) {
      tape.ops().conv2d_backward(params, tape.context());
    }
    input = Tensor();

    if (!plain && dinput) {
      if (forward.upsample == 2) {
        Tensor smaller = backend.empty(DType::kFloat32, x->data.shape());
        upsample_backward(tape, smaller, dinput);
        dinput = smaller;
      }
      if (norm) {
        norm_backward(tape, x, *norm, mean, rstd, true, dinput);
      } else {
        tape.add_grad(x, std::move(dinput));
      }
    }
    // last, because it gives dout away
    if (residual) tape.add_grad(residual, std::move(dout));
  });
  return result;
}

Value upsample(Tape& tape, const Value& x) {
  Value result = tape.result(upsampled(tape, x->data), x->needs_grad);
  if (!result->needs_grad) return result;
  tape.record([&tape, x, result] {
    if (!result->grad) return;
    Tensor dx = tape.backend().empty(DType::kFloat32, x->data.shape());
    upsample_backward(tape, dx, result->grad);
    result->grad = Tensor();
    tape.add_grad(x, std::move(dx));
  });
  return result;
}

Value add(Tape& tape, const Value& x, const Value& y, float scale) {
  VILG_CHECK(x->data.shape() == y->data.shape(), kInternal, "add: %s and %s",
             x->data.shape().to_string().c_str(), y->data.shape().to_string().c_str());
  Tensor out = tape.backend().empty(DType::kFloat32, x->data.shape());
  AddParams params;
  params.out = out.data();
  params.x = x->data.data();
  params.y = y->data.data();
  params.num_elements = out.num_elements();
  params.beta = scale;
  tape.ops().add(params, tape.context());
  Value result = tape.result(std::move(out), x->needs_grad || y->needs_grad);
  if (!result->needs_grad) return result;
  tape.record([&tape, x, y, result, scale] {
    if (!result->grad) return;
    Tensor dout = std::move(result->grad);
    result->grad = Tensor();
    if (y->needs_grad) {
      Tensor dy = tape.backend().empty(DType::kFloat32, dout.shape());
      AddParams scaled;
      scaled.out = dy.data();
      scaled.x = dout.data();
      scaled.num_elements = dout.num_elements();
      scaled.alpha = scale;
      tape.ops().add(scaled, tape.context());
      tape.add_grad(y, std::move(dy));
    }
    tape.add_grad(x, std::move(dout));
  });
  return result;
}

namespace {
// (B, rows, columns) -> (B, columns, rows), given back with `shape`
Tensor transposed(Tape& tape, const Tensor& x, int64_t batch, int64_t rows, int64_t columns,
                  const Shape& shape) {
  Tensor out = tape.backend().empty(DType::kFloat32, shape);
  TransposeParams params;
  params.out = out.data();
  params.x = x.data();
  params.batch = batch, params.rows = rows, params.columns = columns;
  tape.ops().transpose(params, tape.context());
  return out;
}

Value transpose(Tape& tape, const Value& x, int64_t rows, int64_t columns, const Shape& shape) {
  const int64_t batch = x->data.dim(0);
  Value result = tape.result(transposed(tape, x->data, batch, rows, columns, shape), x->needs_grad);
  if (!result->needs_grad) return result;
  tape.record([&tape, x, result, batch, rows, columns] {
    if (!result->grad) return;
    Tensor dx = transposed(tape, result->grad, batch, columns, rows, x->data.shape());
    result->grad = Tensor();
    tape.add_grad(x, std::move(dx));
  });
  return result;
}
}  // namespace

Value to_channels_last(Tape& tape, const Value& x) {
  const Shape& s = x->data.shape();
  VILG_CHECK(s.rank() == 4, kInternal, "to_channels_last: %s", s.to_string().c_str());
  return transpose(tape, x, s[1], s[2] * s[3], {s[0], s[2], s[3], s[1]});
}

Value to_channels_first(Tape& tape, const Value& x) {
  const ImageShape s = image_shape("to_channels_first", x->data);
  return transpose(tape, x, s.pixels(), s.channels, {s.batch, s.channels, s.height, s.width});
}

namespace {

// Scores of one tile: 4 MB of float32 stay in the second-level cache and feed every core.
constexpr int64_t kScoreElements = 1 << 20;

struct AttentionTiles {
  int64_t pixels, channels, rows;  // rows: queries of a tile
  float scale;
};

AttentionTiles attention_tiles(const ImageShape& s) {
  const int64_t pixels = s.pixels();
  const int64_t rows =
      std::clamp<int64_t>(kScoreElements / std::max<int64_t>(pixels, 1), 1, pixels);
  return {pixels, s.channels, rows, 1.0f / std::sqrt(static_cast<float>(s.channels))};
}

struct Operand {
  const float* data;
  int64_t leading;
  bool transposed;
};
// c (m, n) = (or +=) a . b, all float32
void product(Tape& tape, float* c, Operand a, Operand b, int64_t m, int64_t n, int64_t k,
             bool accumulate = false) {
  MatmulParams params;
  params.c = c;
  params.a = a.data;
  params.b = b.data;
  params.compute = tape.compute();
  params.m = m, params.n = n, params.k = k;
  params.lda = a.leading, params.ldb = b.leading, params.ldc = n;
  params.trans_a = a.transposed, params.trans_b = b.transposed;
  params.accumulate = accumulate;
  tape.ops().matmul(params, tape.context());
}

// scores (rows, pixels) = softmax(scale * q . k^T)
void probabilities(Tape& tape, float* scores, const float* q, const float* k, int64_t rows,
                   const AttentionTiles& tiles) {
  product(tape, scores, {q, tiles.channels, false}, {k, tiles.channels, true}, rows, tiles.pixels,
          tiles.channels);
  SoftmaxForwardParams softmax;
  softmax.out = scores;
  softmax.x = scores;
  softmax.rows = rows, softmax.n = tiles.pixels;
  softmax.scale = tiles.scale;
  tape.ops().softmax_forward(softmax, tape.context());
}

void pixel_attention_backward(Tape& tape, const Value& q, const Value& k, const Value& v,
                              const Tensor& dout) {
  const ImageShape s = image_shape("pixel_attention", dout);
  const AttentionTiles tiles = attention_tiles(s);
  const int64_t c = tiles.channels, n = tiles.pixels;
  Backend& backend = tape.backend();
  Tensor scores = backend.empty(DType::kFloat32, {tiles.rows, n});
  Tensor dscores = backend.empty(DType::kFloat32, {tiles.rows, n});
  Tensor dq = backend.empty(DType::kFloat32, dout.shape());
  Tensor dk = backend.empty(DType::kFloat32, dout.shape());
  Tensor dv = backend.empty(DType::kFloat32, dout.shape());
  for (int64_t b = 0; b < s.batch; ++b) {
    const int64_t picture = b * n * c;
    const float *keys = k->data.f32() + picture, *values = v->data.f32() + picture;
    for (int64_t start = 0; start < n; start += tiles.rows) {
      tape.context().check_stop();
      const int64_t rows = std::min(tiles.rows, n - start), at = picture + start * c;
      const bool later = start > 0;  // the first tile writes dk and dv, the others add
      probabilities(tape, scores.f32(), q->data.f32() + at, keys, rows, tiles);
      product(tape, dv.f32() + picture, {scores.f32(), n, true}, {dout.f32() + at, c, false}, n, c,
              rows, later);
      product(tape, dscores.f32(), {dout.f32() + at, c, false}, {values, c, true}, rows, n, c);
      SoftmaxBackwardParams softmax;
      softmax.dx = dscores.f32();
      softmax.dout = dscores.f32();
      softmax.out = scores.f32();
      softmax.rows = rows, softmax.n = n;
      softmax.scale = tiles.scale;
      tape.ops().softmax_backward(softmax, tape.context());
      product(tape, dq.f32() + at, {dscores.f32(), n, false}, {keys, c, false}, rows, c, n);
      product(tape, dk.f32() + picture, {dscores.f32(), n, true}, {q->data.f32() + at, c, false}, n,
              c, rows, later);
    }
  }
  tape.add_grad(q, std::move(dq));
  tape.add_grad(k, std::move(dk));
  tape.add_grad(v, std::move(dv));
}

}  // namespace

Value pixel_attention(Tape& tape, const Value& q, const Value& k, const Value& v) {
  const ImageShape s = image_shape("pixel_attention", q->data);
  VILG_CHECK(k->data.shape() == q->data.shape() && v->data.shape() == q->data.shape(), kInternal,
             "pixel_attention: %s, %s, %s", q->data.shape().to_string().c_str(),
             k->data.shape().to_string().c_str(), v->data.shape().to_string().c_str());
  const AttentionTiles tiles = attention_tiles(s);
  Tensor out = tape.backend().empty(DType::kFloat32, q->data.shape());
  {
    Tensor scores = tape.backend().empty(DType::kFloat32, {tiles.rows, tiles.pixels});
    for (int64_t b = 0; b < s.batch; ++b) {
      const int64_t picture = b * tiles.pixels * tiles.channels;
      for (int64_t start = 0; start < tiles.pixels; start += tiles.rows) {
        tape.context().check_stop();
        const int64_t rows = std::min(tiles.rows, tiles.pixels - start);
        const int64_t at = picture + start * tiles.channels;
        probabilities(tape, scores.f32(), q->data.f32() + at, k->data.f32() + picture, rows, tiles);
        product(tape, out.f32() + at, {scores.f32(), tiles.pixels, false},
                {v->data.f32() + picture, tiles.channels, false}, rows, tiles.channels,
                tiles.pixels);
      }
    }
  }
  Value result = tape.result(std::move(out), q->needs_grad || k->needs_grad || v->needs_grad);
  if (!result->needs_grad) return result;
  tape.record([&tape, q, k, v, result] {
    if (!result->grad) return;
    pixel_attention_backward(tape, q, k, v, result->grad);
    result->grad = Tensor();
  });
  return result;
}

Value embedding(Tape& tape, const Tensor& indices, Parameter& table, const Shape& shape) {
  const int64_t size = table.value.dim(0), dim = table.value.dim(1);
  VILG_CHECK(shape[-1] == dim && shape.num_elements() == indices.num_elements() * dim, kInternal,
             "embedding %s: %s of %s", table.name.c_str(), shape.to_string().c_str(),
             indices.shape().to_string().c_str());
  Tensor out = tape.backend().empty(DType::kFloat32, shape);
  GatherParams params;
  params.out = out.f32();
  params.table = table.value.data();
  params.indices = indices.as<int32_t>();
  params.table_dtype = table.value.dtype();
  params.rows = indices.num_elements(), params.size = size, params.dim = dim;
  tape.ops().gather(params, tape.context());
  Value result = tape.result(std::move(out), trains(table));
  if (!result->needs_grad) return result;
  tape.record([&tape, indices, &table, result, size, dim] {
    if (!result->grad) return;
    ScatterAddParams params;
    params.dtable = tape.grad_buffer(table).f32();
    params.dout = result->grad.f32();
    params.indices = indices.as<int32_t>();
    params.rows = indices.num_elements(), params.size = size, params.dim = dim;
    tape.ops().scatter_add(params, tape.context());
    result->grad = Tensor();
  });
  return result;
}

Quantized quantize(Tape& tape, const Value& z, Parameter& codebook, float commitment_weight,
                   float codebook_weight) {
  const int64_t size = codebook.value.dim(0), dim = codebook.value.dim(1);
  const int64_t rows = z->data.num_elements() / dim;
  VILG_CHECK(z->data.dim(-1) == dim, kInternal, "quantize: %s by %s",
             z->data.shape().to_string().c_str(), codebook.value.shape().to_string().c_str());
  Backend& backend = tape.backend();
  Quantized quantized;
  quantized.indices = backend.empty(DType::kInt32, {rows});
  CodebookLookupParams lookup;
  lookup.indices = quantized.indices.as<int32_t>();
  lookup.vectors = z->data.f32();
  lookup.codebook = codebook.value.f32();
  lookup.rows = rows, lookup.size = size, lookup.dim = dim;
  tape.ops().codebook_lookup(lookup, tape.context());

  Tensor codes = backend.empty(DType::kFloat32, z->data.shape());
  GatherParams gather;
  gather.out = codes.f32();
  gather.table = codebook.value.data();
  gather.indices = quantized.indices.as<int32_t>();
  gather.rows = rows, gather.size = size, gather.dim = dim;
  tape.ops().gather(gather, tape.context());
  if (!tape.recording()) {
    quantized.codes = tape.result(std::move(codes), false);
    return quantized;
  }

  quantized.squared_error = mean_squared_error(tape, z, codes, commitment_weight);
  if (codebook_weight != 0 && trains(codebook)) {
    Tensor dcodes = backend.empty(DType::kFloat32, codes.shape());
    SquaredErrorParams error;
    error.dx = dcodes.f32();
    error.x = codes.f32();
    error.y = z->data.f32();
    error.num_elements = codes.num_elements();
    error.scale = codebook_weight / static_cast<float>(codes.num_elements());
    tape.ops().squared_error(error, tape.context());
    ScatterAddParams scatter;
    scatter.dtable = tape.grad_buffer(codebook).f32();
    scatter.dout = dcodes.f32();
    scatter.indices = quantized.indices.as<int32_t>();
    scatter.rows = rows, scatter.size = size, scatter.dim = dim;
    tape.ops().scatter_add(scatter, tape.context());
  }
  Value result = tape.result(std::move(codes), z->needs_grad);
  quantized.codes = result;
  if (!result->needs_grad) return quantized;
  tape.record([&tape, z, result] {
    if (!result->grad) return;
    Tensor dout = std::move(result->grad);
    result->grad = Tensor();
    tape.add_grad(z, std::move(dout));
  });
  return quantized;
}

double mean_squared_error(Tape& tape, const Value& x, const Tensor& target, float weight) {
  return mean_error<SquaredErrorParams>(tape, tape.ops().squared_error, x, target, weight);
}

double mean_absolute_error(Tape& tape, const Value& x, const Tensor& target, float weight) {
  return mean_error<AbsoluteErrorParams>(tape, tape.ops().absolute_error, x, target, weight);
}

}  // namespace vilg
