// The border between the addon and a plugin that computes on a GPU (libvilg_cuda.so): one C
// function that gives a table of C functions. Both sides are built from one commit, which the
// version tells; nothing is thrown across, and neither side sees the other's memory management.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/op_table.h"

extern "C" {

struct VilgPluginFailure {
  int32_t code;  // of vilg::ErrorCode
  char message[1024];
  char file[128];
  int32_t line;
};

struct VilgPluginDevice {
  char name[256];
  int32_t compute_major, compute_minor, multiprocessors;
  uint64_t memory_bytes, available_bytes;
  int32_t emulated;
};

struct VilgPluginQueue;
struct VilgPluginRecording;

// Every function but those without a failure gives 0, or 1 with the failure filled in.
struct VilgPlugin {
  size_t table_bytes;   // of this struct
  const char* version;  // of the package
  // How many devices there are; a failure says why none can be used.
  int (*count_devices)(int32_t* count, VilgPluginFailure*);
  int (*describe)(int32_t device, VilgPluginDevice* description, VilgPluginFailure*);
  // A JSON object of the libraries that the plugin has found at run time, and why others are not
  // used.
  int (*libraries)(char* json, size_t capacity, VilgPluginFailure*);

  int (*open)(int32_t device, VilgPluginQueue** queue, VilgPluginFailure*);
  int (*allocate)(VilgPluginQueue*, size_t size_bytes, void** block, VilgPluginFailure*);
  void (*deallocate)(VilgPluginQueue*, void* block);
  void (*memory)(VilgPluginQueue*, uint64_t* in_use, uint64_t* peak, uint64_t* available);
  void (*reset_peak)(VilgPluginQueue*);
  void (*trim)(VilgPluginQueue*);
  int (*copy_in)(VilgPluginQueue*, void* to, const void* from_host, size_t, VilgPluginFailure*);
  int (*copy_out)(VilgPluginQueue*, void* to_host, const void* from, size_t, VilgPluginFailure*);
  int (*copy)(VilgPluginQueue*, void* to, const void* from, size_t, VilgPluginFailure*);
  int (*fill)(VilgPluginQueue*, void* to, uint8_t value, size_t, VilgPluginFailure*);
  int (*synchronize)(VilgPluginQueue*, VilgPluginFailure*);

  int (*begin_recording)(VilgPluginQueue*, VilgPluginFailure*);
  int (*end_recording)(VilgPluginQueue*, VilgPluginRecording**, VilgPluginFailure*);
  void (*abandon_recording)(VilgPluginQueue*);
  int (*replay)(VilgPluginQueue*, VilgPluginRecording*, VilgPluginFailure*);
  void (*release_recording)(VilgPluginRecording*);

  // Case `number` of cuda/conformance.h, for tests.
  int (*conformance)(VilgPluginQueue*, int32_t number, const uint32_t* in, uint32_t* out,
                     VilgPluginFailure*);

  int (*start_timer)(VilgPluginQueue*, VilgPluginFailure*);
  int (*stop_timer)(VilgPluginQueue*, double* milliseconds, VilgPluginFailure*);

  // One for each op; the parameters have been validated, pointers are to the device's memory.
#define VILG_OP(op, Params) int (*op)(const vilg::Params*, VilgPluginQueue*, VilgPluginFailure*);
  VILG_OPS(VILG_OP)
#undef VILG_OP
};

// What a plugin exports under the name "vilg_plugin".
using VilgPluginEntry = const VilgPlugin* (*)();

}  // extern "C"
