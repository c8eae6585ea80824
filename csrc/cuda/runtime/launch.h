#pragma once

#include <cuda_runtime.h>

#include <mutex>

#include "cuda/queue.h"

namespace vilg::cuda {

cudaStream_t stream_of(Queue& queue);
// Throws the project's error for one of the runtime's: kOutOfMemory, or kInternal with `what`.
void check_runtime(cudaError_t status, const char* what);
// More than 48 KB of shared memory must be asked for once for each kernel and device.
void allow_shared_bytes(Queue& queue, const void* kernel, size_t shared_bytes);

template <typename... Parameters>
void launch_on(Queue& queue, dim3 blocks, int threads, size_t shared_bytes, bool overlaps,
               void (*kernel)(Parameters...), Parameters... arguments) {
  if (shared_bytes > 48 * 1024) {
    allow_shared_bytes(queue, reinterpret_cast<const void*>(kernel), shared_bytes);
  }
  cudaLaunchConfig_t config{};
  config.gridDim = blocks;
  config.blockDim = dim3(static_cast<unsigned>(threads));
  config.dynamicSmemBytes = shared_bytes;
  config.stream = stream_of(queue);
  cudaLaunchAttribute attribute{};
  attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attribute.val.programmaticStreamSerializationAllowed = 1;
  config.attrs = &attribute;
  config.numAttrs = overlaps && queue.properties().compute_major >= 9 ? 1 : 0;
  check_runtime(cudaLaunchKernelEx(&config, kernel, arguments...), "launching a kernel");
}

}  // namespace vilg::cuda
