// Tensor files for TypeScript: reading by name, writing atomically.
#include "io/safetensors.h"

#include <map>
#include <memory>
#include <vector>

#include "napi/arguments.h"
#include "napi/async_task.h"
#include "napi/definitions.h"
#include "napi/errors.h"
#include "napi/wrap.h"

namespace vilg::binding {
namespace {

struct SafetensorsTraits {
  using Impl = io::SafetensorsFile;
  static constexpr const char* kName = "SafetensorsFile";
};
using SafetensorsClass = Wrap<SafetensorsTraits>;
using FilePointer = std::shared_ptr<io::SafetensorsFile>;

// openSafetensors(path, control)
Napi::Value open_safetensors(const Napi::CallbackInfo& info) {
  return start_task(
      info.Env(), Argument(info, 1, "control").task_options(),
      [path = Argument(info, 0, "path").string()](TaskContext&) {
        return io::SafetensorsFile::open(path);
      },
      [](Napi::Env env, const FilePointer& file) { return SafetensorsClass::create(env, file); });
}

// file.tensors: [{ name, dtype, shape, byteLength }], in the order of the file
Napi::Value tensors(const Napi::CallbackInfo& info, const FilePointer& file) {
  const Napi::Env env = info.Env();
  Napi::Array result = Napi::Array::New(env, file->tensors().size());
  uint32_t i = 0;
  for (const io::StoredTensor& tensor : file->tensors()) {
    Napi::HandleScope scope(env);
    Napi::Object one = Napi::Object::New(env);
    one.Set("name", tensor.name);
    one.Set("dtype", io::stored_type_name(tensor.type));
    one.Set("shape", to_array(env, tensor.shape));
    one.Set("byteLength", static_cast<double>(tensor.size_bytes));
    result.Set(i++, one);
  }
  return result;
}

// file.metadata: [key, value, key, value, ...], since a key may be __proto__
Napi::Value metadata(const Napi::CallbackInfo& info, const FilePointer& file) {
  std::vector<std::string> pairs;
  for (const auto& [key, value] : file->metadata()) {
    pairs.push_back(key);
    pairs.push_back(value);
  }
  return to_array(info.Env(), pairs);
}

// file.read(name, control): the tensor's bytes
Napi::Value read(const Napi::CallbackInfo& info, const FilePointer& file) {
  return start_task(
      info.Env(), Argument(info, 1, "control").task_options(),
      [file, name = Argument(info, 0, "name").string()](TaskContext&) {
        const io::StoredTensor& tensor = file->get(name);
        // copied here, so that the disk is not waited for on the JavaScript thread
        return std::vector<uint8_t>(tensor.data, tensor.data + tensor.size_bytes);
      },
      [](Napi::Env env, const std::vector<uint8_t>& bytes) { return to_typed_array(env, bytes); });
}

// file.readFloat32(name, control)
Napi::Value read_float32(const Napi::CallbackInfo& info, const FilePointer& file) {
  return start_task(
      info.Env(), Argument(info, 1, "control").task_options(),
      [file, name = Argument(info, 0, "name").string()](TaskContext&) {
        const io::StoredTensor& tensor = file->get(name);
        std::vector<float> values(static_cast<size_t>(tensor.num_elements()));
        io::read_float32(tensor, values.data());
        return values;
      },
      [](Napi::Env env, const std::vector<float>& values) { return to_typed_array(env, values); });
}

// writeSafetensors(path, [{ name, dtype, shape, data }], [key, value, ...], control)
Napi::Value write_safetensors(const Napi::CallbackInfo& info) {
  std::vector<io::TensorToWrite> tensors;
  std::vector<std::vector<uint8_t>> copies;
  for (const Argument& element : Argument(info, 1, "tensors").elements()) {
    const Napi::HandleScope scope(info.Env());
    io::TensorToWrite tensor;
    tensor.name = element["name"].string();
    tensor.type = io::stored_type(element["dtype"].string());
    tensor.shape = element["shape"].integers(0, (int64_t{1} << 53) - 1);
    const std::span<const uint8_t> bytes = element["data"].bytes();
    io::check_size(tensor, bytes.size());
    copies.emplace_back(bytes.begin(), bytes.end());
    tensor.data = copies.back().data();  // stays where it is when the outer vector grows
    tensors.push_back(std::move(tensor));
  }
  const std::vector<std::string> pairs = Argument(info, 2, "metadata").strings();
  VILG_CHECK(pairs.size() % 2 == 0, kInvalidArgument, "Expected a value for every metadata key");
  std::map<std::string, std::string> metadata;
  for (size_t i = 0; i < pairs.size(); i += 2) metadata[pairs[i]] = pairs[i + 1];
  return start_task(
      info.Env(), Argument(info, 3, "control").task_options(),
      [path = Argument(info, 0, "path").string(), tensors = std::move(tensors),
       copies = std::move(copies), metadata = std::move(metadata)](TaskContext& task) {
        io::write_safetensors(path, tensors, metadata, &task.stop);
      },
      to_undefined);
}

// writeFile(path, bytes, control)
Napi::Value write_file(const Napi::CallbackInfo& info) {
  const std::span<const uint8_t> bytes = Argument(info, 1, "data").bytes();
  return start_task(
      info.Env(), Argument(info, 2, "control").task_options(),
      [path = Argument(info, 0, "path").string(),
       copy = std::vector<uint8_t>(bytes.begin(), bytes.end())](TaskContext&) {
        io::write_file(path, copy.data(), copy.size());
      },
      to_undefined);
}

}  // namespace

void define_safetensors(Napi::Env env, Napi::Object exports) {
  SafetensorsClass::define(
      env, exports,
      {SafetensorsClass::getter<&tensors>("tensors"),
       SafetensorsClass::getter<&metadata>("metadata"), SafetensorsClass::method<&read>("read"),
       SafetensorsClass::method<&read_float32>("readFloat32")});
  export_function<&open_safetensors>(exports, "openSafetensors");
  export_function<&write_safetensors>(exports, "writeSafetensors");
  export_function<&write_file>(exports, "writeFile");
}

}  // namespace vilg::binding
