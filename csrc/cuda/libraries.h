#pragma once

#include <string>

namespace vilg::cuda {

// NVIDIA's libraries as found at run time, as a JSON object: {"cublasLt": {"version": "..."} or
// {"missing": "why"}}.
std::string libraries_json();

}  // namespace vilg::cuda
