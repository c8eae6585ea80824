#pragma once

#include <cstdlib>
#include <filesystem>
#include <string>

#include "core/error.h"

namespace vilg::test {

// A folder of its own, removed with everything in it.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string pattern = (std::filesystem::temp_directory_path() / "vilg-XXXXXX").string();
    VILG_CHECK(mkdtemp(pattern.data()), kIo, "cannot make %s", pattern.c_str());
    path_ = pattern;
  }
  ~TemporaryFolder() { std::filesystem::remove_all(path_); }
  std::string file(const char* name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

}  // namespace vilg::test
