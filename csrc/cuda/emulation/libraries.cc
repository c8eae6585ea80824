#include "cuda/libraries.h"

namespace vilg::cuda {

std::string libraries_json() {
  return R"({"cublasLt": {"missing": "the emulation on the host uses no library"}})";
}

}  // namespace vilg::cuda
