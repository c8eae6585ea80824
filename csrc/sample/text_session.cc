#include "sample/text_session.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "sample/offsets.h"

namespace vilg {

TextSession::TextSession(std::shared_ptr<Generator> generator, std::vector<int32_t> image,
                         int64_t rows, bool beam_search, float length_penalty,
                         const TextTokens& vocabulary, const DrawOptions& options)
    : generator_(std::move(generator)),
      image_(std::move(image)),
      beam_search_(beam_search),
      length_penalty_(length_penalty),
      vocabulary_(vocabulary),
      options_(options),
      decoder_(*generator_, Direction::kImageToText, rows,
               generator_->config().image_length() + 1) {
  generator_->transformer().check(Direction::kImageToText);
  const GeneratorConfig& config = generator_->config();
  const auto in_vocabulary = [&](const char* name, int32_t id) {
    VILG_CHECK(id >= 0 && id < config.text_vocab, kInvalidArgument,
               "Expected %s from 0 to %lld, received %d", name,
               static_cast<long long>(config.text_vocab - 1), id);
  };
  in_vocabulary("the CLS id", vocabulary.cls);
  in_vocabulary("the SEP id", vocabulary.sep);
  for (int32_t id : vocabulary.banned) in_vocabulary("a banned id", id);
  for (int32_t id : vocabulary.given) in_vocabulary("a given id", id);
  VILG_CHECK(first() + 1 < config.text_length, kInvalidArgument,
             "Expected at most %lld given tokens, so that CLS and one more have their place, "
             "received %lld",
             static_cast<long long>(config.text_length - 2), static_cast<long long>(first()));
  std::vector<bool> may_begin(static_cast<size_t>(config.text_vocab), true);
  for (int32_t id : vocabulary.banned) may_begin[static_cast<size_t>(id)] = false;
  may_begin[static_cast<size_t>(vocabulary.sep)] = false;
  VILG_CHECK(std::find(may_begin.begin(), may_begin.end(), true) != may_begin.end(),
             kInvalidArgument,
             "Expected a token that may begin a text, received a vocabulary of %lld without any "
             "but SEP and banned ones",
             static_cast<long long>(config.text_vocab));
  VILG_CHECK(std::isfinite(length_penalty), kInvalidArgument,
             "Expected a finite lengthPenalty, received %g", static_cast<double>(length_penalty));
  std::vector<int32_t> text(static_cast<size_t>(config.text_length), 0);
  std::vector<uint8_t> valid(text.size(), 1);
  generator_->transformer().check({.text = text, .text_valid = valid, .image = image_, .batch = 1});

  Backend& backend = generator_->backend();
  x_ = decoder_.hidden(rows);
  logits_ = backend.empty(DType::kFloat32, {rows, config.text_vocab});
  ids_ = backend.empty(DType::kInt32, {rows});
  drawn_ = backend.empty(DType::kInt32, {rows});
  drawn_log_probabilities_ = backend.empty(DType::kFloat32, {rows});
  std::vector<uint32_t> streams(static_cast<size_t>(rows));
  for (size_t r = 0; r < streams.size(); ++r) streams[r] = static_cast<uint32_t>(r);
  streams_ = backend.upload(streams.data(), DType::kInt32, {rows});
  host_logits_.resize(static_cast<size_t>(rows * config.text_vocab));
  live_.resize(static_cast<size_t>(rows));
  inputs_.assign(static_cast<size_t>(rows), vocabulary.cls);
}

// The last tokens run through the blocks; their logits arrive in host_logits_, at minus infinity
// those of tokens that may not come now.
void TextSession::advance(const StopFlag* stop) {
  const GeneratorConfig& config = generator_->config();
  Backend& backend = generator_->backend();
  OpContext context = backend.context(stop);
  const int64_t rows = decoder_.rows(), C = config.hidden;
  const Tensor& table = generator_->weight("text_embedding.weight").value;
  backend.copy_in(ids_.data(), inputs_.data(), ids_.size_bytes());
  GatherParams gather;
  gather.out = x_.f32();
  gather.table = table.data(), gather.table_dtype = table.dtype();
  gather.indices = ids_.as<int32_t>();
  gather.offset = offsets_.f32() + position_ * C;
  gather.rows = rows, gather.size = config.text_vocab, gather.dim = C;
  backend.ops().gather(gather, context);
  decoder_.move_to(position_);
  decoder_.step(x_, stop);
  decoder_.head(x_, rows, logits_, stop);
  backend.copy_out(host_logits_.data(), logits_.data(), logits_.size_bytes());
  for (int64_t r = 0; r < rows; ++r) {
    float* logits = host_logits_.data() + r * config.text_vocab;
    for (int32_t id : vocabulary_.banned) logits[id] = -std::numeric_limits<float>::infinity();
    // an empty text describes nothing, however likely an untrained model finds it
    if (position_ == first()) logits[vocabulary_.sep] = -std::numeric_limits<float>::infinity();
  }
}

void TextSession::sample_position() {
  const GeneratorConfig& config = generator_->config();
  Backend& backend = generator_->backend();
  OpContext context = backend.context(nullptr);
  backend.copy_in(logits_.data(), host_logits_.data(), logits_.size_bytes());
  DrawParams draw;
  draw.tokens = drawn_.as<int32_t>();
  draw.log_probabilities = drawn_log_probabilities_.f32();
  draw.logits = logits_.f32();
  draw.streams = streams_.as<uint32_t>();
  draw.rows = decoder_.rows(), draw.vocab = config.text_vocab,
  draw.logits_stride = config.text_vocab;
  draw.temperature = options_.temperature;
  draw.top_k = options_.top_k, draw.top_p = options_.top_p;
  draw.seed = options_.seed, draw.position = static_cast<uint64_t>(position_);
  backend.ops().draw(draw, context);
  std::vector<float> log_probabilities(live_.size());
  backend.copy_out(inputs_.data(), drawn_.data(), drawn_.size_bytes());
  backend.copy_out(log_probabilities.data(), drawn_log_probabilities_.data(),
                   drawn_log_probabilities_.size_bytes());
  done_ = true;
  for (size_t r = 0; r < live_.size(); ++r) {
    TextSequence& text = live_[r];
    if (text.ended) continue;  // its row still runs, for nobody
    text.log_probability += log_probabilities[r];
    if (inputs_[r] == vocabulary_.sep) {
      text.ended = true;
    } else {
      text.tokens.push_back(inputs_[r]);
      done_ = false;
    }
  }
}

double TextSession::score(const TextSequence& sequence) const {
  // SEP counts as a token; there is none yet before the first step
  const double length = static_cast<double>(sequence.tokens.size()) + (sequence.ended ? 1 : 0);
  return length_penalty_ == 0 || length == 0
             ? sequence.log_probability
             : sequence.log_probability / std::pow(length, length_penalty_);
}

void TextSession::beam_position() {
  const auto vocab = static_cast<size_t>(generator_->config().text_vocab);
  const size_t width = live_.size();
  struct Candidate {
    double log_probability;
    int32_t row, token;
  };
  std::vector<Candidate> candidates;
  // all rows are the same before the first token: only one of them may branch
  const size_t branching = position_ == first() ? 1 : width;
  for (size_t r = 0; r < branching; ++r) {
    if (!std::isfinite(live_[r].log_probability)) continue;
    const float* logits = host_logits_.data() + r * vocab;
    const float largest = *std::max_element(logits, logits + vocab);
    double sum = 0;
    for (size_t v = 0; v < vocab; ++v) sum += std::exp(static_cast<double>(logits[v]) - largest);
    const double normalizer = largest + std::log(sum);
    // one more than the width, as SEP may be among them
    std::vector<Candidate> row;
    for (size_t v = 0; v < vocab; ++v) {
      if (!std::isfinite(logits[v])) continue;
      row.push_back({live_[r].log_probability + logits[v] - normalizer, static_cast<int32_t>(r),
                     static_cast<int32_t>(v)});
    }
    const size_t keep = std::min(row.size(), width + 1);
    const auto better = [](const Candidate& a, const Candidate& b) {
      if (a.log_probability != b.log_probability) return a.log_probability > b.log_probability;
      return a.row != b.row ? a.row < b.row : a.token < b.token;
    };
    std::partial_sort(row.begin(), row.begin() + static_cast<std::ptrdiff_t>(keep), row.end(),
                      better);
    candidates.insert(candidates.end(), row.begin(),
                      row.begin() + static_cast<std::ptrdiff_t>(keep));
    if (r + 1 == branching) std::sort(candidates.begin(), candidates.end(), better);
  }

  std::vector<TextSequence> next;
  std::vector<int32_t> from, tokens;
  // what ranks behind the last that goes on is out, an end too: a beam of width 1 is greedy
  for (const Candidate& candidate : candidates) {
    if (next.size() == width) break;
    TextSequence text = live_[static_cast<size_t>(candidate.row)];
    text.log_probability = candidate.log_probability;
    if (candidate.token == vocabulary_.sep) {
      text.ended = true;
      finished_.push_back(std::move(text));
      continue;
    }
    text.tokens.push_back(candidate.token);
    next.push_back(std::move(text));
    from.push_back(candidate.row);
    tokens.push_back(candidate.token);
  }
  // a vocabulary too small for the width leaves rows empty: they run on as copies that can never
  // win
  while (next.size() < width) {
    TextSequence nothing;
    nothing.log_probability = -std::numeric_limits<double>::infinity();
    next.push_back(std::move(nothing));
    from.push_back(0);
    tokens.push_back(vocabulary_.sep);
  }
  live_ = std::move(next);
  inputs_ = std::move(tokens);
  decoder_.reorder(from);

  std::stable_sort(
      finished_.begin(), finished_.end(),
      [this](const TextSequence& a, const TextSequence& b) { return score(a) > score(b); });
  if (finished_.size() > width) finished_.resize(width);
  // a live text's log-probability only falls. With length_penalty <= 0 its score falls with it;
  // otherwise the longest possible length bounds how far the penalty could still lift it.
  if (finished_.size() == width) {
    const double longest = static_cast<double>(generator_->config().text_length);
    const double best_live = live_.front().log_probability;
    const double bound =
        length_penalty_ > 0 ? best_live / std::pow(longest, length_penalty_) : best_live;
    done_ = !(bound > score(finished_.back()));
  }
}

bool TextSession::step(int64_t count, const StopFlag* stop) {
  if (!prefilled_) {
    // weights are read here and not in the constructor, which runs while others may train them
    offsets_ = text_offsets(*generator_);
    decoder_.image_prefix(image_, stop);
    prefilled_ = true;
  }
  const int64_t last = generator_->config().text_length - 1;  // CLS takes one place
  for (int64_t i = 0; i < count && !done_; ++i) {
    if (stop) stop->check();
    advance(stop);
    if (position_ < first()) {
      inputs_.assign(inputs_.size(), vocabulary_.given[static_cast<size_t>(position_)]);
    } else if (beam_search_) {
      beam_position();
    } else {
      sample_position();
    }
    ++position_;
    if (position_ >= last) done_ = true;
  }
  return done_;
}

std::vector<TextSequence> TextSession::texts() const {
  if (!beam_search_) return live_;
  // what was cut at the text length competes with what ended
  std::vector<TextSequence> all = finished_;
  for (const TextSequence& text : live_) {
    if (std::isfinite(text.log_probability)) all.push_back(text);
  }
  std::stable_sort(all.begin(), all.end(), [this](const TextSequence& a, const TextSequence& b) {
    return score(a) > score(b);
  });
  if (all.size() > live_.size()) all.resize(live_.size());
  return all;
}

}  // namespace vilg
