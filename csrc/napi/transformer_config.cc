#include "napi/transformer_config.h"

namespace vilg::binding {

TransformerConfig transformer_config(const Argument& argument) {
  constexpr int64_t kMaxSize = int64_t{1} << 31;  // the model's own limits are lower
  const auto size = [&](const char* name) { return argument[name].integer(1, kMaxSize); };
  TransformerConfig config;
  config.layers = size("layers"), config.hidden = size("hidden"), config.heads = size("heads");
  config.text_vocab = size("textVocab"), config.image_vocab = size("imageVocab");
  config.text_length = size("textLength");
  config.grid = size("grid"), config.kernel = size("kernel");
  config.full_attention = argument["fullAttention"].boolean();
  for (const int64_t pattern : argument["patterns"].integers(0, kNumPatterns - 1)) {
    config.patterns.push_back(static_cast<Pattern>(pattern));
  }
  config.validate();
  return config;
}

}  // namespace vilg::binding
