#include <vector>

#include "kernels/attention_pattern.h"
#include "tests/harness.h"

namespace vilg::test {
namespace {

constexpr Pattern kPatterns[] = {Pattern::kRow, Pattern::kColumn, Pattern::kConv, Pattern::kFull};
constexpr Direction kDirections[] = {Direction::kTextToImage, Direction::kImageToText};

// A second enumerator that shares nothing with the predicate: it walks over rows and columns and
// draws the keys of each query into a dense matrix.
class DenseMask {
 public:
  DenseMask(Pattern pattern, Direction direction, const StreamSizes& sizes)
      : DenseMask(pattern, direction, static_cast<int>(sizes.text_length),
                  static_cast<int>(sizes.grid), static_cast<int>(sizes.kernel), sizes.causal_text,
                  sizes.wrapped_window) {}
  DenseMask(Pattern pattern, Direction direction, int T, int G, int K, bool causal_text,
            bool wrapped)
      : length_(T + 1 + G * G), cells_(static_cast<size_t>(length_) * length_, 0) {
    const bool draws = direction == Direction::kTextToImage;
    const int text = draws ? 0 : 1 + G * G, start = draws ? T : 0, image = start + 1;
    if (draws) {
      for (int i = 0; i < length_; ++i) {
        for (int j = 0; j < T; ++j) {
          if (!causal_text || i >= T || j <= i) set(i, text + j);
        }
      }
      for (int i = start; i < length_; ++i) set(i, start);
    } else {
      for (int i = 0; i < length_; ++i) set(i, start);
      for (int z = 0; z < G * G; ++z) {
        set(start, image + z);
        for (int j = 0; j < T; ++j) set(text + j, image + z);
      }
      for (int i = 0; i < T; ++i) {
        for (int j = 0; j <= i; ++j) set(text + i, text + j);
      }
    }
    for (int row = 0; row < G; ++row) {
      for (int column = 0; column < G; ++column) {
        const int query = image + row * G + column;
        const auto see = [&](int r, int c) {
          if (r >= 0 && r < G && c >= 0 && c < G) set(query, image + r * G + c);
        };
        switch (pattern) {
          case Pattern::kRow:  // drawing: this row up to here, the row above from here
            for (int c = 0; c < G; ++c) {
              if (!draws || c <= column) see(row, c);
              if (draws && c >= column) see(row - 1, c);
            }
            break;
          case Pattern::kColumn:
            for (int r = 0; r < (draws ? row + 1 : G); ++r) see(r, column);
            break;
          case Pattern::kConv:
            for (int r = row - (K - 1) / 2; r <= row + (K - 1) / 2; ++r) {
              for (int c = column - (K - 1) / 2; c <= column + (K - 1) / 2; ++c) {
                const int y = wrapped ? (r % G + G) % G : r, x = wrapped ? (c % G + G) % G : c;
                if (!draws || y < row || (y == row && x <= column)) see(y, x);
              }
            }
            break;
          case Pattern::kFull:
            for (int r = 0; r < G; ++r) {
              for (int c = 0; c < G; ++c) {
                if (!draws || r < row || (r == row && c <= column)) see(r, c);
              }
            }
            break;
        }
      }
    }
  }
  bool sees(int i, int j) const { return cells_[static_cast<size_t>(i) * length_ + j]; }

