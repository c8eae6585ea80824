#pragma once

#include <cstdint>

#include "cuda/queue.h"

// Every wrapper of device.h on given words: on a GPU it runs the instruction, on the host its twin,
// and a test compares the two. One block of kConformanceThreads threads; a thread reads
// kConformanceWords words and writes as many.
namespace vilg::cuda {

inline constexpr int kConformanceThreads = 64, kConformanceWords = 16;

// Whether the two must have the same bits, or floats that differ by a few units in the last place.
struct ConformanceCase {
  const char* name;
  bool exact;
  bool small_integers;  // as bfloat16 pairs: sums are exact in any order
};
inline constexpr ConformanceCase kConformanceCases[] = {
    {"pack_bf16", true, false},
    {"exp2_fast", false, false},
    {"reciprocal_fast", false, false},
    {"shuffle_xor", true, false},
    {"shuffle", true, false},
    {"shuffle_up", true, false},
    {"shuffle_down", true, false},
    {"ballot", true, false},
    {"copy_async_16", true, false},
    {"load_matrices", true, false},
    {"load_matrices_transposed", true, false},
    {"multiply_bf16", true, true},
    {"load_streaming", true, false},
    {"atomics", true, false},
    {"warp_sum", true, true},
    {"block_sum", true, true},
    {"vectors", true, false},
    {"reduce", true, false},
};

void conformance(int32_t number, const uint32_t* in, uint32_t* out, Queue& queue);

}  // namespace vilg::cuda
