#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "autograd/tape.h"

namespace vilg {

// How a fresh model's weight begins.
struct Init {
  // kNormalOne: normal around 1
  enum class Kind { kZero, kOne, kConstant, kNormal, kUniform, kNormalOne } kind = Kind::kZero;
  float scale = 0;  // the constant, the standard deviation, or the bound of the uniform
};

// One row of a model's list of weights. `shape` is the file's (as PyTorch stores it).
struct ParameterSpec {
  std::string name;
  Shape shape;
  Init init;
  // Convolution weights lie as [Cout, Cin, Ky, Kx] in files and as [Cout, Ky, Kx, Cin] in memory
  // (NHWC kernels).
  bool convolution = false;
  // Weight decay applies: the matrices of layers, not norms, biases, embeddings and codebooks.
  bool decay = false;
  // Stays float32 in bfloat16 models: codebooks, where rounding would move which code is nearest.
  bool precise = false;
};

// All weights of a model, in the order of its list. References stay valid while the list lives.
class ParameterList {
 public:
  // Allocates every weight; matrices (rank >= 2) in `matrix_dtype`, vectors in float32. Values are
  // uninitialised.
  ParameterList(Backend& backend, const std::vector<ParameterSpec>& specs, DType matrix_dtype);
  // What a model that is gone has used goes back to the system, and is not kept for the next one.
  ~ParameterList();
  ParameterList(const ParameterList&) = delete;
  ParameterList& operator=(const ParameterList&) = delete;

  Parameter& operator[](std::string_view name);
  std::deque<Parameter>& all() { return parameters_; }
  const std::vector<ParameterSpec>& specs() const { return specs_; }
  Backend& backend() const { return *backend_; }
  int64_t num_elements() const;

  // Fresh values, a pure function of seed and the weight's place in the list.
  void initialize(uint64_t seed, const StopFlag* stop = nullptr);
  void zero_grad();

  // Host values in the file's layout <-> the weight's own layout and type. `from` may be float32 or
  // bfloat16, at any alignment (a file map).
  void load(size_t index, const void* from, DType from_dtype);
  std::vector<float> read(size_t index, bool gradient = false) const;
  size_t index_of(std::string_view name) const;  // throws kInternal

  // The type in which such a weight lies, in memory and in files.
  static DType storage_dtype(const ParameterSpec& spec, DType matrix_dtype);
  // Bytes that the weights of such a list take.
  static size_t size_bytes(const std::vector<ParameterSpec>& specs, DType matrix_dtype);

 private:
  // Elements start .. start + count - 1 of the file's order, whole taps of a convolution, from
  // `from`.
  void load_part(size_t index, const void* from, DType from_dtype, int64_t start, int64_t count);

  Backend* backend_;
  std::vector<ParameterSpec> specs_;
  std::deque<Parameter> parameters_;
  std::unordered_map<std::string, size_t> by_name_;
};

// For the time of a scope no gradient is computed for a model's weights, or for some of them.
class FrozenScope {
 public:
  explicit FrozenScope(ParameterList& parameters);
  // `frozen`: one a weight, in their order.
  FrozenScope(ParameterList& parameters, const std::vector<bool>& frozen);
  ~FrozenScope();
  FrozenScope(const FrozenScope&) = delete;
  FrozenScope& operator=(const FrozenScope&) = delete;

 private:
  ParameterList& parameters_;
  std::vector<bool> before_;
};

}  // namespace vilg
