#include "io/safetensors.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <string_view>

#include "core/error.h"
#include "io/files.h"
#include "io/json.h"

namespace vilg::io {
namespace {

static_assert(std::endian::native == std::endian::little, "the format is little-endian");

constexpr uint64_t kMaxHeaderBytes = 100'000'000;  // the format's own limit
constexpr size_t kMaxRank = 64;  // the format has none; a header full of zeros must not fill memory
constexpr struct {
  const char* name;
  size_t size;
} kTypes[] = {{"BOOL", 1}, {"U8", 1},  {"I8", 1},  {"F8_E5M2", 1}, {"F8_E4M3", 1},
              {"I16", 2},  {"U16", 2}, {"F16", 2}, {"BF16", 2},    {"I32", 4},
              {"U32", 4},  {"F32", 4}, {"I64", 8}, {"U64", 8},     {"F64", 8}};
static_assert(std::size(kTypes) == kNumStoredTypes);

std::string to_text(const std::vector<int64_t>& shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i) text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + "]";
}

// One tensor's part of the header, as it says it.
struct Entry {
  std::string name, type_name;
  std::vector<uint64_t> shape;
  uint64_t begin = 0, end = 0;
};

std::vector<uint64_t> read_integers(JsonReader& json, const std::string& name, size_t max_count) {
  std::vector<uint64_t> values;
  json.begin_array();
  while (json.next_element()) {
    VILG_CHECK(values.size() < max_count, kCheckpointFormat,
               "Tensor %s: expected at most %zu numbers in a list, found more", name.c_str(),
               max_count);
    values.push_back(json.unsigned_integer());
  }
  return values;
}

Entry read_entry(JsonReader& json, const std::string& name) {
  Entry entry;
  entry.name = name;
  bool has_type = false, has_shape = false, has_offsets = false;
  std::string key;
  json.begin_object();
  while (json.next_key(key)) {
    bool* seen = key == "dtype"          ? &has_type
                 : key == "shape"        ? &has_shape
                 : key == "data_offsets" ? &has_offsets
                                         : nullptr;
    if (!seen) {
      json.skip_value();  // the reference reader lets unknown keys pass, too
      continue;
    }
    VILG_CHECK(!*seen, kCheckpointFormat, "Tensor %s: expected one \"%s\", found two", name.c_str(),
               key.c_str());
    *seen = true;
    if (seen == &has_type) {
      entry.type_name = json.string();
    } else if (seen == &has_shape) {
      entry.shape = read_integers(json, name, kMaxRank);
    } else {
      const std::vector<uint64_t> offsets = read_integers(json, name, 2);
      VILG_CHECK(offsets.size() == 2, kCheckpointFormat,
                 "Tensor %s: expected two data_offsets, found %zu", name.c_str(), offsets.size());
      entry.begin = offsets[0];
      entry.end = offsets[1];
    }
  }
  VILG_CHECK(has_type && has_shape && has_offsets, kCheckpointFormat,
             "Tensor %s: expected dtype, shape and data_offsets, found no %s", name.c_str(),
             !has_type    ? "dtype"
             : !has_shape ? "shape"
                          : "data_offsets");
  return entry;
}

// Elements times element size; false where that does not fit.
bool checked_size(const std::vector<uint64_t>& shape, size_t element_size, uint64_t* size_bytes) {
  uint64_t size = element_size;
  bool fits = true;
  for (const uint64_t dim : shape) {
    fits = fits && dim <= INT64_MAX && !__builtin_mul_overflow(size, dim, &size);
  }
  *size_bytes = size;
  return fits && size <= INT64_MAX;
}

float half_to_float(uint16_t half) {
  const uint32_t sign = static_cast<uint32_t>(half & 0x8000u) << 16;
  const uint32_t exponent = (half >> 10) & 0x1Fu, fraction = half & 0x3FFu;
  if (exponent == 0) {  // zero and subnormals: fraction * 2^-24, exact in float32
    const float value = static_cast<float>(fraction) * 0x1p-24f;
    return sign ? -value : value;
  }
  const uint32_t bits =
      sign | (exponent == 31 ? 0x7F800000u : (exponent + 112) << 23) | fraction << 13;
  return std::bit_cast<float>(bits);
}

template <typename T>
T load(const uint8_t* from) {
  T value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

}  // namespace

const char* stored_type_name(StoredType type) { return kTypes[static_cast<size_t>(type)].name; }
size_t stored_type_size(StoredType type) { return kTypes[static_cast<size_t>(type)].size; }

StoredType stored_type(const std::string& name) {
  for (size_t i = 0; i < std::size(kTypes); ++i) {
    if (name == kTypes[i].name) return static_cast<StoredType>(i);
  }
  VILG_FAIL(kCheckpointFormat, "Expected a dtype of the format (F32, BF16, I32, ...), found %s",
            json_quote(name.substr(0, 60)).c_str());
}

StoredType stored_type(DType dtype) {
  switch (dtype) {
    case DType::kFloat32:
      return StoredType::kF32;
    case DType::kBFloat16:
      return StoredType::kBF16;
    case DType::kInt32:
      return StoredType::kI32;
    case DType::kUInt8:
      return StoredType::kU8;
  }
  VILG_FAIL(kInternal, "dtype %d", static_cast<int>(dtype));
}

int64_t StoredTensor::num_elements() const {
  return static_cast<int64_t>(size_bytes / stored_type_size(type));
}

std::string StoredTensor::shape_text() const { return to_text(shape); }

std::shared_ptr<SafetensorsFile> SafetensorsFile::open(const std::string& path) {
  std::shared_ptr<SafetensorsFile> file(new SafetensorsFile);
  file->path_ = path;
  const int handle = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (handle < 0) fail_io("open", path, errno);
  struct stat status;
  int error = ::fstat(handle, &status) == 0 ? 0 : errno;
  if (!error && S_ISDIR(status.st_mode)) error = EISDIR;
  if (!error && !S_ISREG(status.st_mode)) error = EINVAL;  // a pipe cannot be mapped
  if (!error && status.st_size > 0) {
    void* map =
        ::mmap(nullptr, static_cast<size_t>(status.st_size), PROT_READ, MAP_PRIVATE, handle, 0);
    if (map == MAP_FAILED) {
      error = errno;
    } else {
      file->map_ = static_cast<const uint8_t*>(map);
      file->map_bytes_ = static_cast<size_t>(status.st_size);
    }
  }
  ::close(handle);
  if (error) fail_io("read", path, error);
  try {
    file->parse();
  } catch (const Error& failure) {
    ErrorDetails details = failure.details();
    details.emplace_back("path", path);
    throw Error(failure.code(), path + ": " + failure.message(), failure.file(), failure.line(),
                std::move(details));
  }
  return file;
}

SafetensorsFile::~SafetensorsFile() {
  if (map_) ::munmap(const_cast<uint8_t*>(map_), map_bytes_);
}

// The checks and their order are those of the reference implementation's deserialize and validate.
void SafetensorsFile::parse() {
  VILG_CHECK(map_bytes_ >= 8, kCheckpointFormat,
             "Expected at least the 8 bytes of the header's length, found %zu", map_bytes_);
  const uint64_t header_bytes = load<uint64_t>(map_);
  VILG_CHECK(
      header_bytes <= kMaxHeaderBytes, kCheckpointFormat,
      "Expected a header of at most %llu bytes, found a length of %llu (is this a safetensors "
      "file?)",
      static_cast<unsigned long long>(kMaxHeaderBytes),
      static_cast<unsigned long long>(header_bytes));
  VILG_CHECK(
      header_bytes <= map_bytes_ - 8, kCheckpointFormat,
      "Expected a header of %llu bytes, found a file that ends %llu bytes earlier (truncated?)",
      static_cast<unsigned long long>(header_bytes),
      static_cast<unsigned long long>(header_bytes - (map_bytes_ - 8)));
  const std::string_view header(reinterpret_cast<const char*>(map_ + 8), header_bytes);
  VILG_CHECK(is_utf8(header), kCheckpointFormat, "Expected a header in UTF-8, found other bytes");
  VILG_CHECK(!header.empty() && header[0] == '{', kCheckpointFormat,
             "Expected a header that begins with '{', found another byte");

  std::vector<Entry> entries;
  std::map<std::string, bool> names;
  JsonReader json(header);
  std::string key;
  json.begin_object();
  while (json.next_key(key)) {
    VILG_CHECK(names.emplace(key, true).second, kCheckpointFormat,
               "Expected each name once in the header, found %s twice", key.c_str());
    if (key != "__metadata__") {
      entries.push_back(read_entry(json, key));
      continue;
    }
    std::string name;
    json.begin_object();
    while (json.next_key(name)) {
      VILG_CHECK(metadata_.emplace(name, json.string()).second, kCheckpointFormat,
                 "Expected each key once in __metadata__, found %s twice", name.c_str());
    }
  }
  json.end();

  std::sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) {
    if (a.begin != b.begin) return a.begin < b.begin;
    if (a.end != b.end)
      return a.end < b.end;  // empty tensors come before what starts at their place
    return a.name < b.name;
  });
  const uint8_t* data = map_ + 8 + header_bytes;
  uint64_t position = 0;
  for (const Entry& entry : entries) {
    const char* name = entry.name.c_str();
    const auto begin = static_cast<unsigned long long>(entry.begin);
    const auto end = static_cast<unsigned long long>(entry.end);
    const auto fail = [&](const std::string& expected, const std::string& found) {
      throw Error(ErrorCode::kCheckpointFormat,
                  format("Tensor %s: expected %s, found %s", name, expected.c_str(), found.c_str()),
                  __FILE__, __LINE__,
                  {{"tensor", entry.name}, {"expected", expected}, {"found", found}});
    };
    if (entry.begin != position || entry.end < entry.begin) {
      fail(format("data_offsets that begin at %llu, where the tensor before ends",
                  static_cast<unsigned long long>(position)),
           format("[%llu, %llu]", begin, end));
    }
    StoredTensor tensor;
    tensor.name = entry.name;
    bool known = false;
    for (const auto& type : kTypes) known = known || entry.type_name == type.name;
    if (!known) {
      fail("a dtype of the format (F32, BF16, I32, ...)",
           json_quote(entry.type_name.substr(0, 60)));
    }
    tensor.type = stored_type(entry.type_name);
    uint64_t size_bytes;
    const bool fits = checked_size(entry.shape, stored_type_size(tensor.type), &size_bytes);
    for (const uint64_t dim : entry.shape) tensor.shape.push_back(static_cast<int64_t>(dim));
    if (!fits) fail("a size below 2^63 bytes", "a shape whose product is larger");
    if (size_bytes != entry.end - entry.begin) {
      fail(format("%llu bytes for %s of shape %s", static_cast<unsigned long long>(size_bytes),
                  entry.type_name.c_str(), tensor.shape_text().c_str()),
           format("data_offsets [%llu, %llu] of %llu bytes", begin, end, end - begin));
    }
    tensor.data = data + entry.begin;
    tensor.size_bytes = size_bytes;
    position = entry.end;
    by_name_[tensor.name] = tensors_.size();
    tensors_.push_back(std::move(tensor));
  }
  const uint64_t there = map_bytes_ - 8 - header_bytes;
  VILG_CHECK(position == there, kCheckpointFormat,
             "Expected %llu bytes of tensors after the header, found %llu%s",
             static_cast<unsigned long long>(position), static_cast<unsigned long long>(there),
             there < position ? " (truncated?)" : "");
}

