#pragma once

#include <array>
#include <functional>
#include <vector>

#include "model/generator.h"

namespace vilg {

// Runs new tokens of one prompt through the generator's blocks with caches of keys and values. What
// all rows (candidates or beams) see lies once in the prefix; what belongs to a row lies in its own
// cache, which holds only what later tokens can still see: the last g + 1 tokens in row layers,
// (k/2) g + k/2 + 1 in conv layers, all in column layers.
class Decoder {
 public:
  Decoder(Generator& generator, Direction direction, int64_t rows, int64_t prefix_capacity);

  int64_t rows() const { return rows_; }
  Generator& generator() const { return *generator_; }
  // Workspace of one pass over `tokens` tokens: hidden states, (tokens, C).
  Tensor hidden(int64_t tokens) const;

  void clear_prefix() { prefix_length_ = 0; }
  // Prefix tokens whose hidden states start as `x` (m, C), overwritten by the last block's output.
  // Each sees the whole prefix so far and all m, or only those before it where text is causal.
  void extend_prefix(const Tensor& x, int64_t m, const StopFlag* stop);
  // The whole image as prefix (image to text): IMG and the image tokens with their sparse pattern.
  void image_prefix(const std::vector<int32_t>& image, const StopFlag* stop);
  // Where the next step() stands. Text to image: the place in the grid as attention sees it, which
  // is the raster position p of the token unless the model's first place is another
  // (GeneratorConfig::first_place). Image to text: the text position j. Goes into memory of the
  // device, where step() reads it, so that a recorded step can be run again at another place.
  void move_to(int64_t position);
  const int32_t* position() const { return place_.as<int32_t>(); }
  // One new token a row, x (rows, C).
  void step(const Tensor& x, const StopFlag* stop);
  // logits (m, V) of hidden states x (m, C); x is overwritten by its norm.
  void head(const Tensor& x, int64_t m, const Tensor& logits, const StopFlag* stop);
  // Row r goes on from what was row from[r] (beams).
  void reorder(const std::vector<int32_t>& from);

  size_t cache_bytes() const { return cache_bytes_; }

 private:
  struct LayerCache {
    Tensor prefix_k, prefix_v;  // (H, prefix_capacity, D)
    Tensor own_k, own_v;        // (rows, H, capacity, D)
    int64_t capacity = 0;
  };
  // Slots by pattern: where position p is kept, and which slots p sees.
  int64_t own_capacity(Pattern pattern) const;
  int64_t own_slot(Pattern pattern, int64_t position) const;
  std::vector<int32_t> visible_slots(Pattern pattern, int64_t position) const;

  void layer_norm(const Tensor& out, const Tensor& x, int64_t m, Parameter& gamma, Parameter& beta,
                  OpContext& context);
  void linear(void* out, const void* x, int64_t m, Parameter& weight, Parameter& bias,
              Epilogue epilogue, const void* residual, OpContext& context);
  void run_blocks(const Tensor& x, int64_t m, OpContext& context,
                  const std::function<Tensor(int64_t)>& attend);
  // x += linear(branch), which goes through a norm first where the block has one there.
  void add_branch(const Tensor& x, const Tensor& branch, int64_t m, Parameter& weight,
                  Parameter& bias, Parameter* norm_weight, Parameter* norm_bias,
                  OpContext& context);
  void write_prefix(const LayerCache& cache, int64_t tokens, OpContext& context);
  void write_own(const LayerCache& cache, const int32_t* slot, OpContext& context);
  CacheWriteParams cache_write(int64_t tokens) const;
  AttentionDecodeParams attention_decode(const LayerCache& cache, int64_t rows,
                                         int64_t prefix_length) const;

  Generator* generator_;
  Direction direction_;
  int64_t rows_, prefix_capacity_, prefix_length_ = 0;
  DType cache_dtype_;
  std::vector<LayerCache> caches_;
  size_t cache_bytes_ = 0;
  // workspace for max(rows, 1) tokens, grown by extend_prefix where it needs more
  Tensor normed_, qkv_, attended_, wide_;
  int64_t workspace_tokens_ = 0;
  void reserve(int64_t tokens);
  // What step() reads: the position, then for each pattern that a layer has the slot of the new
  // token, how many slots it sees, and which.
  Tensor place_;
  std::vector<int32_t> host_place_;
  std::array<int64_t, kNumPatterns> place_offsets_{};  // 0: no layer has this pattern
};

}  // namespace vilg
