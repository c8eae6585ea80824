// Files of the operating system, with its reasons in the errors.
#pragma once

#include <cstddef>
#include <string>

namespace vilg::io {

// Throws kIo: "Cannot <doing> <path>: <the text of errno>", with path and errno's name as details.
[[noreturn]] void fail_io(const char* doing, const std::string& path, int error_number);

// A new file beside `path` that takes its place in commit(). Destroyed without it, it is removed.
class AtomicFile {
 public:
  explicit AtomicFile(const std::string& path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  void write(const void* data, size_t size_bytes);
  // Syncs the file, renames it and syncs the folder.
  void commit();

 private:
  std::string path_;
  std::string temporary_;
  int file_ = -1;
};

}  // namespace vilg::io
