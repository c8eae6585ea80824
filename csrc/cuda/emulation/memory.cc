#include "cuda/emulation/memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstring>
#include <new>

#include "core/error.h"

// AddressSanitizer sees what lies beyond a block, and blocks that were given back.
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(address, size) (static_cast<void>(address))
#define ASAN_UNPOISON_MEMORY_REGION(address, size) (static_cast<void>(address))
#endif

namespace vilg::cuda::emulation {
namespace {

constexpr size_t kReserved = size_t{64} << 30;  // of addresses; memory is taken where it is touched
// Rights are changed for whole huge pages: for small ones it takes as long as the kernels of a
// test.
constexpr size_t kPage = size_t{2} << 20;

std::atomic<bool> host_access_allowed{false};

// Powers of two from 256 bytes on.
size_t class_size(size_t size_bytes) { return std::bit_ceil(std::max<size_t>(size_bytes, 256)); }

}  // namespace

void allow_host_access(bool allowed) { host_access_allowed = allowed; }

DeviceMemory::DeviceMemory() {
  mapped_ = mmap(nullptr, kReserved + kPage, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                 -1, 0);
  if (mapped_ == MAP_FAILED) throw std::bad_alloc();
  base_ =
      reinterpret_cast<char*>((reinterpret_cast<uintptr_t>(mapped_) + kPage - 1) / kPage * kPage);
  (void)madvise(base_, kReserved, MADV_HUGEPAGE);  // slower without
}

DeviceMemory::~DeviceMemory() { munmap(mapped_, kReserved + kPage); }

void* DeviceMemory::allocate(size_t size_bytes) {
  const Access access(*this);
  std::lock_guard lock(mutex_);
  VILG_CHECK(size_bytes <= kReserved, kOutOfMemory,
             "Out of memory: %zu bytes were asked for while %zu bytes are in use", size_bytes,
             in_use_);
  const size_t size = class_size(size_bytes);
  void* block = nullptr;
  if (auto& kept = free_[size]; !kept.empty()) {
    block = kept.back();
    kept.pop_back();
  } else {
    VILG_CHECK(size <= kReserved - used_, kOutOfMemory,
               "Out of memory: %zu bytes were asked for while %zu bytes are in use", size_bytes,
               in_use_);
    block = base_ + used_;
    const size_t page_end = (used_ + kPage - 1) / kPage * kPage;
    used_ += size;
    const size_t new_end = (used_ + kPage - 1) / kPage * kPage;
    if (new_end > page_end) mprotect(base_ + page_end, new_end - page_end, PROT_READ | PROT_WRITE);
  }
  ASAN_UNPOISON_MEMORY_REGION(block, size);
  ASAN_POISON_MEMORY_REGION(static_cast<char*>(block) + size_bytes, size - size_bytes);
  std::memset(block, 0xff, size_bytes);
  sizes_.insert_or_assign(block, size);
  in_use_ += size;
  peak_ = std::max(peak_, in_use_);
  return block;
}

void DeviceMemory::deallocate(void* pointer) noexcept {
  if (!pointer) return;
  {
    std::lock_guard lock(mutex_);
    const auto found = sizes_.find(pointer);
    if (found == sizes_.end()) return;
    in_use_ -= found->second;
    if (held_) {
      held_->push_back(pointer);
      return;
    }
  }
  give_back({pointer});
}

void DeviceMemory::hold(std::vector<void*>* held) {
  std::lock_guard lock(mutex_);
  held_ = held;
}

void DeviceMemory::give_back(const std::vector<void*>& blocks) noexcept {
  std::lock_guard lock(mutex_);
  for (void* block : blocks) {
    const size_t size = sizes_.at(block);
    ASAN_POISON_MEMORY_REGION(block, size);
    free_[size].push_back(block);
  }
}

void DeviceMemory::open() {
  std::lock_guard lock(mutex_);
  if (open_++ == 0 && !readable_) protect(true);
}

void DeviceMemory::close() {
  std::lock_guard lock(mutex_);
  if (--open_ == 0 && !host_access_allowed) protect(false);
}

void DeviceMemory::protect(bool readable) {
  readable_ = readable;
  const size_t end = (used_ + kPage - 1) / kPage * kPage;
  if (end > 0) mprotect(base_, end, readable ? PROT_READ | PROT_WRITE : PROT_NONE);
}

size_t DeviceMemory::bytes_in_use() const {
  std::lock_guard lock(mutex_);
  return in_use_;
}

size_t DeviceMemory::peak_bytes() const {
  std::lock_guard lock(mutex_);
  return peak_;
}

void DeviceMemory::reset_peak() {
  std::lock_guard lock(mutex_);
  peak_ = in_use_;
}

}  // namespace vilg::cuda::emulation
