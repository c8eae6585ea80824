#pragma once

#include <cstddef>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <vector>

namespace vilg {

// Where tensors live. Implementations are thread-safe. Blocks are 64-byte aligned and
// uninitialised.
class Allocator {
 public:
  virtual ~Allocator() = default;
  // Throws kOutOfMemory with the size asked for and the sizes in use.
  virtual void* allocate(size_t size_bytes) = 0;
  virtual void deallocate(void* pointer) noexcept = 0;
  virtual size_t bytes_in_use() const = 0;
  virtual size_t peak_bytes() const = 0;
  virtual void reset_peak() = 0;
};

// Host memory in size classes (four to a power of two) that are kept and handed out again: a
// training step allocates the same sizes every time, and pages fresh from the system cost a fault
// each. Blocks of 2 MB and more ask for huge pages.
class HostArena final : public Allocator {
 public:
  HostArena() = default;
  ~HostArena() override;
  void* allocate(size_t size_bytes) override;
  void deallocate(void* pointer) noexcept override;
  size_t bytes_in_use() const override;
  size_t peak_bytes() const override;
  void reset_peak() override;
  // Gives kept blocks back to the system.
  void trim();

 private:
  mutable std::mutex mutex_;
  std::unordered_map<size_t, std::vector<void*>> free_;  // by class size
  std::unordered_map<void*, size_t> sizes_;              // class size of blocks in use
  size_t in_use_ = 0;
  size_t kept_ = 0;
  size_t peak_ = 0;
};

// Memory of one scope, given back when it ends.
class Workspace {
 public:
  Workspace(Allocator& allocator, size_t size_bytes)
      : allocator_(&allocator), data_(size_bytes ? allocator.allocate(size_bytes) : nullptr) {}
  ~Workspace() {
    if (data_) allocator_->deallocate(data_);
  }
  Workspace(const Workspace&) = delete;
  Workspace& operator=(const Workspace&) = delete;
  void* data() const { return data_; }
  template <typename T>
  T* as() const {
    return static_cast<T*>(data_);
  }

 private:
  Allocator* allocator_;
  void* data_;
};

// Physical memory that can still be had, in bytes; 0 where the system does not tell.
size_t available_host_bytes();

}  // namespace vilg
