// The kernels by themselves, for microbenchmarks and tests.
#include <memory>
#include <vector>

#include "kernels/attention_pattern.h"
#include "kernels/op_table.h"
#include "napi/arguments.h"
#include "napi/async_task.h"
#include "napi/definitions.h"
#include "napi/errors.h"
#include "napi/kernel_job.h"

namespace vilg::binding {
namespace {

constexpr const char* kPatterns[] = {"row", "column", "conv", "full"};
constexpr const char* kDirections[] = {"text-to-image", "image-to-text"};
constexpr int64_t kMaxDim = int64_t{1} << 31;

// A job and the tensors it made, in the order in which they may die.
struct Outcome {
  std::shared_ptr<Job> job;
  std::vector<std::pair<const char*, Tensor>> results;  // float32 or int32
};

Napi::Value outcome_to_js(Napi::Env env, const Outcome& outcome) {
  Napi::Object result = Napi::Object::New(env);
  for (const auto& [name, tensor] : outcome.results) {
    const auto count = static_cast<size_t>(tensor.num_elements());
    result.Set(name, tensor.dtype() == DType::kInt32
                         ? to_typed_array(env, tensor.as<int32_t>(), count)
                         : to_typed_array(env, tensor.f32(), count));
  }
  result.Set("milliseconds", to_typed_array(env, outcome.job->milliseconds()));
  result.Set("workspaceBytes", static_cast<double>(outcome.job->workspace_bytes()));
  return result;
}

// --- attention
// --------------------------------------------------------------------------------------

StreamSizes stream_sizes(const Argument& options) {
  return {.text_length = options["textLength"].integer(1, 1 << 20),
          .grid = options["grid"].integer(1, 1 << 12),
          .kernel = options["kernel"].integer(1, 1 << 13)};
}

struct AttentionSizes {
  explicit AttentionSizes(const Argument& options)
      : sizes(stream_sizes(options)),
        pattern(static_cast<Pattern>(options["pattern"].one_of(kPatterns))),
        direction(static_cast<Direction>(options["direction"].one_of(kDirections))),
        batch(options["batch"].integer(1, kMaxDim)),
        heads(options["heads"].integer(1, kMaxDim)),
        head_size(options["headSize"].integer(1, kMaxDim)),
        scale(static_cast<float>(options["scale"].number(-1e30, 1e30))) {}

  int64_t rows() const { return product({batch, heads, sizes.stream_length()}); }
  int64_t elements() const { return product({rows(), head_size}); }
  // (B, H, N, D), contiguous
  AttentionStrides strides() const {
    const int64_t n = sizes.stream_length();
    return {.batch = heads * n * head_size, .token = head_size, .head = n * head_size};
  }
  void fill(AttentionParams& params, DType dtype) const {
    params.out_strides = params.qkv_strides = strides();
    params.dtype = params.compute = dtype;
    params.batch = batch;
    params.heads = heads;
    params.head_size = head_size;
    params.scale = scale;
    params.pattern = pattern;
    params.direction = direction;
    params.sizes = sizes;
  }

