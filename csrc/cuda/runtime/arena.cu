#include "cuda/runtime/arena.h"

#include <algorithm>
#include <bit>

#include "core/error.h"
#include "cuda/runtime/launch.h"

namespace vilg::cuda {
namespace {

// Four classes to a power of two, as on the host (core/memory.cc); cudaMalloc aligns to 256 bytes.
size_t class_size(size_t size_bytes) {
  if (size_bytes <= 512) return 512;
  const size_t step = std::bit_floor(size_bytes - 1) / 4;
  return (size_bytes + step - 1) / step * step;
}

}  // namespace

void* DeviceArena::take(Blocks& from, size_t size) {
  const auto found = from.find(size);
  if (found == from.end() || found->second.empty()) return nullptr;
  void* block = found->second.back();
  found->second.pop_back();
  return block;
}

void* DeviceArena::allocate(size_t size_bytes) {
  VILG_CHECK(size_bytes <= (size_t{1} << 46), kOutOfMemory,
             "Expected an allocation of at most 64 TiB, received %zu bytes", size_bytes);
  const size_t size = class_size(size_bytes);
  std::lock_guard lock(mutex_);
  void* block = holding_ ? take(held_, size) : nullptr;
  if (!block && (block = take(free_, size))) kept_ -= size;
  if (!block) {
    check_runtime(cudaSetDevice(device_), "choosing a device");
    cudaError_t status = cudaMalloc(&block, size);
    if (status == cudaErrorMemoryAllocation && !holding_) {
      // memory kept in other classes may be enough; whoever used it must have finished
      (void)cudaGetLastError();
      check_runtime(cudaDeviceSynchronize(), "waiting for the device");
      trim_locked();
      status = cudaMalloc(&block, size);
    }
    if (status == cudaErrorMemoryAllocation) {
      (void)cudaGetLastError();
      size_t available = 0, total = 0;
      (void)cudaMemGetInfo(&available, &total);
      VILG_FAIL(kOutOfMemory,
                "Out of memory on device %d: %zu bytes were asked for while %zu bytes are in use "
                "and %zu of %zu bytes are available",
                device_, size_bytes, in_use_, available, total);
    }
    check_runtime(status, "allocating memory");
    sizes_.emplace(block, size);
  }
  in_use_ += size;
  peak_ = std::max(peak_, in_use_);
  return block;
}

void DeviceArena::deallocate(void* pointer) noexcept {
  if (!pointer) return;
  std::lock_guard lock(mutex_);
  const auto found = sizes_.find(pointer);
  if (found == sizes_.end()) return;
  in_use_ -= found->second;
  try {
    if (holding_) {
      held_[found->second].push_back(pointer);
    } else {
      free_[found->second].push_back(pointer);
      kept_ += found->second;
    }
  } catch (...) {  // no memory for the list: the block is lost until the process ends
  }
}

void DeviceArena::begin_hold() {
  std::lock_guard lock(mutex_);
  holding_ = true;
}

std::vector<void*> DeviceArena::end_hold() {
  std::lock_guard lock(mutex_);
  holding_ = false;
  std::vector<void*> blocks;
  for (auto& [size, some] : held_) blocks.insert(blocks.end(), some.begin(), some.end());
  held_.clear();
  return blocks;
}

void DeviceArena::release(const std::vector<void*>& blocks) noexcept {
  std::lock_guard lock(mutex_);
  for (void* block : blocks) {
    try {
      const size_t size = sizes_.at(block);
      free_[size].push_back(block);
      kept_ += size;
    } catch (...) {
    }
  }
}

void DeviceArena::trim() {
  std::lock_guard lock(mutex_);
  trim_locked();
}

void DeviceArena::trim_locked() {
  for (auto& [size, blocks] : free_) {
    for (void* block : blocks) {
      sizes_.erase(block);
      (void)cudaFree(block);
    }
    blocks.clear();
  }
  kept_ = 0;
}

size_t DeviceArena::kept_bytes() const {
  std::lock_guard lock(mutex_);
  return kept_;
}

size_t DeviceArena::bytes_in_use() const {
  std::lock_guard lock(mutex_);
  return in_use_;
}

size_t DeviceArena::peak_bytes() const {
  std::lock_guard lock(mutex_);
  return peak_;
}

void DeviceArena::reset_peak() {
  std::lock_guard lock(mutex_);
  peak_ = in_use_;
}

}  // namespace vilg::cuda
