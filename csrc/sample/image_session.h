#pragma once

#include <memory>
#include <span>
#include <vector>

#include "sample/decoder.h"

namespace vilg {

struct DrawOptions {
  uint64_t seed = 0;
  float temperature = 1.0f;  // 0: greedy
  int64_t top_k = 0;         // 0: off
  float top_p = 1.0f;        // 1: off
};

// Draws the image tokens of `rows` candidates of one prompt (docs/model.md, "Sampling"). The prompt
// and IMG run once; step() goes on by some tokens, so that the caller can show progress, preview
// and stop. Candidate r draws from the random stream first_stream + r: the same tokens come out
// however candidates are split into sessions.
class ImageSession {
 public:
  ImageSession(std::shared_ptr<Generator> generator, std::vector<int32_t> text,
               std::vector<uint8_t> text_valid, int64_t rows, uint32_t first_stream,
               const DrawOptions& options);

  // At most `count` tokens more; returns how many are drawn by now. After Stopped the session goes
  // on where it was.
  int64_t step(int64_t count, const StopFlag* stop);
  int64_t position() const { return position_; }
  int64_t rows() const { return decoder_.rows(); }
  // (rows, n); -1 where not yet drawn
  const std::vector<int32_t>& tokens() const { return tokens_; }
  // Sum of log P(z | text, earlier z) of the drawn tokens, a row each.
  const std::vector<double>& log_probabilities() const { return log_probabilities_; }
  size_t cache_bytes() const { return decoder_.cache_bytes(); }

 private:
  // The prompt, and what starts the image: logits_ are then those of the first image token.
  void prefill(const StopFlag* stop);
  // Hidden states of text tokens, each at its own position, (tokens, C).
  Tensor embed_text(std::span<const int32_t> ids, std::span<const int64_t> positions,
                    OpContext& context);
  void start_image(const StopFlag* stop);
  // The logits of one hidden state (1, C) as those of every candidate.
  void share_logits(const Tensor& x, const StopFlag* stop);
  // The token drawn last runs through the blocks and predicts the next, which is drawn: one step.
  void next_token(const StopFlag* stop);
  // At the decoder's position + `ahead`, or at `ahead` where `from_start`.
  void draw(uint64_t ahead, bool from_start, OpContext& context);
  void keep_drawn();

  std::shared_ptr<Generator> generator_;
  std::vector<int32_t> text_;
  std::vector<uint8_t> text_valid_;
  DrawOptions options_;
  Decoder decoder_;
  bool prefilled_ = false;
  int64_t position_ = 0;
  std::vector<int32_t> tokens_;
  std::vector<double> log_probabilities_;
  Tensor offsets_;  // (n, C)
  Tensor x_;        // (rows, C)
  Tensor logits_;   // (rows, Vz)
  Tensor drawn_;    // (rows)
  Tensor drawn_log_probabilities_;
  Tensor streams_;
  std::unique_ptr<RecordedWork> recorded_;  // next_token(), where the backend gains by it
  bool recordable_ = true;
};

}  // namespace vilg
