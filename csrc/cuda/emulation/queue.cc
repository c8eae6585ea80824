#include <chrono>
#include <cstring>
#include <functional>
#include <memory>
#include <vector>

#include "core/error.h"
#include "core/thread_pool.h"
#include "cuda/emulation/launch.h"
#include "cuda/emulation/memory.h"
#include "cuda/queue.h"

namespace vilg::cuda {
namespace {

using Work = std::function<void()>;

class RecordedWork final : public Recording {
 public:
  explicit RecordedWork(std::shared_ptr<emulation::DeviceMemory> memory)
      : memory_(std::move(memory)) {}
  ~RecordedWork() override { memory_->give_back(blocks); }
  std::vector<Work> work;
  std::vector<void*> blocks;  // that were given back meanwhile: the work still uses them

 private:
  std::shared_ptr<emulation::DeviceMemory> memory_;
};

class EmulatedQueue final : public Queue {
 public:
  explicit EmulatedQueue(int device) : properties_(describe_device(device)) {}
  const DeviceProperties& properties() const override { return properties_; }
  Allocator& allocator() override { return *memory_; }
  void trim() override {}
  size_t available_bytes() override { return available_host_bytes(); }

  void copy_in(void* to, const void* from, size_t size) override {
    not_while_recording("copy_in");
    const emulation::DeviceMemory::Access access(*memory_);
    if (size > 0) std::memcpy(to, from, size);
  }
  void copy_out(void* to, const void* from, size_t size) override {
    not_while_recording("copy_out");
    const emulation::DeviceMemory::Access access(*memory_);
    if (size > 0) std::memcpy(to, from, size);
  }
  void copy(void* to, const void* from, size_t size) override {
    if (size > 0) submit([=] { std::memcpy(to, from, size); });
  }
  void fill(void* to, unsigned char value, size_t size) override {
    if (size > 0) submit([=] { std::memset(to, value, size); });
  }
  void synchronize() override { not_while_recording("synchronize"); }

  void begin_recording() override {
    not_while_recording("begin_recording");
    recorded_ = std::make_unique<RecordedWork>(memory_);
    memory_->hold(&recorded_->blocks);
  }
  std::unique_ptr<Recording> end_recording() override {
    VILG_CHECK(recorded_, kInternal, "end_recording without begin_recording");
    memory_->hold(nullptr);
    return std::move(recorded_);
  }
  void abandon_recording() noexcept override {
    memory_->hold(nullptr);
    recorded_.reset();
  }
  bool recording() const override { return recorded_ != nullptr; }
  void replay(Recording& recording) override {
    not_while_recording("replay");
    const emulation::DeviceMemory::Access access(*memory_);
    for (const Work& work : static_cast<RecordedWork&>(recording).work) work();
  }

  void start_timer() override { started_ = std::chrono::steady_clock::now(); }
  double stop_timer() override {
    return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - started_)
        .count();
  }

  void submit(Work work) {
    if (recorded_) {
      recorded_->work.push_back(std::move(work));
    } else {
      const emulation::DeviceMemory::Access access(*memory_);
      work();
    }
  }

 private:
  void not_while_recording(const char* what) const {
    VILG_CHECK(!recorded_, kInternal, "%s cannot be recorded", what);
  }

  DeviceProperties properties_;
  std::shared_ptr<emulation::DeviceMemory> memory_ = std::make_shared<emulation::DeviceMemory>();
  std::unique_ptr<RecordedWork> recorded_;
  std::chrono::steady_clock::time_point started_;
};

}  // namespace

namespace emulation {

void run_on(Queue& queue, Dim3 blocks, int threads, size_t shared_bytes,
            std::function<void()> kernel) {
  // here and not when it runs: a GPU refuses such a launch at once
  VILG_CHECK(
      blocks.x >= 1 && blocks.y >= 1 && blocks.y <= 65535 && blocks.z >= 1 && blocks.z <= 65535,
      kInternal, "a grid of %u x %u x %u blocks", blocks.x, blocks.y, blocks.z);
  VILG_CHECK(threads >= 1 && threads <= 1024 && threads % kWarpSize == 0, kInternal,
             "a block of %d threads: expected whole warps, at most 1024 threads", threads);
  VILG_CHECK(shared_bytes <= queue.properties().shared_bytes_per_block, kInternal,
             "%zu bytes of shared memory", shared_bytes);
  static_cast<EmulatedQueue&>(queue).submit([=, kernel = std::move(kernel)] {
    const int64_t plane = int64_t{blocks.x} * blocks.y, count = plane * blocks.z;
    const uint32_t seed = strictness().order_seed;
    ThreadPool::shared().parallel_for(count, [&](int64_t turn) {
      thread_local Block block;
      const int64_t i = seed == 0 ? turn : (count - 1 - turn + seed) % count;
      block.run(kernel, blocks, Dim3(i % blocks.x, i % plane / blocks.x, i / plane), Dim3(threads),
                shared_bytes);
    });
  });
}

}  // namespace emulation

int device_count() { return 1; }

DeviceProperties describe_device(int device) {
  VILG_CHECK(device == 0, kInvalidArgument, "Expected device 0, received %d", device);
  DeviceProperties properties;
  properties.name = "emulation on the host";
  properties.compute_major = 8;
  properties.multiprocessors = 4;
  properties.memory_bytes = properties.available_bytes = available_host_bytes();
  properties.shared_bytes_per_block = 227 * 1024;
  properties.emulated = true;
  return properties;
}

std::unique_ptr<Queue> open_queue(int device) { return std::make_unique<EmulatedQueue>(device); }

}  // namespace vilg::cuda
