#pragma once

#include <cuda_runtime.h>

#include <map>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "core/memory.h"

namespace vilg::cuda {

// Device memory in size classes that are kept and handed out again at once: the next user's work
// comes later in the same stream. What a recording has used is not handed out while the recording
// can still be replayed.
class DeviceArena final : public Allocator {
 public:
  explicit DeviceArena(int device) : device_(device) {}
  void* allocate(size_t size_bytes) override;
  void deallocate(void* pointer) noexcept override;
  size_t bytes_in_use() const override;
  size_t peak_bytes() const override;
  void reset_peak() override;
  // Gives kept blocks back to the device; work that uses them must have ended.
  void trim();
  size_t kept_bytes() const;

  // Blocks given back from here on are set apart, and reused only until end_hold(), whose result
  // must go to release() when they may be handed out again.
  void begin_hold();
  std::vector<void*> end_hold();
  void release(const std::vector<void*>& blocks) noexcept;

 private:
  using Blocks = std::unordered_map<size_t, std::vector<void*>>;
  void* take(Blocks& from, size_t size);
  void trim_locked();

  const int device_;
  mutable std::mutex mutex_;
  Blocks free_, held_;                       // by class size
  std::unordered_map<void*, size_t> sizes_;  // class sizes of all blocks
  size_t in_use_ = 0, kept_ = 0, peak_ = 0;
  bool holding_ = false;
};

}  // namespace vilg::cuda
