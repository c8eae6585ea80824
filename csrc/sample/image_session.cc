#include "sample/image_session.h"

#include <algorithm>

#include "sample/offsets.h"

namespace vilg {
namespace {

// Tokens that all candidates share and see in every layer: the text, and IMG or what has its place.
int64_t prefix_length(const GeneratorConfig& config, const std::vector<uint8_t>& valid) {
  int64_t text = config.text_length;
  if (!config.padding_seen) text -= std::count(valid.begin(), valid.end(), 0);
  return text + (config.text_starts_image ? 0 : 1);
}

}  // namespace

ImageSession::ImageSession(std::shared_ptr<Generator> generator, std::vector<int32_t> text,
                           std::vector<uint8_t> text_valid, int64_t rows, uint32_t first_stream,
                           const DrawOptions& options)
    : generator_(std::move(generator)),
      text_(std::move(text)),
      text_valid_(std::move(text_valid)),
      options_(options),
      decoder_(*generator_, Direction::kTextToImage, rows,
               prefix_length(generator_->config(), text_valid_)) {
  const GeneratorConfig& config = generator_->config();
  const std::vector<int32_t> no_image(static_cast<size_t>(config.image_length()), 0);
  generator_->transformer().check(
      {.text = text_, .text_valid = text_valid_, .image = no_image, .batch = 1});
  Backend& backend = generator_->backend();
  tokens_.assign(static_cast<size_t>(rows * config.image_length()), -1);
  log_probabilities_.assign(static_cast<size_t>(rows), 0.0);
  x_ = decoder_.hidden(rows);
  logits_ = backend.empty(DType::kFloat32, {rows, config.image_vocab});
  drawn_ = backend.empty(DType::kInt32, {rows});
  drawn_log_probabilities_ = backend.empty(DType::kFloat32, {rows});
  std::vector<uint32_t> streams(static_cast<size_t>(rows));
  for (size_t r = 0; r < streams.size(); ++r) streams[r] = first_stream + static_cast<uint32_t>(r);
  streams_ = backend.upload(streams.data(), DType::kInt32, {rows});
}

void ImageSession::prefill(const StopFlag* stop) {
  const GeneratorConfig& config = generator_->config();
  Backend& backend = generator_->backend();
  OpContext context = backend.context(stop);
  // weights are read here and not in the constructor, which runs while others may train them
  offsets_ = image_offsets(*generator_);
  decoder_.clear_prefix();  // what an earlier call, stopped half-way, has left
  const std::vector<int32_t> text = generator_->transformer().text_tokens(text_);
  std::vector<int32_t> ids;
  std::vector<int64_t> positions;
  for (size_t j = 0; j < text.size(); ++j) {
    // PAD that is nobody's key does not run
    if (!config.padding_seen && !text_valid_[j]) continue;
    ids.push_back(text[j]);
    positions.push_back(static_cast<int64_t>(j));
  }
  const Tensor x = embed_text(ids, positions, context);
  // with a first place that is not the first token's, the last text token has that one
  const int64_t C = config.hidden, m = x.dim(0) - config.first_place();
  decoder_.extend_prefix(x, m, stop);
  if (!config.text_starts_image) {
    start_image(stop);
  } else if (config.first_place() == 0) {
    share_logits(Tensor::wrap(x.f32() + (m - 1) * C, DType::kFloat32, {1, C}), stop);
  } else {
    const size_t row_bytes = static_cast<size_t>(C) * sizeof(float);
    for (int64_t r = 0; r < rows(); ++r) {
      backend.copy(x_.f32() + r * C, x.f32() + m * C, row_bytes);
    }
    decoder_.move_to(0);
    decoder_.step(x_, stop);
    decoder_.head(x_, rows(), logits_, stop);
  }
}

Tensor ImageSession::embed_text(std::span<const int32_t> ids, std::span<const int64_t> positions,
                                OpContext& context) {
  Backend& backend = generator_->backend();
  const Tensor offsets = text_offsets(*generator_);
  const auto m = static_cast<int64_t>(ids.size());
  const int64_t C = generator_->config().hidden;
  const Tensor device_ids = backend.upload(ids.data(), DType::kInt32, {m});
  const Tensor x = decoder_.hidden(m);
  const Tensor& table = generator_->weight("text_embedding.weight").value;
  for (int64_t i = 0; i < m; ++i) {
    GatherParams gather;
    gather.out = x.f32() + i * C;
    gather.table = table.data(), gather.table_dtype = table.dtype();
    gather.indices = device_ids.as<int32_t>() + i;
    gather.offset = offsets.f32() + positions[static_cast<size_t>(i)] * C;
    gather.rows = 1, gather.size = table.dim(0), gather.dim = C;
    backend.ops().gather(gather, context);
  }
  return x;
}

// IMG sees the text and itself, and is the same for every candidate.
void ImageSession::start_image(const StopFlag* stop) {
  const Tensor start = decoder_.hidden(1);
  std::vector<float> row =
      generator_->parameters().read(generator_->parameters().index_of("image_start"));
  const std::vector<float> modality = modality_of(*generator_, Segment::kImage);
  for (size_t c = 0; c < row.size(); ++c) row[c] += modality[c];
  generator_->backend().copy_in(start.data(), row.data(), row.size() * sizeof(float));
  decoder_.extend_prefix(start, 1, stop);
  share_logits(start, stop);
}

void ImageSession::share_logits(const Tensor& x, const StopFlag* stop) {
  decoder_.head(x, 1, logits_, stop);
  const auto row_bytes = static_cast<size_t>(generator_->config().image_vocab) * sizeof(float);
  for (int64_t r = 1; r < rows(); ++r) {
    generator_->backend().copy(logits_.as<char>() + static_cast<size_t>(r) * row_bytes,
                               logits_.data(), row_bytes);
  }
}

void ImageSession::draw(uint64_t ahead, bool from_start, OpContext& context) {
  const GeneratorConfig& config = generator_->config();
  DrawParams draw;
  draw.tokens = drawn_.as<int32_t>();
  draw.log_probabilities = drawn_log_probabilities_.f32();
  draw.logits = logits_.f32();
  draw.streams = streams_.as<uint32_t>();
  draw.rows = rows(), draw.vocab = config.image_vocab, draw.logits_stride = config.image_vocab;
  draw.temperature = options_.temperature;
  draw.top_k = options_.top_k, draw.top_p = options_.top_p;
  draw.seed = options_.seed, draw.position = ahead;
  draw.step = from_start ? nullptr : decoder_.position();
  generator_->backend().ops().draw(draw, context);
}

void ImageSession::keep_drawn() {
  Backend& backend = generator_->backend();
  std::vector<int32_t> drawn(static_cast<size_t>(rows()));
  std::vector<float> log_probabilities(static_cast<size_t>(rows()));
  backend.copy_out(drawn.data(), drawn_.data(), drawn_.size_bytes());
  backend.copy_out(log_probabilities.data(), drawn_log_probabilities_.data(),
                   drawn_log_probabilities_.size_bytes());
  const int64_t n = generator_->config().image_length();
  for (int64_t r = 0; r < rows(); ++r) {
    const int32_t token = drawn[static_cast<size_t>(r)];
    VILG_CHECK(
        token >= 0, kInvalidArgument,
        "Expected finite logits, received others for candidate %lld at image token %lld: the "
        "weights hold NaN or infinities",
        static_cast<long long>(r), static_cast<long long>(position_));
    tokens_[static_cast<size_t>(r * n + position_)] = token;
    log_probabilities_[static_cast<size_t>(r)] += log_probabilities[static_cast<size_t>(r)];
  }
}

void ImageSession::next_token(const StopFlag* stop) {
  Backend& backend = generator_->backend();
  OpContext context = backend.context(stop);
  const Tensor& table = generator_->weight("image_embedding.weight").value;
  GatherParams gather;
  gather.out = x_.f32();
  gather.table = table.data(), gather.table_dtype = table.dtype();
  gather.indices = drawn_.as<int32_t>();
  gather.offset = offsets_.f32(), gather.offset_row = decoder_.position();
  gather.rows = rows(), gather.size = table.dim(0), gather.dim = table.dim(1);
  backend.ops().gather(gather, context);
  decoder_.step(x_, stop);
  decoder_.head(x_, rows(), logits_, stop);
  // a stop in the middle of a token repeats it from its embedding; once drawn, it counts
  OpContext unstoppable = backend.context(nullptr);
  // the decoder's place is that of the token before the one that is drawn, counted from the first
  draw(static_cast<uint64_t>(1 - generator_->config().first_place()), false, unstoppable);
}

int64_t ImageSession::step(int64_t count, const StopFlag* stop) {
  Backend& backend = generator_->backend();
  if (!prefilled_) {
    prefill(stop);
    prefilled_ = true;
  }
  const int64_t end = std::min(generator_->config().image_length(), position_ + count);
  while (position_ < end) {
    if (stop) stop->check();
    if (position_ == 0) {
      OpContext context = backend.context(nullptr);
      draw(0, true, context);
    } else {
      decoder_.move_to(position_ - 1 + generator_->config().first_place());
      // the first time unrecorded: libraries choose their algorithms when they first see a shape
      if (position_ > 1 && recordable_ && !recorded_) {
        recorded_ = backend.record([&] { next_token(nullptr); });
        recordable_ = recorded_ != nullptr;
      }
      if (recorded_) {
        recorded_->run();
      } else {
        next_token(stop);
      }
    }
    keep_drawn();
    ++position_;
  }
  return position_;
}

}  // namespace vilg
