// The table of plugin/plugin.h over the ops and the queue of this folder.
#include "plugin/plugin.h"

#include <algorithm>
#include <cstdio>
#include <exception>
#include <new>
#include <string>

#include "core/error.h"
#include "cuda/conformance.h"
#include "cuda/cuda_ops.h"
#include "cuda/libraries.h"

namespace {

using vilg::cuda::Queue;
using vilg::cuda::Recording;

Queue& queue_of(VilgPluginQueue* queue) { return *reinterpret_cast<Queue*>(queue); }

void copy_text(char* to, size_t capacity, const char* from) {
  std::snprintf(to, capacity, "%s", from);
}

void fill_failure(VilgPluginFailure* failure, vilg::ErrorCode code, const char* message,
                  const char* file, int line) {
  failure->code = static_cast<int32_t>(code);
  copy_text(failure->message, sizeof failure->message, message);
  copy_text(failure->file, sizeof failure->file, file);
  failure->line = line;
}

template <typename Body>
int guarded(VilgPluginFailure* failure, const Body& body) noexcept {
  try {
    body();
    return 0;
  } catch (const vilg::Error& error) {
    fill_failure(failure, error.code(), error.what(), error.file(), error.line());
  } catch (const std::bad_alloc&) {
    fill_failure(failure, vilg::ErrorCode::kOutOfMemory, "Out of host memory", __FILE__, __LINE__);
  } catch (const std::exception& error) {
    fill_failure(failure, vilg::ErrorCode::kInternal, error.what(), __FILE__, __LINE__);
  } catch (...) {
    fill_failure(failure, vilg::ErrorCode::kInternal, "unknown exception", __FILE__, __LINE__);
  }
  return 1;
}

VilgPlugin make_table() {
  VilgPlugin t{};
  t.table_bytes = sizeof(VilgPlugin);
  t.version = VILG_VERSION;
  t.count_devices = [](int32_t* count, VilgPluginFailure* failure) {
    return guarded(failure, [&] { *count = vilg::cuda::device_count(); });
  };
  t.describe = [](int32_t device, VilgPluginDevice* d, VilgPluginFailure* failure) {
    return guarded(failure, [&] {
      const vilg::cuda::DeviceProperties p = vilg::cuda::describe_device(device);
      copy_text(d->name, sizeof d->name, p.name.c_str());
      d->compute_major = p.compute_major, d->compute_minor = p.compute_minor;
      d->multiprocessors = p.multiprocessors;
      d->memory_bytes = p.memory_bytes, d->available_bytes = p.available_bytes;
      d->emulated = p.emulated;
    });
  };
  t.libraries = [](char* json, size_t capacity, VilgPluginFailure* failure) {
    return guarded(failure,
                   [&] { copy_text(json, capacity, vilg::cuda::libraries_json().c_str()); });
  };
  t.open = [](int32_t device, VilgPluginQueue** queue, VilgPluginFailure* failure) {
    return guarded(failure, [&] {
      *queue = reinterpret_cast<VilgPluginQueue*>(vilg::cuda::open_queue(device).release());
    });
  };
  t.allocate = [](VilgPluginQueue* queue, size_t size, void** block, VilgPluginFailure* failure) {
    return guarded(failure, [&] { *block = queue_of(queue).allocator().allocate(size); });
  };
  t.deallocate = [](VilgPluginQueue* queue, void* block) {
    queue_of(queue).allocator().deallocate(block);
  };
  t.memory = [](VilgPluginQueue* queue, uint64_t* in_use, uint64_t* peak, uint64_t* available) {
    *in_use = queue_of(queue).allocator().bytes_in_use();
    *peak = queue_of(queue).allocator().peak_bytes();
    *available = queue_of(queue).available_bytes();
  };
  t.reset_peak = [](VilgPluginQueue* queue) { queue_of(queue).allocator().reset_peak(); };
  t.trim = [](VilgPluginQueue* queue) { queue_of(queue).trim(); };
  t.copy_in = [](VilgPluginQueue* queue, void* to, const void* from, size_t size,
                 VilgPluginFailure* failure) {
    return guarded(failure, [&] { queue_of(queue).copy_in(to, from, size); });
  };
  t.copy_out = [](VilgPluginQueue* queue, void* to, const void* from, size_t size,
                  VilgPluginFailure* failure) {
    return guarded(failure, [&] { queue_of(queue).copy_out(to, from, size); });
  };
  t.copy = [](VilgPluginQueue* queue, void* to, const void* from, size_t size,
              VilgPluginFailure* failure) {
    return guarded(failure, [&] { queue_of(queue).copy(to, from, size); });
  };
  t.fill = [](VilgPluginQueue* queue, void* to, uint8_t value, size_t size,
              VilgPluginFailure* failure) {
    return guarded(failure, [&] { queue_of(queue).fill(to, value, size); });
  };
  t.synchronize = [](VilgPluginQueue* queue, VilgPluginFailure* failure) {
    return guarded(failure, [&] { queue_of(queue).synchronize(); });
  };
  t.begin_recording = [](VilgPluginQueue* queue, VilgPluginFailure* failure) {
    return guarded(failure, [&] { queue_of(queue).begin_recording(); });
  };
  t.end_recording = [](VilgPluginQueue* queue, VilgPluginRecording** recording,
                       VilgPluginFailure* failure) {
    return guarded(failure, [&] {
      *recording =
          reinterpret_cast<VilgPluginRecording*>(queue_of(queue).end_recording().release());
    });
  };
  t.abandon_recording = [](VilgPluginQueue* queue) { queue_of(queue).abandon_recording(); };
  t.replay = [](VilgPluginQueue* queue, VilgPluginRecording* recording,
                VilgPluginFailure* failure) {
    return guarded(failure,
                   [&] { queue_of(queue).replay(*reinterpret_cast<Recording*>(recording)); });
  };
  t.release_recording = [](VilgPluginRecording* recording) {
    delete reinterpret_cast<Recording*>(recording);
  };
  t.conformance = [](VilgPluginQueue* queue, int32_t number, const uint32_t* in, uint32_t* out,
                     VilgPluginFailure* failure) {
    return guarded(failure, [&] { vilg::cuda::conformance(number, in, out, queue_of(queue)); });
  };
  t.start_timer = [](VilgPluginQueue* queue, VilgPluginFailure* failure) {
    return guarded(failure, [&] { queue_of(queue).start_timer(); });
  };
  t.stop_timer = [](VilgPluginQueue* queue, double* milliseconds, VilgPluginFailure* failure) {
    return guarded(failure, [&] { *milliseconds = queue_of(queue).stop_timer(); });
  };
#define VILG_OP(op, Params)                                                                   \
  t.op = [](const vilg::Params* params, VilgPluginQueue* queue, VilgPluginFailure* failure) { \
    return guarded(failure, [&] { vilg::cuda::op(*params, queue_of(queue)); });               \
  };
  VILG_OPS(VILG_OP)
#undef VILG_OP
  return t;
}

}  // namespace

extern "C" __attribute__((visibility("default"))) const VilgPlugin* vilg_plugin() {
  static const VilgPlugin table = make_table();
  return &table;
}
