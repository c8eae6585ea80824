// Who sees whom, for the attention kernels: csrc/kernels/attention_pattern.h as words of 32 keys.
//
// Kernels see a stream as two segments of places: the shared one, which is the text followed by
// IMG, and the image in the pattern's own order (image_at_place), in which the image keys of
// neighbouring queries are neighbours. Both are cut into tiles of 32 places.
#pragma once

#include "core/error.h"
#include "cuda/device.h"
#include "kernels/attention.h"
#include "kernels/attention_pattern.h"

namespace vilg::cuda {

inline constexpr int kTilePlaces = 32;
inline constexpr float kLog2E = 1.4426950408889634f, kLn2 = 0.6931471805599453f;

// What every attention kernel is told of its stream. Sizes are computed beforehand: parameters of a
// kernel cost it no registers.
struct AttentionStream {
  StreamSizes sizes;
  Pattern pattern;
  Direction direction;
  const uint8_t* text_valid;  // (B, T) or null
  AttentionStrides qkv_strides, out_strides;
  int heads, head_size;
  int text, grid, image, length;    // tokens; the side of the image
  int text_at, start_at, image_at;  // positions of the first ones, and of IMG
  int qkv_bytes, out_bytes;         // from token to token, where 32 bits hold it
  float scale, scale2, size2;       // scale2: for scores to base 2; size2: without its sign

  static AttentionStream of(const AttentionParams& p) {
    VILG_CHECK(!p.sizes.wrapped_window || p.pattern != Pattern::kConv, kUnsupported,
               "Expected a convolutional window that ends at the edges of the grid, received a "
               "wrapped one, which only the CPU has; drawing on the GPU has it too");
    AttentionStream s{};
    s.sizes = p.sizes, s.pattern = p.pattern, s.direction = p.direction;
    s.text_valid = p.text_valid;
    s.qkv_strides = p.qkv_strides, s.out_strides = p.out_strides;
    s.heads = static_cast<int>(p.heads), s.head_size = static_cast<int>(p.head_size);
    s.text = static_cast<int>(p.sizes.text_length), s.grid = static_cast<int>(p.sizes.grid);
    s.image = s.grid * s.grid, s.length = s.text + 1 + s.image;
    s.text_at = static_cast<int>(p.sizes.text_start(p.direction));
    s.start_at = static_cast<int>(p.sizes.image_start(p.direction)), s.image_at = s.start_at + 1;
    const auto element = static_cast<int64_t>(dtype_size(p.dtype));
    s.qkv_bytes = static_cast<int>(p.qkv_strides.token * element);
    s.out_bytes = static_cast<int>(p.out_strides.token * element);
    s.scale = p.scale, s.scale2 = p.scale * kLog2E;
    // not 0, for a score that is not seen is -infinity before the scale
    s.size2 = max(fabsf(s.scale2), 1e-30f);
    return s;
  }
  VILG_HOST_DEVICE int places(bool of_image) const { return of_image ? image : text + 1; }
  VILG_HOST_DEVICE int position(bool of_image, int place) const {
    if (of_image) return image_at + image_at_place(pattern, place, grid);
    return place < text ? text_at + place : start_at;
  }
};

// Positions of one place after another, with a single division.
struct PlaceWalk {
  int place, within, line, wrap, step;  // of `within` places to a line, `step` positions apart
  int start_place, start;

