#include "kernels/backend.h"

#include <chrono>
#include <cstring>

namespace vilg {
namespace {

class HostBackend final : public Backend {
 public:
  explicit HostBackend(const OpTable& table) : table_(table) { check_op_table(table); }
  const OpTable& ops() const override { return table_; }
  Allocator& allocator() override { return arena_; }
  const char* device() const override { return table_.name; }
  void copy_in(void* to, const void* from, size_t size) override { std::memcpy(to, from, size); }
  void copy_out(void* to, const void* from, size_t size) override { std::memcpy(to, from, size); }
  void copy(void* to, const void* from, size_t size) override { std::memcpy(to, from, size); }
  void fill_zero(void* to, size_t size) override { std::memset(to, 0, size); }
  void trim() override { arena_.trim(); }
  size_t available_bytes() override { return available_host_bytes(); }
  OpContext context(const StopFlag* stop) override {
    return {.pool = &ThreadPool::shared(), .allocator = &arena_, .stop = stop};
  }
  std::unique_ptr<RecordedWork> record(const std::function<void()>&) override { return nullptr; }
  double time(const std::function<void()>& work) override {
    const auto start = std::chrono::steady_clock::now();
    work();
    return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start)
        .count();
  }

 private:
  const OpTable& table_;
  HostArena arena_;
};

}  // namespace

Backend& cpu_backend() {
  static Backend& backend = *new HostBackend(cpu_ops());
  return backend;
}

Backend& ref_backend() {
  static Backend& backend = *new HostBackend(ref_ops());
  return backend;
}

}  // namespace vilg
