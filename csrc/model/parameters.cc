#include "model/parameters.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <memory>
#include <numbers>
#include <type_traits>

#include "core/philox.h"
#include "core/thread_pool.h"

namespace vilg {
namespace {

Shape memory_shape(const ParameterSpec& spec) {
  const Shape& s = spec.shape;
  return spec.convolution ? Shape{s[0], s[2], s[3], s[1]} : s;
}

// Files only promise byte alignment, so elements are read through memcpy.
template <typename T>
T element(const void* from, int64_t i) {
  T value;
  std::memcpy(&value, static_cast<const char*>(from) + i * static_cast<int64_t>(sizeof(T)),
              sizeof(T));
  return value;
}

float cast(float value, float) { return value; }
bf16 cast(float value, bf16) { return float_to_bf16(value); }
float cast(bf16 value, float) { return bf16_to_float(value); }
bf16 cast(bf16 value, bf16) { return value; }

template <typename From, typename To>
void convert_run(To* to, const void* from, int64_t start, int64_t count) {
  if constexpr (std::is_same_v<From, To>) {
    constexpr auto size = static_cast<int64_t>(sizeof(To));
    std::memcpy(to, static_cast<const char*>(from) + start * size,
                static_cast<size_t>(count * size));
  } else {
    for (int64_t i = 0; i < count; ++i) to[i] = cast(element<From>(from, start + i), To{});
  }
}

// to (blocks, columns, rows) = from (blocks, rows, columns), blocks start .. start + count - 1 of
// `from`
template <typename From, typename To>
void transpose_run(To* to, const void* from, int64_t start, int64_t count, int64_t rows,
                   int64_t columns) {
  for (int64_t block = 0; block < count; ++block) {
    const int64_t offset = (start + block) * rows * columns;
    for (int64_t c = 0; c < columns; ++c) {
      for (int64_t r = 0; r < rows; ++r) {
        *to++ = cast(element<From>(from, offset + r * columns + c), To{});
      }
    }
  }
}

template <typename Run>
void with_dtypes(DType from, DType to, Run run) {
  const auto second = [&](auto source) {
    if (to == DType::kFloat32) return run(source, float{});
    return run(source, bf16{});
  };
  from == DType::kFloat32 ? second(float{}) : second(bf16{});
}

// How a weight's elements are arranged: `outer` independent pieces of rows x columns, transposed
// between file and memory where a convolution's taps are not one pixel.
struct Layout {
  int64_t outer, rows, columns;
  bool transposed;
};

Layout layout_of(const ParameterSpec& spec) {
  const Shape& s = spec.shape;
  if (spec.convolution && s[1] > 1 && s[2] * s[3] > 1) return {s[0], s[1], s[2] * s[3], true};
  return {1, 1, s.num_elements(), false};
}

// Elements that are converted between two copies to or from the backend: bounds the staging
// memory, and is enough work for all threads.
constexpr int64_t kChunkElements = 4 << 20;
constexpr int64_t kTaskElements = 64 << 10;

// What cannot be converted in parts.
int64_t unit_of(const Layout& layout) {
  return layout.transposed ? layout.rows * layout.columns : 1;
}

int64_t chunk_elements(const Layout& layout) {
  const int64_t unit = unit_of(layout);
  return std::max<int64_t>(kChunkElements / unit, 1) * unit;
}

// Element `i` of a fresh weight, in the file's order.
float fresh_value(const Init& init, uint64_t seed, size_t index, uint64_t i) {
  switch (init.kind) {
    case Init::Kind::kZero:
      return 0.0f;
    case Init::Kind::kOne:
      return 1.0f;
    case Init::Kind::kConstant:
      return init.scale;
    case Init::Kind::kNormal:
    case Init::Kind::kUniform:
    case Init::Kind::kNormalOne:
      break;
  }
  const auto bits = philox(seed, RandomPurpose::kInit, static_cast<uint32_t>(index), i);
  const double u = uniform_from_bits(bits[0]), v = uniform_from_bits(bits[1]);
  if (init.kind == Init::Kind::kUniform) return init.scale * static_cast<float>(2 * u - 1);
  // Box-Muller; 1 - u is never zero
  const double normal = std::sqrt(-2 * std::log(1 - u)) * std::cos(2 * std::numbers::pi * v);
  return (init.kind == Init::Kind::kNormalOne ? 1.0f : 0.0f) +
         init.scale * static_cast<float>(normal);
}

// Runs convert(start, count) over 0 .. num_elements - 1 in pieces that are multiples of `unit`,
// spread over the threads.
void for_each_task(int64_t num_elements, int64_t unit,
                   const std::function<void(int64_t, int64_t)>& convert) {
  const int64_t step = std::max<int64_t>(kTaskElements / unit, 1) * unit;
  ThreadPool::shared().parallel_for(ceil_div(num_elements, step), [&](int64_t task) {
    convert(task * step, std::min(step, num_elements - task * step));
  });
}

}  // namespace

DType ParameterList::storage_dtype(const ParameterSpec& spec, DType matrix_dtype) {
  return spec.shape.rank() >= 2 && !spec.precise ? matrix_dtype : DType::kFloat32;
}

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
    parameter.value = backend.empty(storage_dtype(spec, matrix_dtype), memory_shape(spec));
  }
}

