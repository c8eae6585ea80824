#pragma once

#include "autograd/tape.h"

namespace vilg {

// A double that an op writes on its device.
class DeviceDouble {
 public:
  explicit DeviceDouble(Tape& tape)
      : tape_(tape), memory_(tape.backend().empty(DType::kUInt8, {int64_t{sizeof(double)}})) {}
  double* data() const { return memory_.as<double>(); }
  double read() const {
    double value = 0;
    tape_.backend().copy_out(&value, memory_.data(), sizeof(double));
    return value;
  }

 private:
  Tape& tape_;
  Tensor memory_;
};

}  // namespace vilg
