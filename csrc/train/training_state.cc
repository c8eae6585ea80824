#include "train/training_state.h"

#include <charconv>
#include <cstring>

#include "io/safetensors.h"

namespace vilg {
namespace {

constexpr const char* kFormat = "ernie-vilg-training-state";
constexpr const char* kFormatVersion = "1";

std::vector<int64_t> dims_of(const Shape& shape) {
  std::vector<int64_t> dims;
  for (int i = 0; i < shape.rank(); ++i) dims.push_back(shape[i]);
  return dims;
}

const std::string& metadata_of(const io::SafetensorsFile& file, const std::string& key) {
  const auto found = file.metadata().find(key);
  VILG_CHECK(found != file.metadata().end(), kCheckpointIncompatible,
             "%s: expected a training state with %s in its metadata, found none",
             file.path().c_str(), key.c_str());
  return found->second;
}

void expect_metadata(const io::SafetensorsFile& file, const std::string& key,
                     const std::string& expected) {
  const std::string& found = metadata_of(file, key);
  VILG_CHECK(found == expected, kCheckpointIncompatible, "%s: expected %s %s, found %s",
             file.path().c_str(), key.c_str(), expected.c_str(), found.c_str());
}

uint64_t number_of(const io::SafetensorsFile& file, const std::string& key) {
  const std::string& text = metadata_of(file, key);
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  VILG_CHECK(error == std::errc() && end == text.data() + text.size(), kCheckpointFormat,
             "%s: expected a whole number for %s, found \"%s\"", file.path().c_str(), key.c_str(),
             text.c_str());
  return value;
}

// A tensor of the file that must have this type and shape.
const io::StoredTensor& expect_tensor(const io::SafetensorsFile& file, const std::string& name,
                                      const Shape& shape, io::StoredType type) {
  const io::StoredTensor& tensor = file.get(name, shape);
  VILG_CHECK(tensor.type == type, kCheckpointIncompatible, "%s: expected %s of type %s, found %s",
             file.path().c_str(), name.c_str(), io::stored_type_name(type),
             io::stored_type_name(tensor.type));
  return tensor;
}

Shape length_of(const std::vector<int32_t>& values) {
  return {static_cast<int64_t>(values.size())};
}

}  // namespace

void save_training_state(const std::string& path, Optimizer& optimizer,
                         const TrainingExtras& extras, const StopFlag* stop) {
  ParameterList& parameters = optimizer.parameters();
  Backend& backend = parameters.backend();
  std::vector<std::vector<float>> held;  // copies on the host while the file is written
  std::vector<io::TensorToWrite> tensors;
  const auto add = [&](std::string name, const Shape& shape, std::vector<float> values) {
    held.push_back(std::move(values));
    tensors.push_back({.name = std::move(name),
                       .type = io::StoredType::kF32,
                       .shape = dims_of(shape),
                       .data = held.back().data()});
  };
  const auto download = [&](const Tensor& tensor) {
    std::vector<float> values(static_cast<size_t>(tensor.num_elements()));
    backend.copy_out(values.data(), tensor.f32(), tensor.size_bytes());
    return values;
  };
  for (size_t i = 0; i < parameters.specs().size(); ++i) {
    if (stop) stop->check();
    const ParameterSpec& spec = parameters.specs()[i];
    const Tensor &m = optimizer.first_moment(i), &v = optimizer.second_moment(i);
    add(spec.name, spec.shape, parameters.read(i));
    add("m." + spec.name, m.shape(), download(m));
    add("v." + spec.name, v.shape(), download(v));
  }
  for (const auto& [name, values] : extras.arrays) {
    tensors.push_back({.name = "state." + name,
                       .type = io::StoredType::kI32,
                       .shape = dims_of(length_of(values)),
                       .data = values.data()});
  }
  std::map<std::string, std::string> metadata{{"format", kFormat},
                                              {"version", kFormatVersion},
                                              {"kind", extras.kind},
                                              {"steps", std::to_string(optimizer.steps())}};
  for (const auto& [name, value] : extras.numbers) metadata[name] = std::to_string(value);
  io::write_safetensors(path, std::move(tensors), metadata, stop);
}

void load_training_state(const std::string& path, Optimizer& optimizer, TrainingExtras& extras,
                         const StopFlag* stop) {
  const auto file = io::SafetensorsFile::open(path);
  ParameterList& parameters = optimizer.parameters();
  Backend& backend = parameters.backend();
  expect_metadata(*file, "format", kFormat);
  expect_metadata(*file, "version", kFormatVersion);
  expect_metadata(*file, "kind", extras.kind);
  const uint64_t steps = number_of(*file, "steps");
  std::map<std::string, uint64_t> numbers;
  for (const auto& [name, value] : extras.numbers) numbers[name] = number_of(*file, name);

  std::vector<const io::StoredTensor*> weights, m, v;
  for (size_t i = 0; i < parameters.specs().size(); ++i) {
    const ParameterSpec& spec = parameters.specs()[i];
    const auto moment = [&](const char* prefix, const Tensor& tensor) {
      return &expect_tensor(*file, prefix + spec.name, tensor.shape(), io::StoredType::kF32);
    };
    weights.push_back(&expect_tensor(*file, spec.name, spec.shape, io::StoredType::kF32));
    m.push_back(moment("m.", optimizer.first_moment(i)));
    v.push_back(moment("v.", optimizer.second_moment(i)));
  }
  std::map<std::string, std::vector<int32_t>> arrays;
  for (const auto& [name, expected] : extras.arrays) {
    const io::StoredTensor& tensor =
        expect_tensor(*file, "state." + name, length_of(expected), io::StoredType::kI32);
    std::vector<int32_t>& values = arrays[name];
    values.resize(expected.size());
    std::memcpy(values.data(), tensor.data, tensor.size_bytes);
  }
  const size_t expected_tensors = 3 * parameters.specs().size() + arrays.size();
  VILG_CHECK(file->tensors().size() == expected_tensors, kCheckpointIncompatible,
             "%s: expected %zu tensors, found %zu", path.c_str(), expected_tensors,
             file->tensors().size());

  // from here on nothing can be wrong with the file; the last moment to stop
  if (stop) stop->check();
  for (size_t i = 0; i < weights.size(); ++i) {
    parameters.load(i, weights[i]->data, DType::kFloat32);
    backend.copy_in(optimizer.first_moment(i).data(), m[i]->data, m[i]->size_bytes);
    backend.copy_in(optimizer.second_moment(i).data(), v[i]->data, v[i]->size_bytes);
  }
  optimizer.set_steps(static_cast<int64_t>(steps));
  extras.numbers = std::move(numbers);
  extras.arrays = std::move(arrays);
}

}  // namespace vilg
