#include "sample/decoder.h"

#include <cmath>

#include "kernels/attention_pattern.h"

namespace vilg {

Decoder::Decoder(Generator& generator, Direction direction, int64_t rows, int64_t prefix_capacity)
    : generator_(&generator),
      direction_(direction),
      rows_(rows),
      prefix_capacity_(prefix_capacity),
      cache_dtype_(generator.precision()) {
  VILG_CHECK(rows >= 1 && rows <= kSkinnyRows, kInvalidArgument,
             "Expected 1 to %lld rows, received %lld", static_cast<long long>(kSkinnyRows),
             static_cast<long long>(rows));
  const GeneratorConfig& config = generator.config();
  Backend& backend = generator.backend();
  size_t needed = 0;
  for (int64_t i = 1; i <= config.layers; ++i) {
    needed += static_cast<size_t>(2 * config.hidden *
                                  (prefix_capacity + rows * own_capacity(config.pattern(i)))) *
              dtype_size(cache_dtype_);
  }
  const size_t available = backend.available_bytes();
  VILG_CHECK(available == 0 || needed <= available, kOutOfMemory,
             "The caches of %lld rows need %zu bytes, %zu bytes are available: draw fewer "
             "candidates at once",
             static_cast<long long>(rows), needed, available);
  for (int64_t i = 1; i <= config.layers; ++i) {
    LayerCache cache;
    cache.capacity = own_capacity(config.pattern(i));
    const Shape prefix{config.heads, prefix_capacity, config.head_size()};
    const Shape own{rows, config.heads, cache.capacity, config.head_size()};
    cache.prefix_k = backend.empty(cache_dtype_, prefix);
    cache.prefix_v = backend.empty(cache_dtype_, prefix);
    cache.own_k = backend.empty(cache_dtype_, own);
    cache.own_v = backend.empty(cache_dtype_, own);
    caches_.push_back(std::move(cache));
  }
  cache_bytes_ = needed;
  reserve(rows);
  int64_t place_size = 1;
  for (int64_t i = 1; i <= config.layers; ++i) {
    int64_t& offset = place_offsets_[static_cast<size_t>(config.pattern(i))];
    if (offset != 0) continue;
    offset = place_size;
    place_size += 2 + own_capacity(config.pattern(i));
  }
  host_place_.assign(static_cast<size_t>(place_size), 0);
  place_ = backend.empty(DType::kInt32, {place_size});
}

void Decoder::reserve(int64_t tokens) {
  if (tokens <= workspace_tokens_) return;
  const GeneratorConfig& config = generator_->config();
  Backend& backend = generator_->backend();
  normed_ = backend.empty(DType::kFloat32, {tokens, config.hidden});
  qkv_ = backend.empty(DType::kFloat32, {tokens, 3 * config.hidden});
  attended_ = backend.empty(DType::kFloat32, {tokens, config.hidden});
  wide_ = backend.empty(DType::kFloat32, {tokens, 4 * config.hidden});
  workspace_tokens_ = tokens;
}

Tensor Decoder::hidden(int64_t tokens) const {
  return generator_->backend().empty(DType::kFloat32, {tokens, generator_->config().hidden});
}

int64_t Decoder::own_capacity(Pattern pattern) const {
  const GeneratorConfig& config = generator_->config();
  if (direction_ == Direction::kImageToText) return config.text_length;
  const int64_t g = config.grid, n = config.image_length(), reach = config.kernel / 2;
  switch (pattern) {
    case Pattern::kRow:
      return std::min(n, g + 1);
    case Pattern::kConv:
      return config.wrapped_window ? n : std::min(n, reach * g + reach + 1);
    case Pattern::kColumn:
    case Pattern::kFull:
      return n;
  }
  return n;
}

int64_t Decoder::own_slot(Pattern pattern, int64_t position) const {
  if (direction_ == Direction::kImageToText) return position;
  const int64_t g = generator_->config().grid;
  // a column's tokens lie side by side
  if (pattern == Pattern::kColumn) return position % g * g + position / g;
  return position % own_capacity(pattern);
}

std::vector<int32_t> Decoder::visible_slots(Pattern pattern, int64_t position) const {
  const StreamSizes sizes = generator_->config().sizes();
  std::vector<int32_t> slots;
  if (direction_ == Direction::kImageToText) {
    for (int64_t j = 0; j <= position; ++j) slots.push_back(static_cast<int32_t>(j));
    return slots;
  }
  const int64_t first = sizes.image_start(direction_) + 1;
  // what the ring has already lost is out of every pattern's reach
  const int64_t capacity = own_capacity(pattern);
  const int64_t oldest =
      pattern == Pattern::kColumn ? 0 : std::max<int64_t>(0, position - capacity + 1);
  for (int64_t p = oldest; p <= position; ++p) {
    if (attends(pattern, direction_, first + position, first + p, sizes)) {
      slots.push_back(static_cast<int32_t>(own_slot(pattern, p)));
    }
  }
  return slots;
}

void Decoder::move_to(int64_t position) {
  host_place_[0] = static_cast<int32_t>(position);
  for (size_t i = 0; i < place_offsets_.size(); ++i) {
    if (place_offsets_[i] == 0) continue;
    const auto pattern = static_cast<Pattern>(i);
    const std::vector<int32_t> slots = visible_slots(pattern, position);
    int32_t* place = host_place_.data() + place_offsets_[i];
    place[0] = static_cast<int32_t>(own_slot(pattern, position));
    place[1] = static_cast<int32_t>(slots.size());
    std::copy(slots.begin(), slots.end(), place + 2);
  }
  generator_->backend().copy_in(place_.data(), host_place_.data(),
                                host_place_.size() * sizeof(int32_t));
}

void Decoder::layer_norm(const Tensor& out, const Tensor& x, int64_t m, Parameter& gamma,
                         Parameter& beta, OpContext& context) {
  LayerNormForwardParams params;
  params.out = out.data();
  params.x = x.data();
  params.gamma = gamma.value.f32();
  params.beta = beta.value.f32();
  params.rows = m, params.channels = gamma.num_elements();
  params.epsilon = generator_->config().layer_norm_epsilon;
  generator_->backend().ops().layer_norm_forward(params, context);
}

void Decoder::linear(void* out, const void* x, int64_t m, Parameter& weight, Parameter& bias,
                     Epilogue epilogue, const void* residual, OpContext& context) {
  MatmulParams params;
  params.c = out;
  params.a = x;
  params.b = weight.value.data();
  params.bias = bias.value.f32();
  params.residual = residual;
  params.b_dtype = weight.value.dtype();
  params.compute = generator_->precision();
  params.m = m, params.n = weight.value.dim(0), params.k = weight.value.dim(1);
  params.lda = params.k, params.ldb = params.k, params.ldc = params.n;
  params.trans_b = true;
  params.epilogue = epilogue;
  generator_->backend().ops().matmul(params, context);
}

// Every block over the m tokens of x: norm and projection, then `attend` with the block's number,
// which keeps what later tokens need of qkv_ and gives back what the tokens gathered (m, C), then
// the rest of the block.
void Decoder::run_blocks(const Tensor& x, int64_t m, OpContext& context,
                         const std::function<Tensor(int64_t)>& attend) {
  for (int64_t i = 0; i < generator_->config().layers; ++i) {
    context.check_stop();
    const Transformer::Block& block = generator_->transformer().block(i);
    layer_norm(normed_, x, m, *block.attention_norm_weight, *block.attention_norm_bias, context);
    linear(qkv_.data(), normed_.data(), m, *block.query_key_value_weight,
           *block.query_key_value_bias, Epilogue::kNone, nullptr, context);
    const Tensor attended = attend(i);
    if (!attended) return;  // nobody reads the output of the last block
    add_branch(x, attended, m, *block.attention_out_weight, *block.attention_out_bias,
               block.attention_out_norm_weight, block.attention_out_norm_bias, context);
    layer_norm(normed_, x, m, *block.mlp_norm_weight, *block.mlp_norm_bias, context);
    linear(wide_.data(), normed_.data(), m, *block.mlp_in_weight, *block.mlp_in_bias,
           Epilogue::kGelu, nullptr, context);
    add_branch(x, wide_, m, *block.mlp_out_weight, *block.mlp_out_bias, block.mlp_out_norm_weight,
               block.mlp_out_norm_bias, context);
  }
}

void Decoder::add_branch(const Tensor& x, const Tensor& branch, int64_t m, Parameter& weight,
                         Parameter& bias, Parameter* norm_weight, Parameter* norm_bias,
                         OpContext& context) {
  if (!norm_weight) {
    linear(x.data(), branch.data(), m, weight, bias, Epilogue::kNone, x.data(), context);
    return;
  }
  linear(normed_.data(), branch.data(), m, weight, bias, Epilogue::kNone, nullptr, context);
  layer_norm(normed_, normed_, m, *norm_weight, *norm_bias, context);
  AddParams params;
  params.out = x.data();
  params.x = x.data();
  params.y = normed_.data();
  params.num_elements = m * generator_->config().hidden;
  generator_->backend().ops().add(params, context);
}

// Keys and values of the first `tokens` rows of qkv_ into the shared prefix.
void Decoder::write_prefix(const LayerCache& cache, int64_t tokens, OpContext& context) {
  CacheWriteParams params = cache_write(tokens);
  params.k_cache = cache.prefix_k.data();
  params.v_cache = cache.prefix_v.data();
  params.capacity = prefix_capacity_;
  params.first_slot = prefix_length_;
  params.slot_step = 1;
  generator_->backend().ops().cache_write(params, context);
}

// One token of every row into the row's own cache.
void Decoder::write_own(const LayerCache& cache, const int32_t* slot, OpContext& context) {
  CacheWriteParams params = cache_write(rows_);
  params.k_cache = cache.own_k.data();
  params.v_cache = cache.own_v.data();
  params.capacity = cache.capacity;
  params.slot = slot;
  params.row_step = 1;
  generator_->backend().ops().cache_write(params, context);
}

CacheWriteParams Decoder::cache_write(int64_t tokens) const {
  const GeneratorConfig& config = generator_->config();
  CacheWriteParams params;
  params.k = qkv_.f32() + config.hidden;
  params.v = qkv_.f32() + 2 * config.hidden;
  params.token_stride = 3 * config.hidden;
  params.tokens = tokens;
  params.heads = config.heads;
  params.head_size = config.head_size();
  params.cache_dtype = cache_dtype_;
  return params;
}

// The queries of qkv_ against the first prefix_length tokens of the prefix.
AttentionDecodeParams Decoder::attention_decode(const LayerCache& cache, int64_t rows,
                                                int64_t prefix_length) const {
  const GeneratorConfig& config = generator_->config();
  AttentionDecodeParams params;
  params.out = attended_.f32();
  params.q = qkv_.f32();
  params.prefix_k = cache.prefix_k.data();
  params.prefix_v = cache.prefix_v.data();
  params.out_stride = config.hidden;
  params.q_stride = 3 * config.hidden;
  params.prefix_length = prefix_length;
  params.prefix_capacity = prefix_capacity_;
  params.rows = rows;
  params.heads = config.heads;
  params.head_size = config.head_size();
  params.cache_dtype = cache_dtype_;
  params.scale = 1.0f / std::sqrt(static_cast<float>(config.head_size()));
  return params;
}

void Decoder::extend_prefix(const Tensor& x, int64_t m, const StopFlag* stop) {
  VILG_CHECK(prefix_length_ + m <= prefix_capacity_, kInternal, "prefix of %lld tokens is full",
             static_cast<long long>(prefix_capacity_));
  reserve(m);
  OpContext context = generator_->backend().context(stop);
  run_blocks(x, m, context, [&](int64_t i) {
    const LayerCache& cache = caches_[static_cast<size_t>(i)];
    write_prefix(cache, m, context);
    AttentionDecodeParams params = attention_decode(cache, m, prefix_length_ + m);
    if (!generator_->config().causal_text) {
      generator_->backend().ops().attention_decode(params, context);
      return attended_;
    }
    // each sees one more than the one before it
    params.rows = 1;
    for (int64_t j = 0; j < m; ++j) {
      params.prefix_length = prefix_length_ + j + 1;
      generator_->backend().ops().attention_decode(params, context);
      params.q += params.q_stride, params.out += params.out_stride;
    }
    return attended_;
  });
  prefix_length_ += m;
}

void Decoder::image_prefix(const std::vector<int32_t>& image, const StopFlag* stop) {
  const GeneratorConfig& config = generator_->config();
  Backend& backend = generator_->backend();
  OpContext context = backend.context(stop);
  // image queries see no text (image to text, docs/model.md "Who attends to whom"), so one PAD
  // stands for it, as ops want some; its row comes last and goes nowhere
  StreamSizes sizes = config.sizes();
  sizes.text_length = 1;
  const int64_t m = sizes.stream_length(), kept = m - 1;
  VILG_CHECK(prefix_length_ == 0 && kept <= prefix_capacity_, kInternal,
             "image prefix of %lld tokens", static_cast<long long>(kept));
  reserve(m);
  const int32_t pad = 0;
  const uint8_t invalid = 0;
  const StreamTokens tokens = {
      .text = backend.upload(&pad, DType::kInt32, {1, 1}),
      .text_valid = backend.upload(&invalid, DType::kUInt8, {1, 1}),
      .image = backend.upload(image.data(), DType::kInt32, {1, config.image_length()})};
  Tape tape(backend, generator_->precision(), stop);
  const Value x = stream_embedding(tape, tokens, generator_->transformer().tables(),
                                   Direction::kImageToText, sizes);
  run_blocks(x->data, m, context, [&](int64_t i) {
    write_prefix(caches_[static_cast<size_t>(i)], kept, context);
    if (i + 1 == config.layers) return Tensor();
    const Value qkv =
        tape.value(Tensor::wrap(qkv_.data(), DType::kFloat32, {1, m, 3 * config.hidden}));
    return stream_attention(tape, qkv, tokens.text_valid, config.heads, config.pattern(i + 1),
                            Direction::kImageToText, sizes)
        ->data;
  });
  prefix_length_ = kept;
}

void Decoder::step(const Tensor& x, const StopFlag* stop) {
  OpContext context = generator_->backend().context(stop);
  run_blocks(x, rows_, context, [&](int64_t i) {
    const LayerCache& cache = caches_[static_cast<size_t>(i)];
    const auto pattern = static_cast<size_t>(generator_->config().pattern(i + 1));
    const int32_t* place = place_.as<int32_t>() + place_offsets_[pattern];
    write_own(cache, place, context);
    AttentionDecodeParams params = attention_decode(cache, rows_, prefix_length_);
    params.own_k = cache.own_k.data();
    params.own_v = cache.own_v.data();
    params.own_capacity = cache.capacity;
    params.slot_count = place + 1;
    params.slots = place + 2;
    params.num_slots = cache.capacity;
    generator_->backend().ops().attention_decode(params, context);
    return attended_;
  });
}

void Decoder::head(const Tensor& x, int64_t m, const Tensor& logits, const StopFlag* stop) {
  OpContext context = generator_->backend().context(stop);
  const bool draws = direction_ == Direction::kTextToImage;
  const Transformer& transformer = generator_->transformer();
  layer_norm(x, x, m, transformer.final_norm_weight(), transformer.final_norm_bias(), context);
  if (Parameter* norm = transformer.head_norm_weight()) {
    layer_norm(x, x, m, *norm, *transformer.head_norm_bias(), context);
  }
  linear(logits.data(), x.data(), m,
         generator_->weight(draws ? "image_head.weight" : "text_head.weight"),
         generator_->weight(draws ? "image_head.bias" : "text_head.bias"), Epilogue::kNone, nullptr,
         context);
}

void Decoder::reorder(const std::vector<int32_t>& from) {
  VILG_CHECK(static_cast<int64_t>(from.size()) == rows_, kInternal, "%zu rows to reorder",
             from.size());
  bool same = true;
  for (size_t r = 0; r < from.size(); ++r) {
    VILG_CHECK(from[r] >= 0 && from[r] < rows_, kInternal, "row %d", from[r]);
    same = same && from[r] == static_cast<int32_t>(r);
  }
  if (same) return;
  Backend& backend = generator_->backend();
  for (LayerCache& cache : caches_) {
    for (Tensor* tensor : {&cache.own_k, &cache.own_v}) {
      Tensor moved = backend.empty(tensor->dtype(), tensor->shape());
      const size_t row_bytes = tensor->size_bytes() / from.size();
      for (size_t r = 0; r < from.size(); ++r) {
        backend.copy(moved.as<char>() + r * row_bytes,
                     tensor->as<char>() + static_cast<size_t>(from[r]) * row_bytes, row_bytes);
      }
      *tensor = std::move(moved);
    }
  }
}

}  // namespace vilg
