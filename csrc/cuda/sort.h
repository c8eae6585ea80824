#pragma once

#include "core/memory.h"
#include "cuda/queue.h"

namespace vilg::cuda {

// The numbers 0 .. count-1 in the order of a key each, lower numbers first among equal keys: what
// sums over rows of equal keys need to have a fixed order. Fill keys(), then sort().
class SortedPositions {
 public:
  SortedPositions(Queue& queue, int64_t count, uint64_t largest_key);
  uint32_t* keys() const { return keys_; }
  void sort(Queue& queue);
  // After sort(): in the new order.
  const uint32_t* sorted_keys() const { return keys_; }
  const uint32_t* positions() const { return positions_; }
  int64_t count() const { return count_; }

 private:
  int64_t count_;
  int passes_;
  Workspace arrays_, counts_;
  uint32_t *keys_, *other_keys_, *positions_, *other_positions_;
};

}  // namespace vilg::cuda