  VILG_HOST_DEVICE static PlaceWalk from(const AttentionStream& s, bool image, int place) {
    if (image && s.pattern == Pattern::kColumn) {
      const int line = place / s.grid;
      return {place, place - line * s.grid, s.image_at + line, s.grid, s.grid, -1, 0};
    }
    return {place,     place, image ? s.image_at : s.text_at, INT32_MAX, 1, image ? -1 : s.text,
            s.start_at};
  }
  VILG_HOST_DEVICE int position() const {
    return place == start_place ? start : within * step + line;
  }
  VILG_HOST_DEVICE void advance(int places) {
    place += places;
    within += places;
    while (within >= wrap) within -= wrap, ++line;
  }
};

// What one query sees.
struct Sight {
  int text_end = 0;  // the shared places before it, as far as they are valid text
  int alone = -1;    // and this shared place: IMG, or a PAD token itself
  int first = 0, last = -1, left = 0, right = 0;  // image keys, as in ImageWindow
};

// Nothing for places past the end of the segment.
VILG_HOST_DEVICE inline Sight sight_of(const AttentionStream& s, int sample, bool image,
                                       int place) {
  Sight sight;
  if (place >= s.places(image)) return sight;
  StreamToken token{Segment::kText, place};
  if (image) {
    token = {Segment::kImage, 0};  // where in the image does not matter outside of it
    const ImageWindow window = image_window(s.pattern, s.direction, place, s.sizes);
    sight.first = window.first, sight.last = window.last;
    sight.left = window.left, sight.right = window.right;
  } else {
    if (place == s.text) token = {Segment::kStart, 0};
    if (place < s.text && s.text_valid && !s.text_valid[int64_t{sample} * s.text + place]) {
      sight.alone = place;
      return sight;
    }
    if (s.direction == Direction::kImageToText) {
      sight.last = s.image - 1, sight.right = s.grid - 1;
    }
  }
  sight.text_end = static_cast<int>(visible_text(s.direction, token, s.sizes));
  if (sees_start(s.direction, token)) sight.alone = s.text;
  return sight;
}

// The lowest `count` bits, none to all.
VILG_HOST_DEVICE constexpr uint32_t low_bits(int count) {
  return count >= 32 ? 0xffffffffu : count <= 0 ? 0u : (1u << count) - 1u;
}

// Bit i: whether the query sees shared place `base` + i. `valid`: which of them are valid text.
VILG_HOST_DEVICE inline uint32_t shared_word(const Sight& sight, int base, uint32_t valid) {
  const int alone = sight.alone - base;
  return (low_bits(sight.text_end - base) & valid) | (alone >= 0 && alone < 32 ? 1u << alone : 0u);
}

// Bit i: whether the query sees image place `base` + i.
VILG_HOST_DEVICE inline uint32_t image_word(const Sight& sight, int base, int grid) {
  const uint32_t run = low_bits(sight.last + 1 - base) & ~low_bits(sight.first - base);
  if (run == 0 || sight.right - sight.left + 1 >= grid) return run;
  uint32_t columns = 0;
  for (int line = base / grid * grid - base; line < kTilePlaces; line += grid) {
    columns |= low_bits(line + sight.right + 1) & ~low_bits(line + sight.left);
  }
  return run & columns;
}

// The 32 places from `base` that are valid text, in every lane. All lanes must call.
__device__ __forceinline__ uint32_t valid_text(const AttentionStream& s, int sample, int base) {
  const int place = base + lane_id();
  return ballot(place < s.text &&
                (!s.text_valid || s.text_valid[int64_t{sample} * s.text + place] != 0));
}

// A run of places in one segment.
struct Places {
  bool image;
  int first, count;
};

// Tiles in both segments, in chunks of up to `chunk_tiles` tiles that lie in one segment each: what
// a block goes through.
struct TileChunks {
  int count, shared_chunks;
  int shared_first, shared_tiles, image_first, image_tiles;

