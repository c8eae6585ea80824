#pragma once

#include <functional>
#include <string>
#include <vector>

#include "core/stop_flag.h"
#include "io/safetensors.h"
#include "model/parameters.h"

namespace vilg {

// What a file and a list of weights do not have in common.
struct LoadReport {
  std::vector<std::string> missing;     // weights that the file lacks
  std::vector<std::string> unexpected;  // tensors that the model has no place for
};

struct LoadOptions {
  // Throw kCheckpointIncompatible when anything is missing or unexpected. Otherwise missing weights
  // keep the values they have.
  bool strict = true;
  // Called after every tensor with the part of the elements that is loaded, in (0, 1].
  std::function<void(double fraction)> on_progress = nullptr;
  const StopFlag* stop = nullptr;
};

// Loads float32, bfloat16 or float16 tensors into the weights, converted to their types. Everything
// is checked before anything is loaded: kCheckpointIncompatible names the tensor, what was expected
// and what was found.
LoadReport load_parameters(ParameterList& parameters, const io::SafetensorsFile& file,
                           const LoadOptions& options = {});

// Writes every weight under its name, in the file's layout: matrices as `matrix_dtype` (float32 or
// bfloat16), vectors and codebooks as float32. Atomic.
void save_parameters(const ParameterList& parameters, const std::string& path, DType matrix_dtype,
                     const StopFlag* stop = nullptr);

}  // namespace vilg
