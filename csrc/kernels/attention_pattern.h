// Who attends to whom: the only place that knows it (docs/model.md, "Who attends to whom"). Plain
// C++, so that host and device code share it; positions count tokens of the stream from 0.
#pragma once

#include <cstdint>

#include "core/host_device.h"
#include "kernels/dims.h"

namespace vilg {

enum class Segment : int32_t { kText, kStart, kImage };

// What lies at a position of the stream: text token `index`, IMG (index 0), or image token `index`
// in raster order.
struct StreamToken {
  Segment segment;
  int64_t index;
};

VILG_HOST_DEVICE constexpr StreamToken stream_token(Direction direction, int64_t position,
                                                    const StreamSizes& sizes) {
  if (direction == Direction::kTextToImage) {
    if (position < sizes.text_length) return {Segment::kText, position};
    if (position == sizes.text_length) return {Segment::kStart, 0};
    return {Segment::kImage, position - sizes.text_length - 1};
  }
  if (position == 0) return {Segment::kStart, 0};
  if (position <= sizes.image_length()) return {Segment::kImage, position - 1};
  return {Segment::kText, position - 1 - sizes.image_length()};
}

VILG_HOST_DEVICE constexpr int64_t stream_position(Direction direction, StreamToken token,
                                                   const StreamSizes& sizes) {
  if (token.segment == Segment::kText) return sizes.text_start(direction) + token.index;
  const int64_t start = sizes.image_start(direction);
  return token.segment == Segment::kStart ? start : start + 1 + token.index;
}

// Whether two rows, or two columns, are close enough for the convolutional window.
VILG_HOST_DEVICE constexpr bool in_window(int64_t line, int64_t other, const StreamSizes& sizes) {
  const int64_t half = sizes.kernel / 2, apart = line < other ? other - line : line - other;
  return apart <= half || (sizes.wrapped_window && sizes.grid - apart <= half);
}

// Image token p as query, image token q as key.
VILG_HOST_DEVICE constexpr bool image_attends(Pattern pattern, Direction direction, int64_t p,
                                              int64_t q, const StreamSizes& sizes) {
  const bool causal = direction == Direction::kTextToImage;
  if (causal && q > p) return false;
  const int64_t grid = sizes.grid;
  switch (pattern) {
    case Pattern::kRow:  // causal: a window of grid + 1 tokens reaches the token right above
      return causal ? p - q <= grid : p / grid == q / grid;
    case Pattern::kColumn:
      return p % grid == q % grid;
    case Pattern::kConv:
      return in_window(p / grid, q / grid, sizes) && in_window(p % grid, q % grid, sizes);
    case Pattern::kFull:
      return true;
  }
  return false;
}

// Whether the token at position `query` sees the one at `key`, were all text tokens valid.
VILG_HOST_DEVICE constexpr bool attends(Pattern pattern, Direction direction, int64_t query,
                                        int64_t key, const StreamSizes& sizes) {
  const StreamToken from = stream_token(direction, query, sizes);
  const StreamToken to = stream_token(direction, key, sizes);
  if (direction == Direction::kTextToImage) {
    if (to.segment == Segment::kText) {
      return !sizes.causal_text || from.segment != Segment::kText || to.index <= from.index;
    }
    if (from.segment == Segment::kText) return false;
    if (to.segment == Segment::kStart) return true;
  } else {
    if (to.segment == Segment::kText)
      return from.segment == Segment::kText && to.index <= from.index;
    if (to.segment == Segment::kStart || from.segment != Segment::kImage) return true;
  }
  return from.segment == Segment::kImage &&
         image_attends(pattern, direction, from.index, to.index, sizes);
}

// The same with PAD tokens: nobody sees them, and a PAD query, whose output nobody reads, sees only
// itself so that its softmax is defined. text_valid: (T), 1 where not PAD; null: all valid.
VILG_HOST_DEVICE constexpr bool attends(Pattern pattern, Direction direction, int64_t query,
                                        int64_t key, const StreamSizes& sizes,
                                        const uint8_t* text_valid) {
  if (text_valid) {
    const StreamToken from = stream_token(direction, query, sizes);
    if (from.segment == Segment::kText && !text_valid[from.index]) return query == key;
    const StreamToken to = stream_token(direction, key, sizes);
    if (to.segment == Segment::kText && !text_valid[to.index]) return false;
  }
  return attends(pattern, direction, query, key, sizes);
}

// --- the same rules as lists of keys, for caches and gathered tiles ------------------------------

// How many text tokens, counted from the first, the query sees, were all valid.
VILG_HOST_DEVICE constexpr int64_t visible_text(Direction direction, StreamToken query,
                                                const StreamSizes& sizes) {
  const bool draws = direction == Direction::kTextToImage;
  if (query.segment == Segment::kText) {
    return draws && !sizes.causal_text ? sizes.text_length : query.index + 1;
  }
  return draws ? sizes.text_length : 0;
}

// Whether the query sees IMG.
VILG_HOST_DEVICE constexpr bool sees_start(Direction direction, StreamToken query) {
  return direction == Direction::kImageToText || query.segment != Segment::kText;
}

// Image tokens first, first + stride, ... (count of them), in raster order.
struct ImageRun {
  int64_t first, count, stride;
};

// The rows, or the columns, that the window around a line reaches: at most two runs, in ascending
// order, the second only where the window goes on at the opposite edge.
struct WindowLines {
  int64_t first, count, second_first, second_count;

