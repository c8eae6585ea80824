// Reference values of test/fixtures, and where they lie.
#pragma once

#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "io/safetensors.h"
#include "kernels/backend.h"

namespace vilg::test {

// In the sources that the tests were built from, or where the environment variable VILG_FIXTURES
// says: tests may be run on another machine than they were built on.
inline std::string fixture_path(const std::string& name) {
  const char* elsewhere = std::getenv("VILG_FIXTURES");
  return std::string(elsewhere ? elsewhere : VILG_FIXTURES) + "/" + name;
}

class Fixture {
 public:
  explicit Fixture(const std::string& name)
      : file_(io::SafetensorsFile::open(fixture_path(name))) {}
  const io::SafetensorsFile& file() const { return *file_; }
  bool has(const std::string& name) const { return file_->find(name) != nullptr; }
  std::vector<float> floats(const std::string& name) const {
    const io::StoredTensor& tensor = file_->get(name);
    std::vector<float> values(static_cast<size_t>(tensor.num_elements()));
    io::read_float32(tensor, values.data());
    return values;
  }
  template <typename T>  // int32_t or uint8_t, as the file has it
  std::vector<T> integers(const std::string& name) const {
    const Tensor view = file_->view(file_->get(name));
    return {view.as<T>(), view.as<T>() + view.num_elements()};
  }

 private:
  std::shared_ptr<io::SafetensorsFile> file_;
};

// Those that the tests of models run on: of the CPU (backends.cc), or the CUDA one
// (cuda/cuda_backend.cc).
std::vector<Backend*> backends();

}  // namespace vilg::test
