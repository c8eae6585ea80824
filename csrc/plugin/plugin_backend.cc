#include "plugin/plugin_backend.h"

#include <atomic>
#include <map>
#include <mutex>

#include "kernels/cache.h"
#include "plugin/plugin_call.h"

namespace vilg {
namespace {

class PluginArena final : public Allocator {
 public:
  PluginArena(const VilgPlugin& plugin, VilgPluginQueue* queue) : plugin_(plugin), queue_(queue) {}
  void* allocate(size_t size_bytes) override {
    void* block = nullptr;
    plugin_call(plugin_.allocate, queue_, size_bytes, &block);
    return block;
  }
  void deallocate(void* pointer) noexcept override { plugin_.deallocate(queue_, pointer); }
  size_t bytes_in_use() const override { return counts().in_use; }
  size_t peak_bytes() const override { return counts().peak; }
  void reset_peak() override { plugin_.reset_peak(queue_); }
  size_t available_bytes() const { return counts().available; }

 private:
  struct Counts {
    uint64_t in_use, peak, available;
  };
  Counts counts() const {
    Counts counts{};
    plugin_.memory(queue_, &counts.in_use, &counts.peak, &counts.available);
    return counts;
  }
  const VilgPlugin& plugin_;
  VilgPluginQueue* queue_;
};

// What OpContext::queue points to. A queue is not for two threads at once; a thread that records
// keeps it to itself until the recording is complete, hence a lock that it may take again.
struct PluginQueue {
  const VilgPlugin* plugin;
  VilgPluginQueue* queue;
  std::recursive_mutex mutex;

  template <typename... Parameters, typename... Arguments>
  void call(int (*function)(Parameters...), Arguments... arguments) {
    std::lock_guard lock(mutex);
    plugin_call(function, arguments...);
  }
};

const OpTable& plugin_ops() {
  static const OpTable table = [] {
    OpTable t;
    t.name = "cuda";
#define VILG_OP(op, Params)                                   \
  t.op = [](const Params& params, OpContext& context) {       \
    validate(params);                                         \
    context.check_stop();                                     \
    auto& target = *static_cast<PluginQueue*>(context.queue); \
    target.call(target.plugin->op, &params, target.queue);    \
  };
    VILG_OPS(VILG_OP)
#undef VILG_OP
    return t;
  }();
  return table;
}

class PluginRecording final : public RecordedWork {
 public:
  PluginRecording(PluginQueue& target, VilgPluginRecording* recording)
      : target_(target), recording_(recording) {}
  ~PluginRecording() override { target_.plugin->release_recording(recording_); }
  void run() override { target_.call(target_.plugin->replay, target_.queue, recording_); }

 private:
  PluginQueue& target_;  // lives as long as the process
  VilgPluginRecording* recording_;
};

class PluginBackend final : public Backend {
 public:
  PluginBackend(const VilgPlugin& plugin, int device)
      : target_{&plugin, open(plugin, device), {}},
        arena_(plugin, target_.queue),
        device_(format("cuda:%d", device)) {}

  const OpTable& ops() const override { return plugin_ops(); }
  Allocator& allocator() override { return arena_; }
  const char* device() const override { return device_.c_str(); }
  void copy_in(void* to, const void* from, size_t size) override {
    target_.call(plugin().copy_in, target_.queue, to, from, size);
  }
  void copy_out(void* to, const void* from, size_t size) override {
    target_.call(plugin().copy_out, target_.queue, to, from, size);
  }
  void copy(void* to, const void* from, size_t size) override {
    target_.call(plugin().copy, target_.queue, to, from, size);
  }
  void fill_zero(void* to, size_t size) override {
    target_.call(plugin().fill, target_.queue, to, uint8_t{0}, size);
  }
  size_t available_bytes() override { return arena_.available_bytes(); }
  void trim() override { plugin().trim(target_.queue); }
  OpContext context(const StopFlag* stop) override {
    return {.pool = &ThreadPool::shared(), .allocator = &arena_, .stop = stop, .queue = &target_};
  }
  std::unique_ptr<RecordedWork> record(const std::function<void()>& work) override {
    std::lock_guard lock(target_.mutex);
    plugin_call(plugin().begin_recording, target_.queue);
    try {
      work();
    } catch (...) {
      plugin().abandon_recording(target_.queue);
      throw;
    }
    VilgPluginRecording* recording = nullptr;
    plugin_call(plugin().end_recording, target_.queue, &recording);
    return std::make_unique<PluginRecording>(target_, recording);
  }
  double time(const std::function<void()>& work) override {
    std::lock_guard lock(target_.mutex);
    double milliseconds = 0;
    plugin_call(plugin().start_timer, target_.queue);
    work();
    plugin_call(plugin().stop_timer, target_.queue, &milliseconds);
    return milliseconds;
  }

 private:
  static VilgPluginQueue* open(const VilgPlugin& plugin, int device) {
    VilgPluginQueue* queue = nullptr;
    plugin_call(plugin.open, device, &queue);
    return queue;
  }
  const VilgPlugin& plugin() const { return *target_.plugin; }

  PluginQueue target_;
  PluginArena arena_;
  std::string device_;
};

}  // namespace

std::vector<PluginDevice> plugin_devices(const VilgPlugin& plugin) {
  int32_t count = 0;
  plugin_call(plugin.count_devices, &count);
  std::vector<PluginDevice> devices;
  for (int32_t i = 0; i < count; ++i) {
    VilgPluginDevice d{};
    plugin_call(plugin.describe, i, &d);
    devices.push_back({d.name, d.compute_major, d.compute_minor, d.multiprocessors, d.memory_bytes,
                       d.available_bytes, d.emulated != 0});
  }
  return devices;
}

std::string plugin_libraries(const VilgPlugin& plugin) {
  char json[8192] = "";
  plugin_call(plugin.libraries, json, sizeof json);
  return json;
}

Backend& plugin_backend(const VilgPlugin& plugin, int device) {
  static std::mutex mutex;
  static auto& backends = *new std::map<std::pair<const VilgPlugin*, int>, PluginBackend*>;
  std::lock_guard lock(mutex);
  PluginBackend*& backend = backends[{&plugin, device}];
  if (!backend) backend = new PluginBackend(plugin, device);
  return *backend;
}

}  // namespace vilg
