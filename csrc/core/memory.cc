#include "core/memory.h"

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstdio>
#include <cstdlib>

#include "core/error.h"

#if defined(__linux__)
#include <sys/mman.h>
#endif
#if defined(__unix__) || defined(__APPLE__)
#include <unistd.h>
#endif

namespace vilg {
namespace {

constexpr size_t kAlignment = 64;
constexpr size_t kHugePage = size_t{2} << 20;

// Rounds up to 4 classes a power of two: at most 25 % of a block is slack.
size_t class_size(size_t size_bytes) {
  if (size_bytes <= 256) return 256;
  const size_t step = std::bit_floor(size_bytes - 1) / 4;
  return (size_bytes + step - 1) / step * step;
}

}  // namespace

HostArena::~HostArena() {
  trim();
  // whoever still holds a block after the arena is gone has a bug; leaking beats freeing memory in
  // use
}

void* HostArena::allocate(size_t size_bytes) {
  VILG_CHECK(size_bytes <= (size_t{1} << 46), kOutOfMemory,
             "Expected an allocation of at most 64 TiB, received %zu bytes", size_bytes);
  const size_t size = class_size(size_bytes);
  std::lock_guard lock(mutex_);
  void* block = nullptr;
  if (auto& kept = free_[size]; !kept.empty()) {
    block = kept.back();
    kept.pop_back();
    kept_ -= size;
  } else {
    const size_t alignment = size >= kHugePage ? kHugePage : kAlignment;
    const size_t rounded = (size + alignment - 1) / alignment * alignment;
    block = std::aligned_alloc(alignment, rounded);
    VILG_CHECK(block, kOutOfMemory,
               "Out of memory: %zu bytes were asked for while %zu bytes are in use and %zu bytes "
               "are available",
               size_bytes, in_use_, available_host_bytes());
#if defined(__linux__)
    if (size >= kHugePage) madvise(block, rounded, MADV_HUGEPAGE);
#endif
  }
  sizes_.emplace(block, size);
  in_use_ += size;
  peak_ = std::max(peak_, in_use_);
  return block;
}

void HostArena::deallocate(void* pointer) noexcept {
  if (!pointer) return;
  std::lock_guard lock(mutex_);
  const auto found = sizes_.find(pointer);
  if (found == sizes_.end()) return;
  const size_t size = found->second;
  sizes_.erase(found);
  in_use_ -= size;
  try {
    free_[size].push_back(pointer);
    kept_ += size;
  } catch (...) {
    std::free(pointer);
  }
}

void HostArena::trim() {
  std::lock_guard lock(mutex_);
  for (auto& [size, blocks] : free_) {
    for (void* block : blocks) std::free(block);
    blocks.clear();
  }
  kept_ = 0;
}

size_t HostArena::bytes_in_use() const {
  std::lock_guard lock(mutex_);
  return in_use_;
}

size_t HostArena::peak_bytes() const {
  std::lock_guard lock(mutex_);
  return peak_;
}

void HostArena::reset_peak() {
  std::lock_guard lock(mutex_);
  peak_ = in_use_;
}

size_t available_host_bytes() {
#if defined(__linux__)
  // MemAvailable counts what the page cache would give back; sysinfo() does not
  if (std::FILE* file = std::fopen("/proc/meminfo", "r")) {
    char line[128];
    unsigned long long kilobytes = 0;
    bool found = false;
    while (!found && std::fgets(line, sizeof line, file)) {
      found = std::sscanf(line, "MemAvailable: %llu kB", &kilobytes) == 1;
    }
    std::fclose(file);
    if (found) return static_cast<size_t>(kilobytes) * 1024;
  }
#endif
#if defined(_SC_PHYS_PAGES) && defined(_SC_PAGESIZE)
  const long pages = sysconf(_SC_PHYS_PAGES);
  const long page_size = sysconf(_SC_PAGESIZE);
  if (pages > 0 && page_size > 0)
    return static_cast<size_t>(pages) * static_cast<size_t>(page_size);
#endif
  return 0;
}

}  // namespace vilg