  StreamSizes sizes;
  Pattern pattern;
  Direction direction;
  int64_t batch, heads, head_size;
  float scale;
};

Tensor copy_text_valid(Job& job, const Argument& options, const AttentionSizes& sizes) {
  const Argument valid = options["textValid"];
  if (valid.missing()) return {};
  return job.copy(valid.array<uint8_t>(product({sizes.batch, sizes.sizes.text_length})),
                  DType::kUInt8);
}

// sparseAttention(q, k, v, options, control) -> { out, lse, milliseconds }
Napi::Value sparse_attention(const Napi::CallbackInfo& info) {
  const Argument options(info, 3, "options");
  const RunOptions run(options);
  const AttentionSizes sizes(options);
  const int64_t count = sizes.elements();
  auto job = std::make_shared<Job>(run);
  Tensor q = job->copy(Argument(info, 0, "q").array<float>(count));
  Tensor k = job->copy(Argument(info, 1, "k").array<float>(count));
  Tensor v = job->copy(Argument(info, 2, "v").array<float>(count));
  Tensor valid = copy_text_valid(*job, options, sizes);
  return start_task(
      info.Env(), Argument(info, 4, "control").task_options(),
      [job, run, sizes, count, q, k, v, valid](TaskContext& task) {
        job->begin(task);
        const Tensor dq = job->convert(q, run.dtype), dk = job->convert(k, run.dtype),
                     dv = job->convert(v, run.dtype);
        const Tensor out = job->empty(run.dtype, count);
        const Tensor lse = job->empty(DType::kFloat32, sizes.rows());
        AttentionForwardParams params;
        sizes.fill(params, run.dtype);
        params.out = out.data();
        params.lse = lse.f32();
        params.q = dq.data();
        params.k = dk.data();
        params.v = dv.data();
        params.text_valid = valid ? valid.as<uint8_t>() : nullptr;
        job->run(task, job->ops().attention_forward, params);
        return Outcome{job, {{"out", job->result(out)}, {"lse", job->result(lse)}}};
      },
      outcome_to_js);
}

// sparseAttentionBackward(q, k, v, out, lse, dout, options, control) -> { dq, dk, dv, milliseconds
// }
Napi::Value sparse_attention_backward(const Napi::CallbackInfo& info) {
  const Argument options(info, 6, "options");
  const RunOptions run(options);
  const AttentionSizes sizes(options);
  const int64_t count = sizes.elements();
  auto job = std::make_shared<Job>(run);
  std::vector<Tensor> inputs;
  for (const auto& [index, name] :
       {std::pair<size_t, const char*>{0, "q"}, {1, "k"}, {2, "v"}, {3, "out"}, {5, "dout"}}) {
    inputs.push_back(job->copy(Argument(info, index, name).array<float>(count)));
  }
  Tensor lse = job->copy(Argument(info, 4, "lse").array<float>(sizes.rows()));
  Tensor valid = copy_text_valid(*job, options, sizes);
  return start_task(
      info.Env(), Argument(info, 7, "control").task_options(),
      [job, run, sizes, count, inputs = std::move(inputs), lse, valid](TaskContext& task) {
        job->begin(task);
        std::vector<Tensor> x;
        for (const Tensor& input : inputs) x.push_back(job->convert(input, run.dtype));
        const Tensor dq = job->empty(run.dtype, count), dk = job->empty(run.dtype, count),
                     dv = job->empty(run.dtype, count);
        AttentionBackwardParams params;
        sizes.fill(params, run.dtype);
        params.dq = dq.data();
        params.dk = dk.data();
        params.dv = dv.data();
        params.q = x[0].data();
        params.k = x[1].data();
        params.v = x[2].data();
        params.out = x[3].data();
        params.dout = x[4].data();
        params.lse = lse.f32();
        params.text_valid = valid ? valid.as<uint8_t>() : nullptr;
        job->run(task, job->ops().attention_backward, params);
        return Outcome{job,
                       {{"dq", job->result(dq)}, {"dk", job->result(dk)}, {"dv", job->result(dv)}}};
      },
      outcome_to_js);
}

// attends(pattern, direction, query, key, { textLength, grid, kernel, textValid? })
Napi::Value attends_binding(const Napi::CallbackInfo& info) {
  const Argument options(info, 4, "sizes");
  const auto pattern = static_cast<Pattern>(Argument(info, 0, "pattern").one_of(kPatterns));
  const auto direction = static_cast<Direction>(Argument(info, 1, "direction").one_of(kDirections));
  const StreamSizes sizes = stream_sizes(options);
  const int64_t last = sizes.stream_length() - 1;
  const int64_t query = Argument(info, 2, "query").integer(0, last);
  const int64_t key = Argument(info, 3, "key").integer(0, last);
  const Argument valid = options["textValid"];
  const uint8_t* text_valid =
      valid.missing() ? nullptr : valid.array<uint8_t>(sizes.text_length).data();
  return Napi::Boolean::New(info.Env(), attends(pattern, direction, query, key, sizes, text_valid));
}

// --- the others
// --------------------------------------------------------------------------------------

// codebookLookup(vectors, codebook, options, control) -> { indices, distances, milliseconds }
Napi::Value codebook_lookup(const Napi::CallbackInfo& info) {
  const Argument options(info, 2, "options");
  const RunOptions run(options);
  const int64_t size = options["size"].integer(1, kMaxDim),
                dim = options["dim"].integer(1, kMaxDim);
  const int64_t rows = options["rows"].integer(0, kMaxDim);
  auto job = std::make_shared<Job>(run);
  Tensor vectors =
      job->copy(Argument(info, 0, "vectors").array<float>(rows == 0 ? 0 : product({rows, dim})));
  Tensor codebook = job->copy(Argument(info, 1, "codebook").array<float>(product({size, dim})));
  return start_task(
      info.Env(), Argument(info, 3, "control").task_options(),
      [job, vectors, codebook, rows, size, dim](TaskContext& task) {
        job->begin(task);
        const Tensor indices = job->empty(DType::kInt32, rows);
        const Tensor distances = job->empty(DType::kFloat32, rows);
        if (rows > 0) {
          job->run(task, job->ops().codebook_lookup,
                   CodebookLookupParams{.indices = indices.as<int32_t>(),
                                        .distances = distances.f32(),
                                        .vectors = vectors.f32(),
                                        .codebook = codebook.f32(),
                                        .rows = rows,
                                        .size = size,
                                        .dim = dim});
        }
        return Outcome{job,
                       {{"indices", job->result(indices)}, {"distances", job->result(distances)}}};
      },
      outcome_to_js);
}

// matmul(a, b, options, control) -> { out, milliseconds }
Napi::Value matmul(const Napi::CallbackInfo& info) {
  const Argument options(info, 2, "options");
  const RunOptions run(options);
  MatmulParams params;
  params.m = options["m"].integer(1, kMaxDim);
  params.n = options["n"].integer(1, kMaxDim);
  params.k = options["k"].integer(1, kMaxDim);
  params.batch = options["batch"].integer(1, kMaxDim);
  params.trans_a = options["transA"].boolean();
  params.trans_b = options["transB"].boolean();
  params.alpha = static_cast<float>(options["alpha"].number(-1e30, 1e30));
  params.epilogue = options["gelu"].boolean() ? Epilogue::kGelu : Epilogue::kNone;
  params.a_dtype = params.b_dtype = params.compute = run.dtype;
  params.lda = params.trans_a ? params.m : params.k;
  params.ldb = params.trans_b ? params.k : params.n;
  params.ldc = params.n;
  params.stride_a = product({params.m, params.k});
  params.stride_b = product({params.k, params.n});
  params.stride_c = product({params.m, params.n});
  const int64_t count = product({params.batch, params.stride_c});
  auto job = std::make_shared<Job>(run);
  Tensor a =
      job->copy(Argument(info, 0, "a").array<float>(product({params.batch, params.stride_a})));
  Tensor b =
      job->copy(Argument(info, 1, "b").array<float>(product({params.batch, params.stride_b})));
  const Argument bias_argument = options["bias"], residual_argument = options["residual"];
  Tensor bias, residual;
  if (!bias_argument.missing()) bias = job->copy(bias_argument.array<float>(params.n));
  if (!residual_argument.missing()) residual = job->copy(residual_argument.array<float>(count));
  return start_task(
      info.Env(), Argument(info, 3, "control").task_options(),
      [job, run, params, count, a, b, bias, residual](TaskContext& task) {
        job->begin(task);
        const Tensor x = job->convert(a, run.dtype), y = job->convert(b, run.dtype);
        const Tensor out = job->empty(DType::kFloat32, count);
        MatmulParams now = params;
        now.a = x.data();
        now.b = y.data();
        now.c = out.data();
        now.bias = bias ? bias.f32() : nullptr;
        now.residual = residual ? residual.data() : nullptr;
        job->run(task, job->ops().matmul, now);
        return Outcome{job, {{"out", job->result(out)}}};
      },
      outcome_to_js);
}

}  // namespace

void define_kernels(Napi::Env, Napi::Object exports) {
  export_function<&sparse_attention>(exports, "sparseAttention");
  export_function<&sparse_attention_backward>(exports, "sparseAttentionBackward");
  export_function<&attends_binding>(exports, "attends");
  export_function<&codebook_lookup>(exports, "codebookLookup");
  export_function<&matmul>(exports, "matmul");
}

}  // namespace vilg::binding
