#include "cuda/queue.h"

#include <cstring>
#include <map>
#include <mutex>

#include "core/error.h"
#include "cuda/runtime/arena.h"
#include "cuda/runtime/launch.h"

namespace vilg::cuda {
namespace {

// Makes a device current while it lives: JavaScript may come from any thread.
class CurrentDevice {
 public:
  explicit CurrentDevice(int device) {
    check_runtime(cudaGetDevice(&before_), "asking for the current device");
    if (before_ != device) check_runtime(cudaSetDevice(device), "choosing a device");
    changed_ = before_ != device;
  }
  ~CurrentDevice() {
    if (changed_) (void)cudaSetDevice(before_);
  }
  CurrentDevice(const CurrentDevice&) = delete;
  CurrentDevice& operator=(const CurrentDevice&) = delete;

 private:
  int before_ = 0;
  bool changed_ = false;
};

class GraphRecording final : public Recording {
 public:
  GraphRecording(cudaGraphExec_t graph, std::shared_ptr<DeviceArena> arena,
                 std::vector<void*> blocks, int device)
      : graph_(graph), arena_(std::move(arena)), blocks_(std::move(blocks)), device_(device) {}
  ~GraphRecording() override {
    try {
      CurrentDevice current(device_);
      (void)cudaGraphExecDestroy(graph_);
    } catch (...) {
    }
    arena_->release(blocks_);
  }
  cudaGraphExec_t graph() const { return graph_; }

 private:
  cudaGraphExec_t graph_;
  std::shared_ptr<DeviceArena> arena_;
  std::vector<void*> blocks_;
  int device_;
};

// Pinned memory through which small copies to the device go without waiting: a ring of parts, each
// free again when the copies from it have ended.
class PinnedRing {
 public:
  static constexpr size_t kParts = 4, kPartBytes = size_t{256} << 10;

  void open() {
    check_runtime(cudaMallocHost(&memory_, kParts * kPartBytes), "allocating pinned memory");
    for (cudaEvent_t& event : done_) {
      check_runtime(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "making an event");
    }
  }
  void close() noexcept {
    for (cudaEvent_t event : done_) {
      if (event) (void)cudaEventDestroy(event);
    }
    if (memory_) (void)cudaFreeHost(memory_);
  }
  // Room for size_bytes <= kPartBytes.
  char* take(size_t size_bytes, cudaStream_t stream) {
    if (used_ + size_bytes > kPartBytes) {
      check_runtime(cudaEventRecord(done_[part_], stream), "recording an event");
      part_ = (part_ + 1) % kParts;
      used_ = 0;
      // the event of a part that was never used counts as reached
      check_runtime(cudaEventSynchronize(done_[part_]), "waiting for a copy");
    }
    char* room = static_cast<char*>(memory_) + part_ * kPartBytes + used_;
    used_ += (size_bytes + 15) / 16 * 16;
    return room;
  }

 private:
  void* memory_ = nullptr;
  cudaEvent_t done_[kParts] = {};
  size_t part_ = 0, used_ = 0;
};

class CudaQueue final : public Queue {
 public:
  explicit CudaQueue(int device)
      : device_(device),
        properties_(describe_device(device)),
        arena_(std::make_shared<DeviceArena>(device)) {
    CurrentDevice current(device_);
    check_runtime(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "making a stream");
    check_runtime(cudaEventCreate(&started_), "making an event");
    check_runtime(cudaEventCreate(&stopped_), "making an event");
    ring_.open();
  }
  ~CudaQueue() override {
    ring_.close();
    if (stopped_) (void)cudaEventDestroy(stopped_);
    if (started_) (void)cudaEventDestroy(started_);
    if (stream_) (void)cudaStreamDestroy(stream_);
  }

  const DeviceProperties& properties() const override { return properties_; }
  Allocator& allocator() override { return *arena_; }
  void trim() override {
    CurrentDevice current(device_);
    check_runtime(cudaStreamSynchronize(stream_), "waiting for the device");
    arena_->trim();
  }
  size_t available_bytes() override {
    CurrentDevice current(device_);
    size_t available = 0, total = 0;
    check_runtime(cudaMemGetInfo(&available, &total), "asking for free memory");
    return available + arena_->kept_bytes();
  }

