// The safetensors format: eight bytes with the length of a JSON header, the header, the tensors'
// bytes without holes. Reading maps the file; writing is atomic.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/stop_flag.h"
#include "core/tensor.h"

namespace vilg::io {

// How a file stores elements, by the names of the format. The project's own files use F32, BF16,
// I32 and U8.
enum class StoredType : int32_t {
  kBool,
  kU8,
  kI8,
  kF8E5M2,
  kF8E4M3,
  kI16,
  kU16,
  kF16,
  kBF16,
  kI32,
  kU32,
  kF32,
  kI64,
  kU64,
  kF64
};
inline constexpr int kNumStoredTypes = static_cast<int>(StoredType::kF64) + 1;

const char* stored_type_name(StoredType type);  // "F32"
size_t stored_type_size(StoredType type);
// Throws kCheckpointFormat for a name that the format does not have.
StoredType stored_type(const std::string& name);
StoredType stored_type(DType dtype);

struct StoredTensor {
  std::string name;
  StoredType type = StoredType::kF32;
  std::vector<int64_t> shape;
  const uint8_t* data = nullptr;  // in the map, not necessarily aligned
  size_t size_bytes = 0;
  int64_t num_elements() const;
  std::string shape_text() const;  // "[2, 3]"
};

// A mapped file. Everything the header says has been checked against the file's size. Another
// program that truncates the file in place while it is mapped ends this one (SIGBUS);
// write_safetensors and everybody else who replaces files by renaming does not.
class SafetensorsFile : public std::enable_shared_from_this<SafetensorsFile> {
 public:
  // kIo with the system's reason; kCheckpointFormat with what was expected and found, and where.
  static std::shared_ptr<SafetensorsFile> open(const std::string& path);
  ~SafetensorsFile();
  SafetensorsFile(const SafetensorsFile&) = delete;
  SafetensorsFile& operator=(const SafetensorsFile&) = delete;

  const std::string& path() const { return path_; }
  const std::vector<StoredTensor>& tensors() const { return tensors_; }  // by position in the file
  const std::map<std::string, std::string>& metadata() const { return metadata_; }

  const StoredTensor* find(const std::string& name) const;
  // Throws kCheckpointIncompatible where the file has no such tensor.
  const StoredTensor& get(const std::string& name) const;
  // The same, of that shape: kCheckpointIncompatible names tensor, expected and found.
  const StoredTensor& get(const std::string& name, const Shape& shape) const;

  // F32, BF16, I32 or U8 without a copy: the tensor shares in the map, which is read-only. Where
  // the file does not align it, a copy in memory of its own. kUnsupported for other types.
  Tensor view(const StoredTensor& tensor) const;

 private:
  SafetensorsFile() = default;
  void parse();

  std::string path_;
  const uint8_t* map_ = nullptr;
  size_t map_bytes_ = 0;
  std::vector<StoredTensor> tensors_;
  std::map<std::string, size_t> by_name_;
  std::map<std::string, std::string> metadata_;
};

// The elements as float32: F32, BF16, F16 and F64 (rounded). kUnsupported for integers.
void read_float32(const StoredTensor& tensor, float* out);

// One tensor to be written; `data` is read while write_safetensors runs.
struct TensorToWrite {
  std::string name;
  StoredType type = StoredType::kF32;
  std::vector<int64_t> shape;
  const void* data = nullptr;
};

// Throws kShapeMismatch unless shape and type of the tensor make `size_bytes`.
void check_size(const TensorToWrite& tensor, size_t size_bytes);

// Writes a sibling temporary file, syncs it, renames it over `path` and syncs the folder: whoever
// reads `path`, at any moment and after any crash, finds the old file or the whole new one. On an
// error (kIo: disk full, no permission) or a raised flag the temporary file is removed and the old
// file is as it was. Tensors are sorted by element size, largest first, then by name, so that each
// is aligned and the same tensors give the same bytes.
void write_safetensors(const std::string& path, std::vector<TensorToWrite> tensors,
                       const std::map<std::string, std::string>& metadata = {},
                       const StopFlag* stop = nullptr);

// The same for any bytes (a config.json): atomic and durable.
void write_file(const std::string& path, const void* data, size_t size_bytes);

}  // namespace vilg::io
