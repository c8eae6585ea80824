#pragma once

#include <cstdint>

#include "core/dtype.h"
#include "core/memory.h"
#include "cuda/queue.h"

namespace vilg::cuda {

// A matrix as products read it: of one type, rows padded with zeros to whole 16 bytes. Where it
// lies if it is so already, a copy otherwise.
class OperandRows {
 public:
  OperandRows(const void* rows, DType from, DType to, int64_t count, int64_t columns, Queue& queue);
  template <typename T>
  const T* as() const {
    return static_cast<const T*>(data_);
  }
  int64_t pitch() const { return pitch_; }  // elements

 private:
  int64_t pitch_;
  bool in_place_;
  Workspace memory_;
  const void* data_;
};

// Columns and zeros up to a multiple of 16 bytes.
int64_t padded_columns(int64_t columns, DType dtype);

}  // namespace vilg::cuda