  void copy_in(void* to, const void* from, size_t size) override {
    not_while_recording("copy_in");
    CurrentDevice current(device_);
    if (size <= PinnedRing::kPartBytes) {
      char* room = ring_.take(size, stream_);
      std::memcpy(room, from, size);
      check_runtime(cudaMemcpyAsync(to, room, size, cudaMemcpyHostToDevice, stream_),
                    "copying to the device");
      return;
    }
    check_runtime(cudaMemcpyAsync(to, from, size, cudaMemcpyHostToDevice, stream_),
                  "copying to the device");
    check_runtime(cudaStreamSynchronize(stream_), "copying to the device");
  }
  void copy_out(void* to, const void* from, size_t size) override {
    not_while_recording("copy_out");
    CurrentDevice current(device_);
    check_runtime(cudaMemcpyAsync(to, from, size, cudaMemcpyDeviceToHost, stream_),
                  "copying from the device");
    check_runtime(cudaStreamSynchronize(stream_), "running what was queued before a copy");
  }
  void copy(void* to, const void* from, size_t size) override {
    CurrentDevice current(device_);
    check_runtime(cudaMemcpyAsync(to, from, size, cudaMemcpyDeviceToDevice, stream_),
                  "copying on the device");
  }
  void fill(void* to, unsigned char value, size_t size) override {
    CurrentDevice current(device_);
    check_runtime(cudaMemsetAsync(to, value, size, stream_), "filling memory");
  }
  void synchronize() override {
    not_while_recording("synchronize");
    CurrentDevice current(device_);
    check_runtime(cudaStreamSynchronize(stream_), "running what was queued");
  }

  void begin_recording() override {
    not_while_recording("begin_recording");
    check_runtime(cudaSetDevice(device_), "choosing a device");
    check_runtime(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeRelaxed),
                  "beginning a recording");
    recording_ = true;
    arena_->begin_hold();
  }
  std::unique_ptr<Recording> end_recording() override {
    VILG_CHECK(recording_, kInternal, "end_recording without begin_recording");
    recording_ = false;
    std::vector<void*> blocks = arena_->end_hold();
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t executable = nullptr;
    cudaError_t status = cudaStreamEndCapture(stream_, &graph);
    if (status == cudaSuccess) status = cudaGraphInstantiate(&executable, graph, 0);
    if (graph) (void)cudaGraphDestroy(graph);
    if (status != cudaSuccess) arena_->release(blocks);
    check_runtime(status, "ending a recording");
    return std::make_unique<GraphRecording>(executable, arena_, std::move(blocks), device_);
  }
  void abandon_recording() noexcept override {
    if (!recording_) return;
    recording_ = false;
    cudaGraph_t graph = nullptr;
    (void)cudaStreamEndCapture(stream_, &graph);
    if (graph) (void)cudaGraphDestroy(graph);
    (void)cudaGetLastError();
    arena_->release(arena_->end_hold());
  }
  bool recording() const override { return recording_; }
  void replay(Recording& recording) override {
    not_while_recording("replay");
    CurrentDevice current(device_);
    check_runtime(cudaGraphLaunch(static_cast<GraphRecording&>(recording).graph(), stream_),
                  "running a recording");
  }

  void start_timer() override {
    CurrentDevice current(device_);
    check_runtime(cudaEventRecord(started_, stream_), "recording an event");
  }
  double stop_timer() override {
    CurrentDevice current(device_);
    check_runtime(cudaEventRecord(stopped_, stream_), "recording an event");
    check_runtime(cudaEventSynchronize(stopped_), "running what was queued");
    float milliseconds = 0;
    check_runtime(cudaEventElapsedTime(&milliseconds, started_, stopped_), "reading a timer");
    return milliseconds;
  }

