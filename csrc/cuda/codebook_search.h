// What the exact search for codes and the filter before it share.
#pragma once

#include <cstdint>

#include "cuda/queue.h"

namespace vilg::cuda {

inline constexpr int kCodebookRows = 128;  // vectors of a block, in both

// Vectors and codes as rows of floats, 16-byte aligned and zeros up to a multiple of four: those
// change no chain of fused multiply-adds but for the sign of a zero, which no comparison sees.
struct CodebookSearch {
  const float *vectors, *codes;
  const float* code_norms;  // (size)
  int64_t rows;
  int size, dim, pitch;
  // The best of a part of the codes, (parts, rows).
  float* scores;
  int32_t* indices;
};

// Rules codes out by products of bfloat16 and scores the others exactly. For vectors whose codes
// are too much alike to be told apart it does nothing but raise the flag of their block of
// kCodebookRows, and leaves them to the exact search.
class CodebookFilter {
 public:
  // Whether it is faster, and the device has the shared memory.
  static bool pays(const CodebookSearch& search, const Queue& queue);
  // `flags` (blocks) are 0 before. Writes part 0 of scores and indices.
  static void run(const CodebookSearch& search, int32_t* flags, Queue& queue);
};

}  // namespace vilg::cuda
