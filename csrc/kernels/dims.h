// The letters that kernels use for sizes:
//   B batch         T text length (M of the papers)   N stream length     C channels       H heads
//   D head size     V vocabulary                      G grid side         S image side     K kernel
//   side
#pragma once

#include <cstdint>

namespace vilg {

// Which segment comes first, and with it the mask (docs/model.md, "Streams").
enum class Direction : int32_t { kTextToImage, kImageToText };

// The image pattern of one layer.
enum class Pattern : int32_t { kRow, kColumn, kConv, kFull };
inline constexpr int kNumPatterns = 4;

// text to image: [text (T) | IMG | image (G*G)];  image to text: [IMG | image (G*G) | text (T)]
struct StreamSizes {
  int64_t text_length;  // T, with CLS and SEP
  int64_t grid;         // G
  int64_t kernel;       // K, odd: side of the convolutional window
  // Variants of public models (docs/model.md, "Generators of other families").
  bool causal_text = false;     // drawing, text tokens see those before them only
  bool wrapped_window = false;  // the window goes on at the opposite edges of the grid

  constexpr int64_t image_length() const { return grid * grid; }
  constexpr int64_t stream_length() const { return text_length + 1 + grid * grid; }
  constexpr int64_t text_start(Direction d) const {
    return d == Direction::kTextToImage ? 0 : 1 + grid * grid;
  }
  constexpr int64_t image_start(Direction d) const {  // where IMG is; z1 follows
    return d == Direction::kTextToImage ? text_length : 0;
  }
};

}  // namespace vilg
