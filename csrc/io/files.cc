#include "io/files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "core/error.h"

namespace vilg::io {
namespace {

std::string folder_of(const std::string& path) {
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

}  // namespace

void fail_io(const char* doing, const std::string& path, int error_number) {
  throw Error(ErrorCode::kIo,
              format("Cannot %s %s: %s", doing, path.c_str(), std::strerror(error_number)),
              __FILE__, __LINE__, {{"path", path}, {"errno", std::to_string(error_number)}});
}

AtomicFile::AtomicFile(const std::string& path) : path_(path) {
  static std::atomic<unsigned> counter{0};
  // not mkstemp: its files are private to the owner, ours get what the umask allows
  for (int attempt = 0; file_ < 0; ++attempt) {
    const std::string name = format("%s.tmp-%ld-%u", path.c_str(), static_cast<long>(::getpid()),
                                    counter.fetch_add(1, std::memory_order_relaxed));
    file_ = ::open(name.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (file_ >= 0) {
      temporary_ = name;
    } else if (errno != EEXIST || attempt == 100) {
      fail_io("create a file beside", path, errno);
    }
  }
  struct stat old;
  if (::stat(path.c_str(), &old) == 0) ::fchmod(file_, old.st_mode & 0777);
}

AtomicFile::~AtomicFile() {
  if (file_ >= 0) ::close(file_);
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
}

void AtomicFile::write(const void* data, size_t size_bytes) {
  const auto* from = static_cast<const char*>(data);
  while (size_bytes > 0) {
    // Linux writes at most 2 GB at a time; smaller pieces also reach the disk while we go on
    const ssize_t written = ::write(file_, from, std::min(size_bytes, size_t{64} << 20));
    if (written < 0) {
      if (errno == EINTR) continue;
      fail_io("write", path_, errno);
    }
    from += written;
    size_bytes -= static_cast<size_t>(written);
  }
}

void AtomicFile::commit() {
  if (::fsync(file_) != 0) fail_io("write", path_, errno);
  const int file = file_;
  file_ = -1;
  if (::close(file) != 0) fail_io("write", path_, errno);
  if (std::rename(temporary_.c_str(), path_.c_str()) != 0) fail_io("replace", path_, errno);
  temporary_.clear();
  // the rename itself is durable once the folder is; some file systems cannot sync folders, and the
  // file is in its place already
  const int folder = ::open(folder_of(path_).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (folder >= 0) {
    ::fsync(folder);
    ::close(folder);
  }
}

}  // namespace vilg::io
