#include <algorithm>
#include <cmath>
#include <initializer_list>

#include "autograd/ops.h"

namespace vilg {

Value linear(Tape& tape, const Value& x, Parameter& weight, Parameter& bias,
             const LinearOptions& options) {
  VILG_CHECK(!(options.gelu && options.residual), kInternal, "linear: GELU with residual");
  const int64_t k = x->data.dim(-1), n = weight.value.dim(0), rows = x->data.num_elements() / k;
  // a 1x1 convolution's weight, (N, 1, 1, K) in memory, is the same matrix
  VILG_CHECK(weight.num_elements() == n * k && bias.num_elements() == n, kInternal,
             "linear %s: %s by %s", weight.name.c_str(), x->data.shape().to_string().c_str(),
             weight.value.shape().to_string().c_str());
  Shape shape;
  for (int i = 0; i + 1 < x->data.shape().rank(); ++i) shape.push_back(x->data.dim(i));
  shape.push_back(n);

  Tensor out = tape.backend().empty(DType::kFloat32, shape);
  Tensor pre_activation;
  if (options.gelu && tape.recording())
    pre_activation = tape.backend().empty(DType::kFloat32, shape);
  MatmulParams forward;
  forward.c = out.data();
  forward.pre_activation = pre_activation.data();
  forward.a = x->data.data();
  forward.b = weight.value.data();
  forward.bias = bias.value.f32();
  forward.residual = options.residual ? options.residual->data.data() : nullptr;
  forward.b_dtype = weight.value.dtype();
  forward.compute = tape.compute();
  forward.m = rows, forward.n = n, forward.k = k;
  forward.lda = k, forward.ldb = k, forward.ldc = n;
  forward.trans_b = true;
  forward.epilogue = options.gelu ? Epilogue::kGelu : Epilogue::kNone;
  tape.ops().matmul(forward, tape.context());

  Value residual = options.residual;
  Value result = tape.result(std::move(out), x->needs_grad || (residual && residual->needs_grad) ||
                                                 !weight.frozen || !bias.frozen);
  tape.record([&tape, x, &weight, &bias, result, residual, pre_activation, rows, n, k] {
    if (!result->grad) return;
    Tensor dout = result->grad;
    if (pre_activation) {
      GeluBackwardParams gelu;
      gelu.dx = dout.data();
      gelu.dout = dout.data();
      gelu.x = pre_activation.data();
      gelu.num_elements = dout.num_elements();
      tape.ops().gelu_backward(gelu, tape.context());
    }
    if (Tensor dweight = tape.grad_buffer(weight)) {
      MatmulParams params;
      params.c = dweight.data();
      params.a = dout.data();
      params.b = x->data.data();
      params.compute = tape.compute();
      params.m = n, params.n = k, params.k = rows;
      params.lda = n, params.ldb = k, params.ldc = k;
      params.trans_a = true;
      params.accumulate = true;
      tape.ops().matmul(params, tape.context());
    }
    if (Tensor dbias = tape.grad_buffer(bias)) {
      BiasBackwardParams params;
      params.dbias = dbias.f32();
      params.dout = dout.data();
      params.rows = rows, params.n = n;
      tape.ops().bias_backward(params, tape.context());
    }
    if (x->needs_grad) {
      MatmulParams params;
      params.c = tape.grad_buffer(x, params.accumulate).data();
      params.a = dout.data();
      params.b = weight.value.data();
      params.b_dtype = weight.value.dtype();
      params.compute = tape.compute();
      params.m = rows, params.n = k, params.k = n;
      params.lda = n, params.ldb = k, params.ldc = k;
      tape.ops().matmul(params, tape.context());
    }
    result->grad = Tensor();
    // last, because it gives dout away
    if (residual) tape.add_grad(residual, std::move(dout));
  });
  return result;
}

Value layer_norm(Tape& tape, const Value& x, Parameter& gamma, Parameter& beta, float epsilon) {
  const int64_t channels = x->data.dim(-1), rows = x->data.num_elements() / channels;
  Tensor out = tape.backend().empty(DType::kFloat32, x->data.shape());
  Tensor mean, rstd;
  if (tape.recording()) {
    mean = tape.backend().empty(DType::kFloat32, {rows});
    rstd = tape.backend().empty(DType::kFloat32, {rows});
  }
  LayerNormForwardParams forward;
  forward.out = out.data();
  forward.mean = mean ? mean.f32() : nullptr;
  forward.rstd = rstd ? rstd.f32() : nullptr;
  forward.x = x->data.data();
  forward.gamma = gamma.value.f32();
  forward.beta = beta.value.f32();
  forward.rows = rows, forward.channels = channels;
  forward.epsilon = epsilon;
  tape.ops().layer_norm_forward(forward, tape.context());

  Value result = tape.result(std::move(out), x->needs_grad || !gamma.frozen || !beta.frozen);
  tape.record([&tape, x, &gamma, &beta, result, mean, rstd, rows, channels] {
    if (!result->grad) return;
    // frozen norms still pass gradients on: their own go to scratch
    Tensor dgamma = tape.grad_buffer(gamma), dbeta = tape.grad_buffer(beta);
    if (!dgamma) dgamma = tape.backend().zeros(DType::kFloat32, {channels});
    if (!dbeta) dbeta = tape.backend().zeros(DType::kFloat32, {channels});
    LayerNormBackwardParams params;
    Tensor dx = x->needs_grad ? tape.grad_buffer(x, params.accumulate)
                              : tape.backend().empty(DType::kFloat32, x->data.shape());
    params.dx = dx.data();
    params.dgamma = dgamma.f32();
    params.dbeta = dbeta.f32();
    params.dout = result->grad.data();
    params.x = x->data.data();
    params.gamma = gamma.value.f32();
    params.mean = mean.f32();
    params.rstd = rstd.f32();
    params.rows = rows, params.channels = channels;
    tape.ops().layer_norm_backward(params, tape.context());
    result->grad = Tensor();
  });
  return result;
}

Value stream_embedding(Tape& tape, const StreamTokens& tokens, const StreamTables& tables,
                       Direction direction, const StreamSizes& sizes) {
  const int64_t batch = tokens.text.dim(0), channels = tables.text_embedding->value.dim(1);
  Tensor out = tape.backend().empty(DType::kFloat32, {batch, sizes.stream_length(), channels});
  StreamEmbeddingForwardParams forward;
  forward.out = out.data();
  forward.text = tokens.text.as<int32_t>();
  forward.image = tokens.image.as<int32_t>();
  forward.text_embedding = tables.text_embedding->value.data();
  forward.image_embedding = tables.image_embedding->value.data();
  // what a model does not have is 0
  const DType table_dtype = tables.text_embedding->value.dtype();
  const Tensor start = tables.image_start ? tables.image_start->value
                                          : tape.backend().zeros(DType::kFloat32, {channels});
  const Tensor modality =
      tables.modality ? tables.modality->value : tape.backend().zeros(table_dtype, {2, channels});
  forward.image_start = start.f32();
  forward.text_position = tables.text_position->value.data();
  forward.row_position = tables.row_position->value.data();
  forward.column_position = tables.column_position->value.data();
  forward.modality = modality.data();
  forward.table_dtype = table_dtype;
  forward.batch = batch, forward.channels = channels;
  forward.text_vocab = tables.text_embedding->value.dim(0);
  forward.image_vocab = tables.image_embedding->value.dim(0);
  forward.direction = direction;
  forward.sizes = sizes;
  tape.ops().stream_embedding_forward(forward, tape.context());

  const bool trains = std::ranges::any_of(
      std::initializer_list<const Parameter*>{
          tables.text_embedding, tables.image_embedding, tables.image_start, tables.text_position,
          tables.row_position, tables.column_position, tables.modality},
      [](const Parameter* table) { return !table->frozen; });
  Value result = tape.result(std::move(out), trains);
  tape.record([&tape, tokens, tables, direction, sizes, result, batch, channels] {
    if (!result->grad) return;
    std::vector<Tensor> scratch;  // where the gradients go of tables that are frozen or not there
    const auto zeros = [&](const Shape& shape) {
      return scratch.emplace_back(tape.backend().zeros(DType::kFloat32, shape)).f32();
    };
    const auto grad = [&](Parameter* parameter) {
      const Tensor buffer = tape.grad_buffer(*parameter);
      return buffer ? buffer.f32() : zeros(parameter->value.shape());
    };
    StreamEmbeddingBackwardParams params;
    params.dtext_embedding = grad(tables.text_embedding);
    params.dimage_embedding = grad(tables.image_embedding);
    params.dimage_start = tables.image_start ? grad(tables.image_start) : zeros({channels});
    params.dtext_position = grad(tables.text_position);
    params.drow_position = grad(tables.row_position);
    params.dcolumn_position = grad(tables.column_position);
    params.dmodality = tables.modality ? grad(tables.modality) : zeros({2, channels});
    params.dout = result->grad.data();
    params.text = tokens.text.as<int32_t>();
    params.image = tokens.image.as<int32_t>();
    params.batch = batch, params.channels = channels;
    params.text_vocab = tables.text_embedding->value.dim(0);
    params.image_vocab = tables.image_embedding->value.dim(0);
    params.direction = direction;
    params.sizes = sizes;
    tape.ops().stream_embedding_backward(params, tape.context());
    result->grad = Tensor();
  });
  return result;
}

Value stream_attention(Tape& tape, const Value& qkv, const Tensor& text_valid, int64_t heads,
                       Pattern pattern, Direction direction, const StreamSizes& sizes) {
  const int64_t batch = qkv->data.dim(0), length = qkv->data.dim(1),
                channels = qkv->data.dim(2) / 3;
  const int64_t head_size = channels / heads;
  Tensor out = tape.backend().empty(DType::kFloat32, {batch, length, channels});
  Tensor lse;
  if (tape.recording()) lse = tape.backend().empty(DType::kFloat32, {batch, heads, length});

  AttentionForwardParams forward;
  forward.out = out.data();
  forward.lse = lse ? lse.f32() : nullptr;
  forward.q = qkv->data.f32();
  forward.k = qkv->data.f32() + channels;
  forward.v = qkv->data.f32() + 2 * channels;
  forward.out_strides = {length * channels, channels, head_size};
  forward.qkv_strides = {length * 3 * channels, 3 * channels, head_size};
  forward.text_valid = text_valid.as<uint8_t>();
  forward.compute = tape.compute();
  forward.batch = batch, forward.heads = heads, forward.head_size = head_size;
  forward.scale = 1.0f / std::sqrt(static_cast<float>(head_size));
  forward.pattern = pattern;
  forward.direction = direction;
  forward.sizes = sizes;
  tape.ops().attention_forward(forward, tape.context());

  Value result = tape.result(std::move(out), qkv->needs_grad);
  if (!qkv->needs_grad) return result;
  tape.record([&tape, qkv, text_valid, result, lse, forward] {
    if (!result->grad) return;
    VILG_CHECK(!qkv->grad, kInternal, "attention must be the only reader of its projection");
    bool accumulate;
    float* dqkv = tape.grad_buffer(qkv, accumulate).f32();
    const int64_t channels = forward.heads * forward.head_size;
    AttentionBackwardParams params;
    static_cast<AttentionParams&>(params) = forward;
    params.dq = dqkv;
    params.dk = dqkv + channels;
    params.dv = dqkv + 2 * channels;
    params.dout = result->grad.data();
    params.out = result->data.data();
    params.lse = lse.f32();
    tape.ops().attention_backward(params, tape.context());
    result->grad = Tensor();
  });
  return result;
}

double cross_entropy(Tape& tape, const Value& logits, const std::vector<int32_t>& targets,
                     const CrossEntropyOptions& options, std::vector<float>* row_losses) {
  const int64_t vocab = logits->data.dim(-1), rows = logits->data.num_elements() / vocab;
  VILG_CHECK(static_cast<int64_t>(targets.size()) == rows, kInternal, "%zu targets for %lld rows",
             targets.size(), static_cast<long long>(rows));
  int64_t counted = 0;
  for (int32_t target : targets) counted += target >= 0;
  VILG_CHECK(counted > 0, kInvalidArgument,
             "Expected at least one target token in the batch, received none");

  Tensor device_targets = tape.backend().upload(targets.data(), DType::kInt32, {rows});
  Tensor losses = tape.backend().empty(DType::kFloat32, {rows});
  CrossEntropyParams params;
  params.loss = losses.f32();
  params.logits = logits->data.f32();
  params.targets = device_targets.as<int32_t>();
  params.rows = rows, params.vocab = vocab;
  params.row_scale = options.weight / static_cast<float>(counted);
  params.label_smoothing = options.label_smoothing;
  params.z_loss = options.z_loss;
  if (logits->needs_grad) {
    bool accumulate;
    params.dlogits = tape.grad_buffer(logits, accumulate).f32();
    VILG_CHECK(!accumulate, kInternal, "logits with a second reader");
  }
  tape.ops().cross_entropy(params, tape.context());

  std::vector<float> host(static_cast<size_t>(rows));
  tape.backend().copy_out(host.data(), losses.data(), losses.size_bytes());
  double sum = 0;
  for (float loss : host) sum += loss;
  if (row_losses) *row_losses = std::move(host);
  return sum / static_cast<double>(counted);
}

}  // namespace vilg
