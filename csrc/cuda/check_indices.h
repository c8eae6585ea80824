#pragma once

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <vector>

#include "cuda/queue.h"

namespace vilg::cuda {

// `count` numbers on the device, which should lie in [low, high).
struct IndexArray {
  const char* name;
  const int32_t* indices;
  int64_t count, low, high;
};
struct Outside {
  int64_t position;
  int32_t value;
};

// For each array the first that does not. Waits for the device: not while the queue is recording.
std::vector<std::optional<Outside>> find_outside(Queue& queue,
                                                 std::initializer_list<IndexArray> arrays);

// Throws as kernels/checks.h does, before anything is written. While a queue is recording nothing
// can be thrown: kernels must be safe without it, whatever the indices.
void check_indices(Queue& queue, const char* op, std::initializer_list<IndexArray> arrays);

}  // namespace vilg::cuda
