#include "cuda/check_indices.h"

#include "core/error.h"
#include "cuda/launch.h"

namespace vilg::cuda {
namespace {

constexpr int kThreads = 256;
using Position = unsigned long long;  // what atomicMin has
constexpr Position kNone = ~Position{0};

__global__ void __launch_bounds__(kThreads)
    find_kernel(Position* first, const int32_t* indices, int64_t count, int64_t low, int64_t high) {
  const int64_t stride = int64_t{gridDim.x} * kThreads;
  for (int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x; i < count; i += stride) {
    const int32_t index = indices[i];
    if (index < low || index >= high) atomic_min(first, static_cast<Position>(i));
  }
}

}  // namespace

std::vector<std::optional<Outside>> find_outside(Queue& queue,
                                                 std::initializer_list<IndexArray> arrays) {
  const size_t bytes = arrays.size() * sizeof(Position);
  Workspace workspace(queue.allocator(), bytes);
  queue.fill(workspace.data(), 0xff, bytes);
  auto* first = workspace.as<Position>();
  for (const IndexArray& array : arrays) {
    launch(queue, {min(ceil_div(array.count, kThreads), int64_t{1024}), kThreads}, find_kernel,
           first++, array.indices, array.count, array.low, array.high);
  }
  std::vector<Position> positions(arrays.size());
  queue.copy_out(positions.data(), workspace.data(), bytes);
  std::vector<std::optional<Outside>> found;
  for (const IndexArray& array : arrays) {
    const Position position = positions[found.size()];
    found.emplace_back();
    if (position == kNone) continue;
    int32_t value;
    queue.copy_out(&value, array.indices + position, sizeof value);
    found.back() = Outside{static_cast<int64_t>(position), value};
  }
  return found;
}

void check_indices(Queue& queue, const char* op, std::initializer_list<IndexArray> arrays) {
  if (queue.recording()) return;
  const auto found = find_outside(queue, arrays);
  size_t i = 0;
  for (const IndexArray& array : arrays) {
    const auto& outside = found[i++];
    VILG_CHECK(!outside, kInvalidArgument,
               "%s: expected every element of %s from %lld to %lld, received %d at position %lld",
               op, array.name, static_cast<long long>(array.low),
               static_cast<long long>(array.high - 1), outside->value,
               static_cast<long long>(outside->position));
  }
}

}  // namespace vilg::cuda
