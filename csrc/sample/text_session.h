#pragma once

#include <memory>
#include <vector>

#include "sample/image_session.h"

namespace vilg {

// What a text session must know of the vocabulary.
struct TextTokens {
  int32_t cls = 0, sep = 0;
  std::vector<int32_t> banned;  // never drawn (PAD, CLS, UNK, MASK)
  std::vector<int32_t> given;   // what comes after CLS in any case (a question and its SEP)
};

struct TextSequence {
  std::vector<int32_t> tokens;  // without CLS, what is given, and SEP
  // Sum over the tokens and, where it ended, SEP: of each the logarithm of its share among the
  // tokens that may come there. So it is the probability with which sampling at temperature 1,
  // unfiltered, gives this text.
  double log_probability = 0;
  bool ended = false;  // false: cut at the text length
};

// Describes one image: `rows` sampled (or greedy) texts, or the `rows` best of a beam search of
// that width. In either, any token but SEP and the banned ones may come first (after what is
// given), and any but the banned ones later: no text is empty.
class TextSession {
 public:
  TextSession(std::shared_ptr<Generator> generator, std::vector<int32_t> image, int64_t rows,
              bool beam_search, float length_penalty, const TextTokens& vocabulary,
              const DrawOptions& options);

  // At most `count` tokens more; true when every text has ended.
  bool step(int64_t count, const StopFlag* stop);
  int64_t position() const { return position_; }
  // Sampled: in candidate order. Beams: best first, by log-probability / length^length_penalty.
  std::vector<TextSequence> texts() const;
  size_t cache_bytes() const { return decoder_.cache_bytes(); }

 private:
  void advance(const StopFlag* stop);
  void sample_position();
  void beam_position();
  double score(const TextSequence& sequence) const;
  // Where the first token comes that is not given.
  int64_t first() const { return static_cast<int64_t>(vocabulary_.given.size()); }

  std::shared_ptr<Generator> generator_;
  std::vector<int32_t> image_;
  bool beam_search_;
  float length_penalty_;
  TextTokens vocabulary_;
  DrawOptions options_;
  Decoder decoder_;
  bool prefilled_ = false;
  bool done_ = false;
  int64_t position_ = 0;  // tokens after CLS that are decided, the given ones included
  std::vector<TextSequence> live_;
  std::vector<TextSequence> finished_;  // beams
  std::vector<int32_t> inputs_;         // the last token of each row
  std::vector<float> host_logits_;
  Tensor offsets_, x_, logits_, ids_, drawn_, drawn_log_probabilities_, streams_;
};

}  // namespace vilg