const StoredTensor* SafetensorsFile::find(const std::string& name) const {
  const auto found = by_name_.find(name);
  return found == by_name_.end() ? nullptr : &tensors_[found->second];
}

const StoredTensor& SafetensorsFile::get(const std::string& name) const {
  const StoredTensor* tensor = find(name);
  if (!tensor) {
    throw Error(ErrorCode::kCheckpointIncompatible,
                format("%s: expected a tensor %s, found none of that name among %zu", path_.c_str(),
                       name.c_str(), tensors_.size()),
                __FILE__, __LINE__, {{"path", path_}, {"tensor", name}});
  }
  return *tensor;
}

const StoredTensor& SafetensorsFile::get(const std::string& name, const Shape& shape) const {
  const StoredTensor& tensor = get(name);
  bool same = tensor.shape.size() == static_cast<size_t>(shape.rank());
  for (int i = 0; same && i < shape.rank(); ++i) {
    same = tensor.shape[static_cast<size_t>(i)] == shape[i];
  }
  if (!same) {
    throw Error(ErrorCode::kCheckpointIncompatible,
                format("%s: tensor %s: expected shape %s, found %s", path_.c_str(), name.c_str(),
                       shape.to_string().c_str(), tensor.shape_text().c_str()),
                __FILE__, __LINE__,
                {{"path", path_},
                 {"tensor", name},
                 {"expected", shape.to_string()},
                 {"found", tensor.shape_text()}});
  }
  return tensor;
}

