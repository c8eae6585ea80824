// The words and ranges that the attention kernels work with, against the predicate of
// attention_pattern.h. On the host alone: the functions are the same ones.
#include "cuda/attention_sight.h"

#include <set>

#include "tests/attention_problem.h"

namespace vilg::test {
namespace {

using cuda::AttentionBlock;
using cuda::AttentionStream;
using cuda::kTilePlaces;
using cuda::Places;
using cuda::Sight;
using cuda::TileChunks;

AttentionStream stream_of(Pattern pattern, Direction direction, const StreamSizes& sizes,
                          const std::vector<uint8_t>& valid) {
  AttentionParams p;
  p.sizes = sizes, p.pattern = pattern, p.direction = direction;
  p.text_valid = valid.empty() ? nullptr : valid.data();
  p.heads = 3;
  return AttentionStream::of(p);
}

template <typename Body>
void for_each_stream(const Body& body) {
  for (Pattern pattern : kPatterns) {
    for (Direction direction : kDirections) {
      for (int64_t grid : {1, 2, 5, 8, 13}) {
        for (int64_t kernel : {1, 3, 7, 41}) {
          if (kernel > 1 && pattern != Pattern::kConv) continue;
          for (int64_t text : {1, 31, 32, 40}) {
            const StreamSizes sizes{text, grid, kernel, /*causal_text=*/grid == 5};
            std::vector<uint8_t> valid;
            body(stream_of(pattern, direction, sizes, valid));
            for (int64_t j = 0; j < text; ++j) valid.push_back(j % 3 != 1);
            body(stream_of(pattern, direction, sizes, valid));
          }
        }
      }
    }
  }
}

std::string name(const AttentionStream& s) {
  return format("pattern %d direction %d T %d G %d K %d", static_cast<int>(s.pattern),
                static_cast<int>(s.direction), s.text, s.grid, static_cast<int>(s.sizes.kernel));
}

int tiles(const AttentionStream& s, bool image) {
  return (s.places(image) + kTilePlaces - 1) / kTilePlaces;
}

uint32_t word(const AttentionStream& s, const Sight& sight, bool image, int base) {
  if (image) return image_word(sight, base, s.grid);
  uint32_t valid = 0;
  for (int i = 0; i < 32; ++i) {
    if (base + i < s.text && (!s.text_valid || s.text_valid[base + i])) valid |= 1u << i;
  }
  return shared_word(sight, base, valid);
}

std::set<int> tiles_of(const TileChunks& chunks, int chunk_tiles, bool image) {
  std::set<int> tiles;
  for (int c = 0; c < chunks.count; ++c) {
    const Places places = chunks.at(c, chunk_tiles);
    EXPECT(places.count > 0 && places.count <= chunk_tiles * kTilePlaces, "chunk of %d",
           places.count);
    if (places.image != image) continue;
    for (int i = 0; i < places.count; i += kTilePlaces) {
      EXPECT(tiles.insert((places.first + i) / kTilePlaces).second, "the same tile twice");
    }
  }
  return tiles;
}

VILG_TEST(cuda_attention_places_are_all_positions) {
  for_each_stream([](const AttentionStream& s) {
    std::set<int64_t> positions;
    for (bool image : {false, true}) {
      for (int i = 0; i < s.places(image); ++i) positions.insert(s.position(image, i));
    }
    EXPECT(static_cast<int64_t>(positions.size()) == s.sizes.stream_length() &&
               *positions.begin() == 0 && *positions.rbegin() == s.sizes.stream_length() - 1,
           "%s", name(s).c_str());
  });
}

VILG_TEST(cuda_attention_words_are_the_predicate) {
  for_each_stream([](const AttentionStream& s) {
    int wrong = 0;
    for (bool image : {false, true}) {
      for (int place = 0; place < tiles(s, image) * kTilePlaces; ++place) {
        const Sight sight = sight_of(s, 0, image, place);
        for (bool key_image : {false, true}) {
          for (int tile = 0; tile < tiles(s, key_image); ++tile) {
            const uint32_t seen = word(s, sight, key_image, tile * kTilePlaces);
            for (int i = 0; i < kTilePlaces; ++i) {
              const int key = tile * kTilePlaces + i;
              const bool expected = place < s.places(image) && key < s.places(key_image) &&
                                    attends(s.pattern, s.direction, s.position(image, place),
                                            s.position(key_image, key), s.sizes, s.text_valid);
              wrong += expected != static_cast<bool>(seen >> i & 1u);
            }
          }
        }
      }
    }
    EXPECT(wrong == 0, "%s: %d pairs", name(s).c_str(), wrong);
  });
}

// For blocks of keys and of queries: every pair that attends lies in a tile of the block's chunks.
VILG_TEST(cuda_attention_chunks_miss_nothing) {
  for_each_stream([](const AttentionStream& s) {
    for (int block_places : {32, 128}) {
      for (int index = 0; index < AttentionBlock::blocks_per_head(s, block_places); ++index) {
        const AttentionBlock block = AttentionBlock::at(s, 2, 1, index, block_places);
        EXPECT(block.head_index == 7, "head");
        const TileChunks keys = key_chunks(s, block.places, 3);
        const TileChunks queries = query_chunks(s, block.places, 2);
        const int end = std::min(block.places.first + block_places, s.places(block.places.image));
        for (bool image : {false, true}) {
          const std::set<int> key_tiles = tiles_of(keys, 3, image);
          const std::set<int> query_tiles = tiles_of(queries, 2, image);
          int missed = 0;
          for (int mine = block.places.first; mine < end; ++mine) {
            for (int other = 0; other < s.places(image); ++other) {
              const int64_t a = s.position(block.places.image, mine), b = s.position(image, other);
              if (attends(s.pattern, s.direction, a, b, s.sizes, s.text_valid)) {
                missed += !key_tiles.count(other / kTilePlaces);
              }
              if (attends(s.pattern, s.direction, b, a, s.sizes, s.text_valid)) {
                missed += !query_tiles.count(other / kTilePlaces);
              }
            }
          }
          EXPECT(missed == 0, "%s block %d of %d places: %d pairs", name(s).c_str(), index,
                 block_places, missed);
        }
      }
    }
  });
}

// What the speed of the kernels rests on: how many tiles the 128 queries of a block need.
VILG_TEST(cuda_attention_chunks_are_few) {
  const struct {
    Pattern pattern;
    int drawing, describing;
  } cases[] = {{Pattern::kRow, 5, 4},
               {Pattern::kColumn, 4, 4},
               {Pattern::kConv, 9, 14},
               {Pattern::kFull, 20, 32}};
  for (const auto& [pattern, drawing, describing] : cases) {
    for (Direction direction : kDirections) {
      const AttentionStream s = stream_of(pattern, direction, {127, 32, 11}, {});
      const bool draws = direction == Direction::kTextToImage;
      const TileChunks keys = key_chunks(s, {true, 512, 128}, 4);
      EXPECT(keys.image_tiles == (draws ? drawing : describing), "%s: %d image tiles",
             name(s).c_str(), keys.image_tiles);
      EXPECT(keys.shared_tiles == (draws ? 4 : 1), "%s: %d shared tiles", name(s).c_str(),
             keys.shared_tiles);
      const TileChunks queries = query_chunks(s, {true, 512, 128}, 4);
      const int expected = pattern == Pattern::kFull && draws ? 16 : draws ? drawing : describing;
      EXPECT(queries.image_tiles == expected && queries.shared_tiles == (draws ? 0 : 4),
             "%s: %d and %d query tiles", name(s).c_str(), queries.image_tiles,
             queries.shared_tiles);
    }
  }
}

}  // namespace
}  // namespace vilg::test
