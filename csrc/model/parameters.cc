#include "model/parameters.h"

#include <cmath>
#include <cstring>
#include <numbers>

#include "core/philox.h"

namespace vilg {
namespace {

DType storage_dtype(const Shape& shape, DType matrix_dtype) {
  return shape.rank() >= 2 ? matrix_dtype : DType::kFloat32;
}

Shape memory_shape(const ParameterSpec& spec) {
  const Shape& s = spec.shape;
  return spec.convolution ? Shape{s[0], s[2], s[3], s[1]} : s;
}

// file index -> memory index of a convolution weight
template <typename Visit>
void for_each_element(const ParameterSpec& spec, Visit visit) {
  const Shape& s = spec.shape;
  if (!spec.convolution) {
    for (int64_t i = 0; i < s.num_elements(); ++i) visit(i, i);
    return;
  }
  const int64_t outs = s[0], ins = s[1], taps = s[2] * s[3];
  for (int64_t o = 0; o < outs; ++o) {
    for (int64_t i = 0; i < ins; ++i) {
      for (int64_t t = 0; t < taps; ++t) visit((o * ins + i) * taps + t, (o * taps + t) * ins + i);
    }
  }
}

}  // namespace

ParameterList::ParameterList(Backend& backend, const std::vector<ParameterSpec>& specs,
                             DType matrix_dtype)
    : backend_(&backend), specs_(specs) {
  const size_t needed = size_bytes(specs, matrix_dtype), available = backend.available_bytes();
  VILG_CHECK(available == 0 || needed <= available, kOutOfMemory,
             "The weights of this model need %zu bytes, %zu bytes are available", needed,
             available);
  for (const ParameterSpec& spec : specs_) {
    by_name_.emplace(spec.name, parameters_.size());
    Parameter& parameter = parameters_.emplace_back();
    parameter.name = spec.name;
    parameter.value = backend.empty(storage_dtype(spec.shape, matrix_dtype), memory_shape(spec));
  }
}

size_t ParameterList::size_bytes(const std::vector<ParameterSpec>& specs, DType matrix_dtype) {
  size_t total = 0;
  for (const ParameterSpec& spec : specs) {
    total += static_cast<size_t>(spec.shape.num_elements()) *
             dtype_size(storage_dtype(spec.shape, matrix_dtype));
  }
  return total;
}

size_t ParameterList::index_of(std::string_view name) const {
  const auto found = by_name_.find(std::string(name));
  VILG_CHECK(found != by_name_.end(), kInternal, "no weight is called %.*s",
             static_cast<int>(name.size()), name.data());
  return found->second;
}

Parameter& ParameterList::operator[](std::string_view name) { return parameters_[index_of(name)]; }

int64_t ParameterList::num_elements() const {
  int64_t total = 0;
  for (const Parameter& parameter : parameters_) total += parameter.num_elements();
  return total;
}

void ParameterList::initialize(uint64_t seed) {
  for (size_t index = 0; index < specs_.size(); ++index) {
    const auto [kind, scale] = specs_[index].init;
    std::vector<float> values(static_cast<size_t>(specs_[index].shape.num_elements()),
                              kind == Init::Kind::kOne ? 1.0f : 0.0f);
    if (kind == Init::Kind::kNormal || kind == Init::Kind::kUniform) {
      for (size_t i = 0; i < values.size(); ++i) {
        const auto bits = philox(seed, RandomPurpose::kInit, static_cast<uint32_t>(index), i);
        const double u = uniform_from_bits(bits[0]), v = uniform_from_bits(bits[1]);
        // Box-Muller; 1 - u is never zero
        values[i] = kind == Init::Kind::kUniform
                        ? scale * static_cast<float>(2 * u - 1)
                        : scale * static_cast<float>(std::sqrt(-2 * std::log(1 - u)) *
                                                     std::cos(2 * std::numbers::pi * v));
      }
    }
    load(index, values.data(), DType::kFloat32);
  }
}

void ParameterList::zero_grad() {
  for (Parameter& parameter : parameters_) {
    if (parameter.grad) backend_->fill_zero(parameter.grad.data(), parameter.grad.size_bytes());
  }
}

void ParameterList::load(size_t index, const void* from, DType from_dtype) {
  VILG_CHECK(from_dtype == DType::kFloat32 || from_dtype == DType::kBFloat16, kUnsupported,
             "%s: weights of type %s cannot be loaded", specs_[index].name.c_str(),
             dtype_name(from_dtype));
  const Tensor& value = parameters_[index].value;
  std::vector<unsigned char> staging(value.size_bytes());
  const auto read = [&](int64_t i) {
    float x;
    if (from_dtype == DType::kFloat32) {
      // files only promise byte alignment
      std::memcpy(&x, static_cast<const char*>(from) + i * 4, 4);
    } else {
      bf16 half;
      std::memcpy(&half, static_cast<const char*>(from) + i * 2, 2);
      x = bf16_to_float(half);
    }
    return x;
  };
  if (value.dtype() == DType::kFloat32) {
    auto* to = reinterpret_cast<float*>(staging.data());
    for_each_element(specs_[index], [&](int64_t file, int64_t memory) { to[memory] = read(file); });
  } else {
    auto* to = reinterpret_cast<bf16*>(staging.data());
    for_each_element(specs_[index],
                     [&](int64_t file, int64_t memory) { to[memory] = float_to_bf16(read(file)); });
  }
  backend_->copy_in(value.data(), staging.data(), staging.size());
}

std::vector<float> ParameterList::read(size_t index, bool gradient) const {
  const Parameter& parameter = parameters_[index];
  std::vector<float> values(static_cast<size_t>(parameter.num_elements()));
  const Tensor& tensor = gradient ? parameter.grad : parameter.value;
  if (!tensor) return values;  // a gradient that nothing reached is zero
  std::vector<unsigned char> staging(tensor.size_bytes());
  backend_->copy_out(staging.data(), tensor.data(), staging.size());
  for_each_element(specs_[index], [&](int64_t file, int64_t memory) {
    values[static_cast<size_t>(file)] =
        tensor.dtype() == DType::kFloat32
            ? reinterpret_cast<const float*>(staging.data())[memory]
            : bf16_to_float(reinterpret_cast<const bf16*>(staging.data())[memory]);
  });
  return values;
}

}  // namespace vilg