ParameterList::~ParameterList() {
  parameters_.clear();
  backend_->trim();
}

size_t ParameterList::size_bytes(const std::vector<ParameterSpec>& specs, DType matrix_dtype) {
  size_t total = 0;
  for (const ParameterSpec& spec : specs) {
    total += static_cast<size_t>(spec.shape.num_elements()) *
             dtype_size(storage_dtype(spec, matrix_dtype));
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

void ParameterList::initialize(uint64_t seed, const StopFlag* stop) {
  // a piece at a time: touching fresh memory for all of a large matrix takes longer than drawing it
  std::vector<float> values;
  for (size_t index = 0; index < specs_.size(); ++index) {
    const Init init = specs_[index].init;
    const int64_t num_elements = specs_[index].shape.num_elements();
    const int64_t chunk = chunk_elements(layout_of(specs_[index]));
    values.resize(std::max(values.size(), static_cast<size_t>(std::min(chunk, num_elements))));
    for (int64_t start = 0; start < num_elements; start += chunk) {
      if (stop) stop->check();
      const int64_t count = std::min(chunk, num_elements - start);
      for_each_task(count, 1, [&](int64_t first, int64_t n) {
        for (int64_t i = first; i < first + n; ++i) {
          values[static_cast<size_t>(i)] =
              fresh_value(init, seed, index, static_cast<uint64_t>(start + i));
        }
      });
      load_part(index, values.data(), DType::kFloat32, start, count);
    }
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
  const Layout layout = layout_of(specs_[index]);
  if (!layout.transposed && from_dtype == value.dtype()) {
    backend_->copy_in(value.data(), from, value.size_bytes());
    return;
  }
  const int64_t chunk = chunk_elements(layout);
  const auto from_size = static_cast<int64_t>(dtype_size(from_dtype));
  for (int64_t start = 0; start < value.num_elements(); start += chunk) {
    load_part(index, static_cast<const char*>(from) + start * from_size, from_dtype, start,
              std::min(chunk, value.num_elements() - start));
  }
}

void ParameterList::load_part(size_t index, const void* from, DType from_dtype, int64_t start,
                              int64_t count) {
  const Tensor& value = parameters_[index].value;
  const Layout layout = layout_of(specs_[index]);
  const int64_t unit = unit_of(layout);
  const auto to_size = static_cast<int64_t>(dtype_size(value.dtype()));
  const std::unique_ptr<unsigned char[]> staging(
      new unsigned char[static_cast<size_t>(count * to_size)]);
  with_dtypes(from_dtype, value.dtype(), [&](auto source, auto target) {
    using From = decltype(source);
    using To = decltype(target);
    auto* to = reinterpret_cast<To*>(staging.get());
    for_each_task(count, unit, [&](int64_t at, int64_t n) {
      if (layout.transposed) {
        transpose_run<From>(to + at, from, at / unit, n / unit, layout.rows, layout.columns);
      } else {
        convert_run<From>(to + at, from, at, n);
      }
    });
  });
  backend_->copy_in(value.as<char>() + start * to_size, staging.get(),
                    static_cast<size_t>(count * to_size));
}

std::vector<float> ParameterList::read(size_t index, bool gradient) const {
  const Parameter& parameter = parameters_[index];
  std::vector<float> values(static_cast<size_t>(parameter.num_elements()));
  const Tensor& tensor = gradient ? parameter.grad : parameter.value;
  if (!tensor) return values;  // a gradient that nothing reached is zero
  const Layout layout = layout_of(specs_[index]);
  if (!layout.transposed && tensor.dtype() == DType::kFloat32) {
    backend_->copy_out(values.data(), tensor.data(), tensor.size_bytes());
    return values;
  }
  std::vector<unsigned char> staging(tensor.size_bytes());
  backend_->copy_out(staging.data(), tensor.data(), staging.size());
  const int64_t unit = unit_of(layout);
  with_dtypes(tensor.dtype(), DType::kFloat32, [&](auto source, auto) {
    using From = decltype(source);
    for_each_task(tensor.num_elements(), unit, [&](int64_t at, int64_t n) {
      if (layout.transposed) {  // rows and columns swap places on the way back
        transpose_run<From>(values.data() + at, staging.data(), at / unit, n / unit, layout.columns,
                            layout.rows);
      } else {
        convert_run<From>(values.data() + at, staging.data(), at, n);
      }
    });
  });
  return values;
}

FrozenScope::FrozenScope(ParameterList& parameters)
    : FrozenScope(parameters, std::vector<bool>(parameters.all().size(), true)) {}

FrozenScope::FrozenScope(ParameterList& parameters, const std::vector<bool>& frozen)
    : parameters_(parameters) {
  for (size_t i = 0; i < frozen.size(); ++i) {
    Parameter& parameter = parameters.all()[i];
    before_.push_back(parameter.frozen);
    if (frozen[i]) parameter.frozen = true;
  }
}

FrozenScope::~FrozenScope() {
  for (size_t i = 0; i < before_.size(); ++i) parameters_.all()[i].frozen = before_[i];
}

}  // namespace vilg
