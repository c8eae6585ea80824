#pragma once

#include <functional>

#include "cuda/device.h"
#include "cuda/queue.h"

namespace vilg::cuda {

namespace emulation {

void run_on(Queue& queue, Dim3 blocks, int threads, size_t shared_bytes,
            std::function<void()> kernel);

}  // namespace emulation

template <typename... Parameters>
void launch_on(Queue& queue, dim3 blocks, int threads, size_t shared_bytes, bool /*overlaps*/,
               void (*kernel)(Parameters...), Parameters... arguments) {
  emulation::run_on(queue, blocks, threads, shared_bytes, [=] { kernel(arguments...); });
}

}  // namespace vilg::cuda
