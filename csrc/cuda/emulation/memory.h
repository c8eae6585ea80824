#pragma once

#include <atomic>
#include <map>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "core/memory.h"

namespace vilg::cuda::emulation {

// Whether host code may touch device memory too, in all queues: spares tests that do not need the
// protection most of their time. Not allowed unless set.
void allow_host_access(bool allowed);

// What stands for a device's memory: fresh blocks are NaN, and only what the queue does may touch
// it. Host code that follows a pointer to it ends with a fault, as it would with a GPU.
class DeviceMemory final : public Allocator {
 public:
  DeviceMemory();
  ~DeviceMemory() override;
  void* allocate(size_t size_bytes) override;
  void deallocate(void* pointer) noexcept override;
  size_t bytes_in_use() const override;
  size_t peak_bytes() const override;
  void reset_peak() override;

  // Blocks given back from here on go to `held`, and to give_back() when nobody uses them any more;
  // null: they are free at once.
  void hold(std::vector<void*>* held);
  void give_back(const std::vector<void*>& blocks) noexcept;

  // While one lives, the memory can be read and written.
  class Access {
   public:
    explicit Access(DeviceMemory& memory) : memory_(memory) { memory_.open(); }
    ~Access() { memory_.close(); }
    Access(const Access&) = delete;
    Access& operator=(const Access&) = delete;

   private:
    DeviceMemory& memory_;
  };

 private:
  void open();
  void close();
  void protect(bool readable);

  mutable std::mutex mutex_;
  void* mapped_ = nullptr;
  char* base_ = nullptr;
  size_t used_ = 0;  // from base_: what was ever handed out
  int open_ = 0;
  bool readable_ = true;
  std::map<size_t, std::vector<void*>> free_;  // by class size
  std::unordered_map<void*, size_t> sizes_;    // class sizes of all blocks
  std::vector<void*>* held_ = nullptr;
  size_t in_use_ = 0, peak_ = 0;
};

}  // namespace vilg::cuda::emulation