  cudaStream_t stream() {
    check_runtime(cudaSetDevice(device_), "choosing a device");
    return stream_;
  }
  void allow_shared_bytes(const void* kernel, size_t shared_bytes) {
    size_t& allowed = shared_bytes_[kernel];
    if (shared_bytes <= allowed) return;
    check_runtime(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                       static_cast<int>(shared_bytes)),
                  "asking for shared memory");
    allowed = shared_bytes;
  }

 private:
  void not_while_recording(const char* what) const {
    VILG_CHECK(!recording_, kInternal, "%s cannot be recorded", what);
  }

  const int device_;
  const DeviceProperties properties_;
  std::shared_ptr<DeviceArena> arena_;
  cudaStream_t stream_ = nullptr;
  cudaEvent_t started_ = nullptr, stopped_ = nullptr;
  PinnedRing ring_;
  std::map<const void*, size_t> shared_bytes_;
  bool recording_ = false;
};

}  // namespace

void check_runtime(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  (void)cudaGetLastError();  // the next call is not to blame
  if (status == cudaErrorMemoryAllocation) {
    VILG_FAIL(kOutOfMemory, "Out of device memory while %s", what);
  }
  const bool lost = cudaStreamQuery(nullptr) == status;  // an error that stays is the device's end
  (void)cudaGetLastError();
  if (lost) {
    VILG_FAIL(kDeviceLost,
              "The CUDA device was lost while %s: %s (%s); this process can no longer use it", what,
              cudaGetErrorString(status), cudaGetErrorName(status));
  }
  VILG_FAIL(kCuda, "CUDA failed while %s: %s (%s)", what, cudaGetErrorString(status),
            cudaGetErrorName(status));
}

cudaStream_t stream_of(Queue& queue) { return static_cast<CudaQueue&>(queue).stream(); }

void allow_shared_bytes(Queue& queue, const void* kernel, size_t shared_bytes) {
  static_cast<CudaQueue&>(queue).allow_shared_bytes(kernel, shared_bytes);
}

int device_count() {
  int driver = 0, count = 0;
  (void)cudaDriverGetVersion(&driver);
  const cudaError_t status = cudaGetDeviceCount(&count);
  if (status != cudaSuccess || count == 0) {
    (void)cudaGetLastError();
    VILG_CHECK(driver != 0, kUnsupported, "no NVIDIA driver is installed (%s)",
               cudaGetErrorName(status));
    VILG_CHECK(status != cudaErrorInsufficientDriver, kUnsupported,
               "the NVIDIA driver is too old: it serves CUDA %d.%d, this build needs %d.%d",
               driver / 1000, driver % 1000 / 10, CUDART_VERSION / 1000,
               CUDART_VERSION % 1000 / 10);
    VILG_FAIL(kUnsupported, "the driver finds no CUDA device (%s)",
              status == cudaSuccess ? "none listed" : cudaGetErrorName(status));
  }
  return count;
}

DeviceProperties describe_device(int device) {
  const int count = device_count();
  VILG_CHECK(device >= 0 && device < count, kInvalidArgument,
             "Expected a CUDA device from 0 to %d, received %d", count - 1, device);
  cudaDeviceProp found{};
  check_runtime(cudaGetDeviceProperties(&found, device), "describing a device");
  DeviceProperties properties;
  properties.name = found.name;
  properties.compute_major = found.major, properties.compute_minor = found.minor;
  properties.multiprocessors = found.multiProcessorCount;
  properties.memory_bytes = found.totalGlobalMem;
  properties.shared_bytes_per_block = found.sharedMemPerBlockOptin;
  VILG_CHECK(found.major >= 8, kUnsupported,
             "%s has compute capability %d.%d, the kernels need 8.0 or newer", found.name,
             found.major, found.minor);
  CurrentDevice current(device);
  size_t total = 0;
  check_runtime(cudaMemGetInfo(&properties.available_bytes, &total), "asking for free memory");
  return properties;
}

std::unique_ptr<Queue> open_queue(int device) { return std::make_unique<CudaQueue>(device); }

}  // namespace vilg::cuda