Tensor SafetensorsFile::view(const StoredTensor& tensor) const {
  DType dtype;
  switch (tensor.type) {
    case StoredType::kF32:
      dtype = DType::kFloat32;
      break;
    case StoredType::kBF16:
      dtype = DType::kBFloat16;
      break;
    case StoredType::kI32:
      dtype = DType::kInt32;
      break;
    case StoredType::kU8:
      dtype = DType::kUInt8;
      break;
    default:
      VILG_FAIL(kUnsupported, "%s: tensor %s: expected F32, BF16, I32 or U8, found %s",
                path_.c_str(), tensor.name.c_str(), stored_type_name(tensor.type));
  }
  VILG_CHECK(tensor.shape.size() <= Shape::kMaxRank, kUnsupported,
             "%s: tensor %s: expected at most %d dimensions, found shape %s", path_.c_str(),
             tensor.name.c_str(), Shape::kMaxRank, tensor.shape_text().c_str());
  Shape shape;
  for (const int64_t dim : tensor.shape) shape.push_back(dim);
  auto* data = const_cast<uint8_t*>(tensor.data);
  if (reinterpret_cast<uintptr_t>(data) % dtype_size(dtype) == 0) {
    return Tensor::wrap(data, dtype, shape,
                        std::const_pointer_cast<SafetensorsFile>(shared_from_this()));
  }
  // foreign writers may put a float32 at an odd place
  std::shared_ptr<uint8_t[]> copy(new uint8_t[tensor.size_bytes + 1]);
  std::memcpy(copy.get(), data, tensor.size_bytes);
  return Tensor::wrap(copy.get(), dtype, shape, std::shared_ptr<void>(copy, copy.get()));
}