  VILG_HOST_DEVICE static TileChunks over(PlaceRange shared, PlaceRange image, int chunk_tiles) {
    TileChunks c{};
    if (shared.first <= shared.last) {
      c.shared_first = shared.first / kTilePlaces;
      c.shared_tiles = shared.last / kTilePlaces + 1 - c.shared_first;
    }
    if (image.first <= image.last) {
      c.image_first = image.first / kTilePlaces;
      c.image_tiles = image.last / kTilePlaces + 1 - c.image_first;
    }
    c.shared_chunks = (c.shared_tiles + chunk_tiles - 1) / chunk_tiles;
    c.count = c.shared_chunks + (c.image_tiles + chunk_tiles - 1) / chunk_tiles;
    return c;
  }
  VILG_HOST_DEVICE Places at(int chunk, int chunk_tiles) const {
    const bool image = chunk >= shared_chunks;
    const int tile = (image ? chunk - shared_chunks : chunk) * chunk_tiles;
    const int left = (image ? image_tiles : shared_tiles) - tile;
    return {image, ((image ? image_first : shared_first) + tile) * kTilePlaces,
            (left < chunk_tiles ? left : chunk_tiles) * kTilePlaces};
  }
};

// All tiles with keys that some of these queries see.
VILG_HOST_DEVICE inline TileChunks key_chunks(const AttentionStream& s, const Places& queries,
                                              int chunk_tiles) {
  const bool draws = s.direction == Direction::kTextToImage;
  const int start = s.text, end = s.image - 1;
  PlaceRange shared{0, start}, image{0, draws ? -1 : end};
  if (queries.image) {
    if (!draws) shared.first = start;  // of the shared places they see IMG only
    const int last = queries.first + queries.count - 1;
    image =
        image_keys_of(s.pattern, s.direction, {queries.first, last < end ? last : end}, s.sizes);
  }
  return TileChunks::over(shared, image, chunk_tiles);
}

// All tiles with queries that see some of these keys.
VILG_HOST_DEVICE inline TileChunks query_chunks(const AttentionStream& s, const Places& keys,
                                                int chunk_tiles) {
  const bool draws = s.direction == Direction::kTextToImage;
  const int start = s.text, end = s.image - 1, last = keys.first + keys.count - 1;
  PlaceRange shared{0, start}, image{0, end};
  if (keys.image) {
    if (draws) shared.last = -1;
    image =
        image_queries_of(s.pattern, s.direction, {keys.first, last < end ? last : end}, s.sizes);
  } else if (!draws && last < start) {
    image.last = -1;  // the text is nothing to the image
  }
  return TileChunks::over(shared, image, chunk_tiles);
}

// Which places of which head and sample a block has: blocks of `block_places` places, first those
// of the shared segment, then those of the image. The grid is (blocks of a head, heads, samples).
struct AttentionBlock {
  int sample, head, head_index;  // head_index: over all samples
  Places places;

  VILG_HOST_DEVICE static int shared_blocks(const AttentionStream& s, int block_places) {
    return (s.places(false) + block_places - 1) / block_places;
  }
  VILG_HOST_DEVICE static int blocks_per_head(const AttentionStream& s, int block_places) {
    return shared_blocks(s, block_places) + (s.image + block_places - 1) / block_places;
  }
  // The block with number `index` of its head.
  VILG_HOST_DEVICE static AttentionBlock at(const AttentionStream& s, int sample, int head,
                                            int index, int block_places) {
    const int shared = shared_blocks(s, block_places);
    const bool image = index >= shared;
    return {sample,
            head,
            sample * s.heads + head,
            {image, (image ? index - shared : index) * block_places, block_places}};
  }
};

VILG_HOST_DEVICE inline int64_t head_offset(const AttentionStrides& strides,
                                            const AttentionBlock& block) {
  return block.sample * strides.batch + block.head * strides.head;
}

// What the backward pass keeps of a query: the log-sum-exp of its scores to base 2, and the product
// of its output and the output's gradient.
struct alignas(8) QueryStatistics {
  float lse = 0, delta = 0;
};
VILG_HOST_DEVICE inline int64_t statistics_index(const AttentionStream& s, int head_index,
                                                 bool image, int place) {
  return int64_t{head_index} * s.length + (image ? s.text + 1 : 0) + place;
}
inline size_t statistics_bytes(const AttentionStream& s, int64_t batch) {
  return static_cast<size_t>(batch * s.heads * s.length) * sizeof(QueryStatistics);
}

}  // namespace vilg::cuda