  VILG_HOST_DEVICE constexpr int64_t total() const { return count + second_count; }
  VILG_HOST_DEVICE constexpr int64_t line(int64_t index) const {
    return index < count ? first + index : second_first + index - count;
  }
  // Only those up to and with `last`, which is one of them.
  VILG_HOST_DEVICE constexpr WindowLines up_to(int64_t last) const {
    if (second_count > 0 && last >= second_first) {
      return {first, count, second_first, last - second_first + 1};
    }
    return {first, last - first + 1, 0, 0};
  }
};

VILG_HOST_DEVICE constexpr WindowLines window_lines(int64_t line, const StreamSizes& sizes) {
  const int64_t grid = sizes.grid, half = sizes.kernel / 2;
  const int64_t low = line - half, high = line + half;
  if (sizes.wrapped_window && sizes.kernel < grid) {
    if (low < 0) return {0, high + 1, low + grid, -low};
    if (high >= grid) return {0, high - grid + 1, low, grid - low};
  }
  if (sizes.wrapped_window && sizes.kernel >= grid) return {0, grid, 0, 0};
  const int64_t first = low > 0 ? low : 0, last = high < grid ? high : grid - 1;
  return {first, last - first + 1, 0, 0};
}

// The key rows of an image query's window, in ascending order; its own comes last when drawing.
VILG_HOST_DEVICE constexpr WindowLines window_rows(Direction direction, StreamToken query,
                                                   const StreamSizes& sizes) {
  const int64_t row = query.index / sizes.grid;
  const WindowLines rows = window_lines(row, sizes);
  return direction == Direction::kTextToImage ? rows.up_to(row) : rows;
}

// Image keys of a query as num_image_runs() runs in ascending order, without overlap.
VILG_HOST_DEVICE constexpr int64_t num_image_runs(Pattern pattern, Direction direction,
                                                  StreamToken query, const StreamSizes& sizes) {
  if (query.segment != Segment::kImage) return direction == Direction::kImageToText ? 1 : 0;
  if (pattern != Pattern::kConv) return 1;
  const int64_t rows = window_rows(direction, query, sizes).total();
  const int64_t column = query.index % sizes.grid;
  const WindowLines columns = window_lines(column, sizes);
  const int64_t runs = columns.second_count > 0 ? 2 : 1;
  if (direction == Direction::kImageToText) return rows * runs;
  return (rows - 1) * runs + (columns.up_to(column).second_count > 0 ? 2 : 1);
}

VILG_HOST_DEVICE constexpr ImageRun image_run(Pattern pattern, Direction direction,
                                              StreamToken query, int64_t run,
                                              const StreamSizes& sizes) {
  const int64_t grid = sizes.grid;
  if (query.segment != Segment::kImage) return {0, grid * grid, 1};  // image to text only
  const bool causal = direction == Direction::kTextToImage;
  const int64_t p = query.index, row = p / grid, column = p % grid;
  switch (pattern) {
    case Pattern::kRow: {
      if (!causal) return {row * grid, grid, 1};
      const int64_t first = p > grid ? p - grid : 0;
      return {first, p - first + 1, 1};
    }
    case Pattern::kColumn:
      return {column, causal ? row + 1 : grid, grid};
    case Pattern::kConv: {
      WindowLines columns = window_lines(column, sizes);
      const int64_t runs = columns.second_count > 0 ? 2 : 1;
      const int64_t key_row = window_rows(direction, query, sizes).line(run / runs);
      if (causal && key_row == row) columns = columns.up_to(column);
      const int64_t start = key_row * grid;
      if (run % runs == 0) return {start + columns.first, columns.count, 1};
      return {start + columns.second_first, columns.second_count, 1};
    }
    case Pattern::kFull:
      return {0, causal ? p + 1 : grid * grid, 1};
  }
  return {0, 0, 1};
}

// --- the same rules in an order in which the keys of a query lie close together ------------------
// A place is a position in the pattern's own order of image tokens: column after column for the
// column pattern, raster order for the others. Of 32 bits, for a GPU divides those much faster.
// These know no wrapped window.

// The image token at a place, and as well the place of an image token, for the grid is square.
template <typename Int>
VILG_HOST_DEVICE constexpr Int image_at_place(Pattern pattern, Int place, Int grid) {
  return pattern == Pattern::kColumn ? place % grid * grid + place / grid : place;
}

// Places first .. last; none where last < first.
struct PlaceRange {
  int32_t first, last;
};

// The image keys of an image query: places first .. last, and of these the ones in columns left ..
// right of the lines of `grid` places.
struct ImageWindow {
  int32_t first, last, left, right;
};

VILG_HOST_DEVICE constexpr ImageWindow image_window(Pattern pattern, Direction direction,
                                                    int32_t place, const StreamSizes& sizes) {
  const bool causal = direction == Direction::kTextToImage;
  const auto grid = static_cast<int32_t>(sizes.grid);
  const int32_t line = place / grid, column = place - line * grid;
  ImageWindow window{0, causal ? place : grid * grid - 1, 0, grid - 1};
  switch (pattern) {
    case Pattern::kRow:
      window.first = !causal ? line * grid : place > grid ? place - grid : 0;
      if (!causal) window.last = line * grid + grid - 1;
      break;
    case Pattern::kColumn:
      window.first = line * grid;
      if (!causal) window.last = line * grid + grid - 1;
      break;
    case Pattern::kConv: {
      const auto half = static_cast<int32_t>(sizes.kernel / 2 < grid ? sizes.kernel / 2 : grid);
      window.left = column > half ? column - half : 0;
      window.right = column + half < grid ? column + half : grid - 1;
      window.first = (line > half ? line - half : 0) * grid + window.left;
      if (!causal) {
        window.last = (line + half < grid ? line + half : grid - 1) * grid + window.right;
      }
      break;
    }
    case Pattern::kFull:
      break;
  }
  return window;
}

// Outside of these places nobody at places first .. last sees an image key.
VILG_HOST_DEVICE constexpr PlaceRange image_keys_of(Pattern pattern, Direction direction,
                                                    PlaceRange queries, const StreamSizes& sizes) {
  const ImageWindow of_first = image_window(pattern, direction, queries.first, sizes);
  const ImageWindow of_last = image_window(pattern, direction, queries.last, sizes);
  // whole lines: a later query of another line can see further to the left, an earlier one further
  // to the right; but nobody who follows an order sees past the last query
  const int32_t line_end = of_last.last + static_cast<int32_t>(sizes.grid) - 1 - of_last.right;
  return {of_first.first - of_first.left,
          direction == Direction::kTextToImage ? queries.last : line_end};
}

// Outside of these places no image query sees any of the image keys at places first .. last.
VILG_HOST_DEVICE constexpr PlaceRange image_queries_of(Pattern pattern, Direction direction,
                                                       PlaceRange keys, const StreamSizes& sizes) {
  // without the order every pattern is symmetric
  PlaceRange range = image_keys_of(pattern, Direction::kImageToText, keys, sizes);
  if (direction == Direction::kTextToImage) {
    range.first = keys.first;
    if (pattern == Pattern::kRow) {
      const auto grid = static_cast<int32_t>(sizes.grid);
      range.last = keys.last + grid < grid * grid ? keys.last + grid : grid * grid - 1;
    }
  }
  return range;
}

// The earliest image token that a query at image token p or any later one still sees: what a
// text-to-image cache must keep from. (Column layers keep everything until the last row.)
VILG_HOST_DEVICE constexpr int64_t earliest_needed_image(Pattern pattern, int64_t p,
                                                         const StreamSizes& sizes) {
  const int64_t grid = sizes.grid;
  switch (pattern) {
    case Pattern::kRow:
      return p > grid ? p - grid : 0;
    case Pattern::kConv: {
      if (sizes.wrapped_window) return 0;  // the last row sees the first one again
      const int64_t half = sizes.kernel / 2, row = p / grid, column = p % grid;
      // this row's window begins `half` to the left; the next row's begins at column 0, one row
      // later, and so may reach further back
      const int64_t own_row = row > half ? row - half : 0;
      const int64_t own = own_row * grid + (column > half ? column - half : 0);
      if (row + 1 >= grid) return own;
      const int64_t next_row = row + 1 > half ? row + 1 - half : 0;
      return own < next_row * grid ? own : next_row * grid;
    }
    case Pattern::kColumn:
      // a later query of a column sees its first row; columns left of p are over in the last row
      return p / grid + 1 < grid ? 0 : p % grid;
    case Pattern::kFull:
      return 0;
  }
  return 0;
}

}  // namespace vilg
