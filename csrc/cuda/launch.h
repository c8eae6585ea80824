#pragma once

#include <cstdint>
#include <type_traits>

#include "cuda/device.h"
#include "cuda/queue.h"

#if defined(__CUDACC__)
#include "cuda/runtime/launch.h"
#else
#include "cuda/emulation/launch.h"
#endif

namespace vilg::cuda {

// How a kernel is spread. `overlaps`: it may begin while the kernel before it still runs, because
// it calls wait_for_previous_kernel() before it touches anything that one writes.
struct Grid {
  dim3 blocks;
  int threads;  // in a block, a multiple of 32
  size_t shared_bytes = 0;
  bool overlaps = false;
};

// launch(queue, {blocks, 256}, kernel<float>, arguments...): at the end of the queue.
template <typename... Parameters>
void launch(Queue& queue, const Grid& grid, void (*kernel)(Parameters...),
            std::type_identity_t<Parameters>... arguments) {
  launch_on(queue, grid.blocks, grid.threads, grid.shared_bytes, grid.overlaps, kernel,
            arguments...);
}

// Whether 16-byte accesses are possible; a null pointer does not stand in the way.
template <typename... T>
bool aligned_to_16(const T*... pointers) {
  return ((reinterpret_cast<uintptr_t>(pointers) % 16 == 0) && ...);
}

constexpr int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
constexpr int64_t round_up(int64_t a, int64_t b) { return ceil_div(a, b) * b; }

}  // namespace vilg::cuda
