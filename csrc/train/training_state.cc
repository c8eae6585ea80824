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

template <typename T>
Shape length_of(const std::vector<T>& values) {
  return {static_cast<int64_t>(values.size())};
}

std::string steps_key(const TrainedPart& part) { return part.prefix + "steps"; }

// Reads the arrays state.<name> of `expected`, each of the length it has there.
template <typename T>
std::map<std::string, std::vector<T>> read_arrays(
    const io::SafetensorsFile& file, const std::map<std::string, std::vector<T>>& expected,
    io::StoredType type) {
  std::map<std::string, std::vector<T>> found;
  for (const auto& [name, like] : expected) {
    const io::StoredTensor& tensor = expect_tensor(file, "state." + name, length_of(like), type);
    std::vector<T>& values = found[name];
    values.resize(like.size());
    std::memcpy(values.data(), tensor.data, tensor.size_bytes);
  }
  return found;
}

}  // namespace

void save_training_state(const std::string& path, const std::vector<TrainedPart>& parts,
                         const TrainingExtras& extras, const StopFlag* stop) {
  std::vector<std::vector<float>> held;  // copies on the host while the file is written
  std::vector<io::TensorToWrite> tensors;
  const auto add = [&](std::string name, const Shape& shape, std::vector<float> values) {
    held.push_back(std::move(values));
    tensors.push_back({.name = std::move(name),
                       .type = io::StoredType::kF32,
                       .shape = dims_of(shape),
                       .data = held.back().data()});
  };
  std::map<std::string, std::string> metadata{
      {"format", kFormat}, {"version", kFormatVersion}, {"kind", extras.kind}};
  for (const TrainedPart& part : parts) {
    ParameterList& parameters = part.optimizer->parameters();
    const auto download = [&](const Tensor& tensor) {
      std::vector<float> values(static_cast<size_t>(tensor.num_elements()));
      parameters.backend().copy_out(values.data(), tensor.f32(), tensor.size_bytes());
      return values;
    };
    for (size_t i = 0; i < parameters.specs().size(); ++i) {
      if (stop) stop->check();
      const ParameterSpec& spec = parameters.specs()[i];
      const std::string name = part.prefix + spec.name;
      add(name, spec.shape, parameters.read(i));
      if (part.optimizer->frozen()[i]) continue;
      const Tensor &m = part.optimizer->first_moment(i), &v = part.optimizer->second_moment(i);
      add("m." + name, m.shape(), download(m));
      add("v." + name, v.shape(), download(v));
    }
    metadata[steps_key(part)] = std::to_string(part.optimizer->steps());
  }
  const auto add_arrays = [&](const auto& arrays, io::StoredType type) {
    for (const auto& [name, values] : arrays) {
      tensors.push_back({.name = "state." + name,
                         .type = type,
                         .shape = dims_of(length_of(values)),
                         .data = values.data()});
    }
  };
  add_arrays(extras.arrays, io::StoredType::kI32);
  add_arrays(extras.averages, io::StoredType::kF32);
  io::write_safetensors(path, std::move(tensors), metadata, stop);
}

void load_training_state(const std::string& path, const std::vector<TrainedPart>& parts,
                         TrainingExtras& extras, const StopFlag* stop) {
  const auto file = io::SafetensorsFile::open(path);
  expect_metadata(*file, "format", kFormat);
  expect_metadata(*file, "version", kFormatVersion);
  expect_metadata(*file, "kind", extras.kind);

  struct Loaded {
    uint64_t steps;
    std::vector<const io::StoredTensor*> weights, m, v;
  };
  std::vector<Loaded> found;
  size_t expected_tensors = extras.arrays.size() + extras.averages.size();
  for (const TrainedPart& part : parts) {
    ParameterList& parameters = part.optimizer->parameters();
    Loaded& loaded = found.emplace_back(Loaded{number_of(*file, steps_key(part)), {}, {}, {}});
    for (size_t i = 0; i < parameters.specs().size(); ++i) {
      const ParameterSpec& spec = parameters.specs()[i];
      const std::string name = part.prefix + spec.name;
      const auto moment = [&](const char* prefix, const Tensor& tensor) {
        return &expect_tensor(*file, prefix + name, tensor.shape(), io::StoredType::kF32);
      };
      loaded.weights.push_back(&expect_tensor(*file, name, spec.shape, io::StoredType::kF32));
      const bool frozen = part.optimizer->frozen()[i];
      expected_tensors += frozen ? 1 : 3;
      if (frozen) {
        loaded.m.push_back(nullptr);
        loaded.v.push_back(nullptr);
        continue;
      }
      loaded.m.push_back(moment("m.", part.optimizer->first_moment(i)));
      loaded.v.push_back(moment("v.", part.optimizer->second_moment(i)));
    }
  }
  auto arrays = read_arrays(*file, extras.arrays, io::StoredType::kI32);
  auto averages = read_arrays(*file, extras.averages, io::StoredType::kF32);
  VILG_CHECK(file->tensors().size() == expected_tensors, kCheckpointIncompatible,
             "%s: expected %zu tensors, found %zu", path.c_str(), expected_tensors,
             file->tensors().size());

  // from here on nothing can be wrong with the file; the last moment to stop
  if (stop) stop->check();
  for (size_t p = 0; p < parts.size(); ++p) {
    Optimizer& optimizer = *parts[p].optimizer;
    Backend& backend = optimizer.parameters().backend();
    const Loaded& loaded = found[p];
    for (size_t i = 0; i < loaded.weights.size(); ++i) {
      optimizer.parameters().load(i, loaded.weights[i]->data, DType::kFloat32);
      if (optimizer.frozen()[i]) continue;
      backend.copy_in(optimizer.first_moment(i).data(), loaded.m[i]->data, loaded.m[i]->size_bytes);
      backend.copy_in(optimizer.second_moment(i).data(), loaded.v[i]->data,
                      loaded.v[i]->size_bytes);
    }
    optimizer.set_steps(static_cast<int64_t>(loaded.steps));
  }
  extras.arrays = std::move(arrays);
  extras.averages = std::move(averages);
}

}  // namespace vilg
