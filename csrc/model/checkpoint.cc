#include "model/checkpoint.h"

#include <algorithm>
#include <set>

namespace vilg {
namespace {

// "a, b, c and 17 more"
std::string some_of(const std::vector<std::string>& names) {
  constexpr size_t kShown = 5;
  std::string text;
  for (size_t i = 0; i < std::min(names.size(), kShown); ++i) {
    if (i > 0) text += ", ";
    text += names[i];
  }
  if (names.size() > kShown) text += " and " + std::to_string(names.size() - kShown) + " more";
  return text;
}

bool loadable(io::StoredType type) {
  return type == io::StoredType::kF32 || type == io::StoredType::kBF16 ||
         type == io::StoredType::kF16;
}

void load(ParameterList& parameters, size_t index, const io::StoredTensor& tensor) {
  if (tensor.type == io::StoredType::kF32) {
    parameters.load(index, tensor.data, DType::kFloat32);
  } else if (tensor.type == io::StoredType::kBF16) {
    parameters.load(index, tensor.data, DType::kBFloat16);
  } else {
    std::vector<float> values(static_cast<size_t>(tensor.num_elements()));
    io::read_float32(tensor, values.data());
    parameters.load(index, values.data(), DType::kFloat32);
  }
}

}  // namespace

LoadReport load_parameters(ParameterList& parameters, const io::SafetensorsFile& file,
                           const LoadOptions& options) {
  LoadReport report;
  std::set<std::string> known;
  int64_t total = 0;
  for (const ParameterSpec& spec : parameters.specs()) {
    known.insert(spec.name);
    const io::StoredTensor* tensor = file.find(spec.name);
    if (!tensor) {
      report.missing.push_back(spec.name);
      continue;
    }
    file.get(spec.name, spec.shape);  // throws where the shape is another
    VILG_CHECK(loadable(tensor->type), kCheckpointIncompatible,
               "%s: expected %s of type F32, BF16 or F16, found %s", file.path().c_str(),
               spec.name.c_str(), io::stored_type_name(tensor->type));
    total += spec.shape.num_elements();
  }
  for (const io::StoredTensor& tensor : file.tensors()) {
    if (!known.contains(tensor.name)) report.unexpected.push_back(tensor.name);
  }
  if (options.strict) {
    VILG_CHECK(
        report.missing.empty(), kCheckpointIncompatible,
        "%s: expected %zu tensors, %zu of them are missing: %s%s%s", file.path().c_str(),
        parameters.specs().size(), report.missing.size(), some_of(report.missing).c_str(),
        report.unexpected.empty() ? "" : "; found instead: ", some_of(report.unexpected).c_str());
    VILG_CHECK(report.unexpected.empty(), kCheckpointIncompatible,
               "%s: expected %zu tensors, found %zu more that this model has no place for: %s",
               file.path().c_str(), parameters.specs().size(), report.unexpected.size(),
               some_of(report.unexpected).c_str());
  }

  int64_t done = 0;
  for (size_t index = 0; index < parameters.specs().size(); ++index) {
    const ParameterSpec& spec = parameters.specs()[index];
    const io::StoredTensor* tensor = file.find(spec.name);
    if (!tensor) continue;
    if (options.stop) options.stop->check();
    load(parameters, index, *tensor);
    done += spec.shape.num_elements();
    if (options.on_progress) {
      options.on_progress(static_cast<double>(done) / static_cast<double>(total));
    }
  }
  return report;
}

void save_parameters(const ParameterList& parameters, const std::string& path, DType matrix_dtype,
                     const StopFlag* stop) {
  VILG_CHECK(matrix_dtype == DType::kFloat32 || matrix_dtype == DType::kBFloat16, kInvalidArgument,
             "Expected weights to be saved as float32 or bfloat16, received %s",
             dtype_name(matrix_dtype));
  std::vector<std::vector<float>> full;
  std::vector<std::vector<bf16>> half;
  std::vector<io::TensorToWrite> tensors;
  for (size_t index = 0; index < parameters.specs().size(); ++index) {
    if (stop) stop->check();
    const ParameterSpec& spec = parameters.specs()[index];
    io::TensorToWrite& tensor = tensors.emplace_back();
    tensor.name = spec.name;
    for (int i = 0; i < spec.shape.rank(); ++i) tensor.shape.push_back(spec.shape[i]);
    std::vector<float> values = parameters.read(index);
    const DType dtype = parameters.storage_dtype(spec, matrix_dtype);
    tensor.type = io::stored_type(dtype);
    if (dtype == DType::kFloat32) {
      tensor.data = full.emplace_back(std::move(values)).data();
    } else {
      std::vector<bf16>& rounded = half.emplace_back(values.size());
      std::transform(values.begin(), values.end(), rounded.begin(), float_to_bf16);
      tensor.data = rounded.data();
    }
  }
  io::write_safetensors(path, std::move(tensors), {}, stop);
}

}  // namespace vilg