void read_float32(const StoredTensor& tensor, float* out) {
  const int64_t count = tensor.num_elements();
  switch (tensor.type) {
    case StoredType::kF32:
      if (tensor.size_bytes) std::memcpy(out, tensor.data, tensor.size_bytes);
      return;
    case StoredType::kBF16:
      for (int64_t i = 0; i < count; ++i)
        out[i] = bf16_to_float(load<uint16_t>(tensor.data + 2 * i));
      return;
    case StoredType::kF16:
      for (int64_t i = 0; i < count; ++i)
        out[i] = half_to_float(load<uint16_t>(tensor.data + 2 * i));
      return;
    case StoredType::kF64:
      for (int64_t i = 0; i < count; ++i) {
        out[i] = static_cast<float>(load<double>(tensor.data + 8 * i));
      }
      return;
    default:
      VILG_FAIL(kUnsupported, "Tensor %s: expected F32, BF16, F16 or F64, found %s",
                tensor.name.c_str(), stored_type_name(tensor.type));
  }
}

void check_size(const TensorToWrite& tensor, size_t size_bytes) {
  std::vector<uint64_t> shape(tensor.shape.begin(), tensor.shape.end());
  uint64_t expected;
  const bool fits = checked_size(shape, stored_type_size(tensor.type), &expected);
  VILG_CHECK(fits && expected == size_bytes, kShapeMismatch,
             "Tensor %s: expected data for %s of shape %s, received %zu bytes", tensor.name.c_str(),
             stored_type_name(tensor.type), to_text(tensor.shape).c_str(), size_bytes);
}