 private:
  void set(int i, int j) { cells_[static_cast<size_t>(i) * length_ + j] = 1; }
  int length_;
  std::vector<char> cells_;
};

template <typename Body>
void for_each_mask(const Body& body) {
  for (Pattern pattern : kPatterns) {
    for (Direction direction : kDirections) {
      for (int grid = 1; grid <= 8; ++grid) {
        for (int kernel = 1; kernel <= 17; kernel += 2) {
          if (kernel > 1 && pattern != Pattern::kConv) continue;
          for (int text : {1, 5}) {
            body(pattern, direction, StreamSizes{text, grid, kernel});
            body(pattern, direction, StreamSizes{text, grid, kernel, true, true});
          }
        }
      }
    }
  }
}

}  // namespace

VILG_TEST(attention_pattern_predicate) {
  for_each_mask([](Pattern pattern, Direction direction, const StreamSizes& sizes) {
    const DenseMask mask(pattern, direction, sizes);
    const int length = static_cast<int>(sizes.stream_length());
    int wrong = 0;
    for (int i = 0; i < length; ++i) {
      for (int j = 0; j < length; ++j) {
        wrong += attends(pattern, direction, i, j, sizes) != mask.sees(i, j);
        if (i == j) wrong += !attends(pattern, direction, i, j, sizes);
      }
    }
    EXPECT(wrong == 0, "%d pairs: pattern %d direction %d text %d grid %d kernel %d", wrong,
           static_cast<int>(pattern), static_cast<int>(direction),
           static_cast<int>(sizes.text_length), static_cast<int>(sizes.grid),
           static_cast<int>(sizes.kernel));
  });
}

VILG_TEST(attention_pattern_pair_counts) {
  // docs/kernels.md: counted by a program of its own, for 128 text tokens that all see each other
  // and no IMG; T = 127 and IMG lie in the same places, but the 127 text tokens do not see IMG
  const StreamSizes sizes{127, 32, 11};
  const struct {
    Pattern pattern;
    int64_t pairs;
  } cases[] = {{Pattern::kRow, 180720},
               {Pattern::kColumn, 164352},
               {Pattern::kConv, 199810},
               {Pattern::kFull, 672256}};
  for (const auto& c : cases) {
    int64_t pairs = 0;
    for (int64_t i = 0; i < sizes.stream_length(); ++i) {
      for (int64_t j = 0; j < sizes.stream_length(); ++j) {
        pairs += attends(c.pattern, Direction::kTextToImage, i, j, sizes);
      }
    }
    EXPECT(pairs == c.pairs - 127, "pattern %d: %lld pairs", static_cast<int>(c.pattern),
           static_cast<long long>(pairs));
  }
}

VILG_TEST(attention_pattern_positions) {
  for (Direction direction : kDirections) {
    const StreamSizes sizes{5, 3, 3};
    int64_t counts[3] = {};
    for (int64_t i = 0; i < sizes.stream_length(); ++i) {
      const StreamToken token = stream_token(direction, i, sizes);
      ++counts[static_cast<int>(token.segment)];
      EXPECT(stream_position(direction, token, sizes) == i, "position %d", static_cast<int>(i));
    }
    EXPECT(counts[0] == 5 && counts[1] == 1 && counts[2] == 9, "%d %d %d",
           static_cast<int>(counts[0]), static_cast<int>(counts[1]), static_cast<int>(counts[2]));
    EXPECT(stream_token(direction, sizes.text_start(direction), sizes).segment == Segment::kText,
           "text starts elsewhere");
    EXPECT(stream_token(direction, sizes.image_start(direction), sizes).segment == Segment::kStart,
           "IMG is elsewhere");
  }
}

VILG_TEST(attention_pattern_padding) {
  const StreamSizes sizes{4, 2, 3};
  const uint8_t valid[] = {1, 0, 1, 0};
  for (Direction direction : kDirections) {
    for (int64_t i = 0; i < sizes.stream_length(); ++i) {
      for (int64_t j = 0; j < sizes.stream_length(); ++j) {
        const int64_t ti = i - sizes.text_start(direction), tj = j - sizes.text_start(direction);
        const bool query_is_pad = ti == 1 || ti == 3, key_is_pad = tj == 1 || tj == 3;
        const bool plain = attends(Pattern::kConv, direction, i, j, sizes);
        const bool expected = query_is_pad ? i == j : plain && !key_is_pad;
        EXPECT(attends(Pattern::kConv, direction, i, j, sizes, valid) == expected, "%d sees %d",
               static_cast<int>(i), static_cast<int>(j));
        EXPECT(attends(Pattern::kConv, direction, i, j, sizes, nullptr) == plain, "%d sees %d",
               static_cast<int>(i), static_cast<int>(j));
      }
    }
  }
}

VILG_TEST(attention_pattern_runs) {
  for_each_mask([](Pattern pattern, Direction direction, const StreamSizes& sizes) {
    const int64_t length = sizes.stream_length(), image = sizes.image_length();
    int wrong = 0;
    for (int64_t i = 0; i < length; ++i) {
      const StreamToken query = stream_token(direction, i, sizes);
      std::vector<int> seen(static_cast<size_t>(image), 0);
      int64_t before = -1;
      const int64_t runs = num_image_runs(pattern, direction, query, sizes);
      for (int64_t r = 0; r < runs; ++r) {
        const ImageRun run = image_run(pattern, direction, query, r, sizes);
        wrong += run.count < 1;
        for (int64_t k = 0; k < run.count; ++k) {
          const int64_t q = run.first + k * run.stride;
          wrong += q <= before || q >= image;  // ascending, without overlap
          before = q;
          if (q < image) ++seen[static_cast<size_t>(q)];
        }
      }
      for (int64_t j = 0; j < length; ++j) {
        const StreamToken key = stream_token(direction, j, sizes);
        bool listed = key.segment == Segment::kStart && sees_start(direction, query);
        if (key.segment == Segment::kImage) listed = seen[static_cast<size_t>(key.index)] == 1;
        if (key.segment == Segment::kText) {
          listed = key.index < visible_text(direction, query, sizes);
        }
        wrong += listed != attends(pattern, direction, i, j, sizes);
      }
    }
    EXPECT(wrong == 0, "%d differences: pattern %d direction %d grid %d kernel %d", wrong,
           static_cast<int>(pattern), static_cast<int>(direction), static_cast<int>(sizes.grid),
           static_cast<int>(sizes.kernel));
  });
}

VILG_TEST(attention_pattern_earliest_needed) {
  for_each_mask([](Pattern pattern, Direction direction, const StreamSizes& sizes) {
    if (direction == Direction::kImageToText) return;
    int64_t needed = sizes.image_length();
    for (int64_t p = sizes.image_length() - 1; p >= 0; --p) {
      for (int64_t q = p; q >= 0; --q) {
        if (image_attends(pattern, direction, p, q, sizes)) needed = std::min(needed, q);
      }
      // of a wrapped window more is kept than needed
      if (sizes.wrapped_window && pattern == Pattern::kConv) {
        EXPECT(earliest_needed_image(pattern, p, sizes) <= needed, "token %d", static_cast<int>(p));
        continue;
      }
      EXPECT(earliest_needed_image(pattern, p, sizes) == needed,
             "pattern %d grid %d kernel %d token %d: %d, not %d", static_cast<int>(pattern),
             static_cast<int>(sizes.grid), static_cast<int>(sizes.kernel), static_cast<int>(p),
             static_cast<int>(earliest_needed_image(pattern, p, sizes)), static_cast<int>(needed));
    }
  });
}

}  // namespace vilg::test