void write_safetensors(const std::string& path, std::vector<TensorToWrite> tensors,
                       const std::map<std::string, std::string>& metadata, const StopFlag* stop) {
  std::sort(tensors.begin(), tensors.end(), [](const TensorToWrite& a, const TensorToWrite& b) {
    const size_t size_a = stored_type_size(a.type), size_b = stored_type_size(b.type);
    return size_a != size_b ? size_a > size_b : a.name < b.name;
  });
  std::string header = "{";
  if (!metadata.empty()) {
    header += "\"__metadata__\":{";
    for (const auto& [key, value] : metadata) {
      VILG_CHECK(is_utf8(key) && is_utf8(value), kInvalidArgument,
                 "Expected metadata in UTF-8 for %s", json_quote(key).c_str());
      if (header.back() != '{') header += ',';
      header += json_quote(key) + ":" + json_quote(value);
    }
    header += "}";
  }
  uint64_t position = 0;
  std::vector<size_t> sizes;
  std::map<std::string, bool> names;
  for (const TensorToWrite& tensor : tensors) {
    VILG_CHECK(is_utf8(tensor.name) && tensor.name != "__metadata__" && !tensor.name.empty(),
               kInvalidArgument,
               "Expected a tensor name in UTF-8 other than __metadata__, received %s",
               json_quote(tensor.name).c_str());
    VILG_CHECK(names.emplace(tensor.name, true).second, kInvalidArgument,
               "Expected each tensor once, received %s twice", tensor.name.c_str());
    std::vector<uint64_t> shape;
    for (const int64_t dim : tensor.shape) {
      VILG_CHECK(dim >= 0, kInvalidArgument,
                 "Tensor %s: expected non-negative dimensions, received %s", tensor.name.c_str(),
                 to_text(tensor.shape).c_str());
      shape.push_back(static_cast<uint64_t>(dim));
    }
    uint64_t size_bytes;
    VILG_CHECK(
        shape.size() <= kMaxRank && checked_size(shape, stored_type_size(tensor.type), &size_bytes),
        kInvalidArgument, "Tensor %s: shape %s is too large", tensor.name.c_str(),
        to_text(tensor.shape).c_str());
    VILG_CHECK(tensor.data || size_bytes == 0, kInvalidArgument, "Tensor %s has no data",
               tensor.name.c_str());
    if (header.size() > 1) header += ',';
    header += json_quote(tensor.name) + ":{\"dtype\":\"" + stored_type_name(tensor.type) +
              "\",\"shape\":" + to_text(tensor.shape) + ",\"data_offsets\":[" +
              std::to_string(position) + "," + std::to_string(position + size_bytes) + "]}";
    position += size_bytes;
    sizes.push_back(static_cast<size_t>(size_bytes));
  }
  header += "}";
  header.resize((header.size() + 7) / 8 * 8, ' ');  // the data begins aligned
  VILG_CHECK(header.size() <= kMaxHeaderBytes, kInvalidArgument,
             "Expected a header of at most %llu bytes, received names and metadata for %zu",
             static_cast<unsigned long long>(kMaxHeaderBytes), header.size());

  AtomicFile file(path);
  const uint64_t header_bytes = header.size();
  file.write(&header_bytes, sizeof header_bytes);
  file.write(header.data(), header.size());
  for (size_t i = 0; i < tensors.size(); ++i) {
    if (stop) stop->check();
    file.write(tensors[i].data, sizes[i]);
  }
  if (stop) stop->check();
  file.commit();
}

void write_file(const std::string& path, const void* data, size_t size_bytes) {
  AtomicFile file(path);
  file.write(data, size_bytes);
  file.commit();
}

}  // namespace vilg::io
