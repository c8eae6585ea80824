#include "cuda/runtime/cublaslt.h"

#include <dlfcn.h>
#include <link.h>
#include <sys/stat.h>

#include <cstdlib>
#include <mutex>
#include <vector>

#include "core/error.h"
#include "cuda/libraries.h"

namespace vilg::cuda {
namespace cublaslt {
namespace {

constexpr const char* kNames[] = {"libcublasLt.so.13", "libcublasLt.so.12"};

struct Candidate {
  std::string path;
  bool loaded_only = false;
};

std::vector<Candidate> in_folder(const std::string& folder) {
  std::vector<Candidate> candidates;
  for (const char* name : kNames) candidates.push_back({folder + "/" + name});
  return candidates;
}

std::vector<Candidate> candidates_of(const char* wish) {
  if (wish) {
    struct stat status {};
    const bool folder = stat(wish, &status) == 0 && S_ISDIR(status.st_mode);
    return folder ? in_folder(wish) : std::vector<Candidate>{{wish}};
  }
  std::vector<Candidate> candidates;
  for (const char* name : kNames) candidates.push_back({name, true});
  for (const char* name : kNames) candidates.push_back({name});
  std::vector<std::string> folders;
  if (const char* home = std::getenv("CUDA_HOME")) folders.push_back(std::string(home) + "/lib64");
  folders.push_back("/usr/local/cuda/lib64");
  for (const std::string& folder : folders) {
    for (const Candidate& candidate : in_folder(folder)) candidates.push_back(candidate);
  }
  return candidates;
}

// Found once and never unloaded.
class Library {
 public:
  Library() {
    const char* wish = std::getenv("VILG_CUBLASLT");
    if (wish && !*wish) wish = nullptr;
    if (wish && std::string(wish) == "off") {
      missing_ = "switched off by VILG_CUBLASLT";
      return;
    }
    std::string reasons;
    for (const Candidate& candidate : candidates_of(wish)) {
      const std::string reason = open(candidate);
      if (usable_) return;
      if (!reason.empty()) reasons += (reasons.empty() ? "" : "; ") + reason;
    }
    missing_ = reasons;
  }

  const Functions* functions() const {
    std::lock_guard lock(mutex_);
    return usable_ ? &functions_ : nullptr;
  }
  void give_up(const std::string& reason) {
    std::lock_guard lock(mutex_);
    usable_ = false;
    missing_ = "version " + version() + " is not used: " + reason;
  }
  std::string json() const {
    std::lock_guard lock(mutex_);
    if (!usable_) return "{\"missing\": " + quoted(missing_) + "}";
    return "{\"version\": " + quoted(version()) + ", \"path\": " + quoted(path_) + "}";
  }

 private:
  // Why it is not this one; empty where there is nothing to say.
  std::string open(const Candidate& candidate) {
    void* handle = dlopen(candidate.path.c_str(),
                          RTLD_NOW | RTLD_LOCAL | (candidate.loaded_only ? RTLD_NOLOAD : 0));
    if (!handle) {
      const char* reason = dlerror();
      return candidate.loaded_only || !reason ? "" : reason;
    }
#define VILG_CUBLASLT_FUNCTION(Result, name, Parameters)                                     \
  functions_.name = reinterpret_cast<Result(*) Parameters>(dlsym(handle, "cublasLt" #name)); \
  if (!functions_.name) return candidate.path + " has no cublasLt" #name;
    VILG_CUBLASLT_FUNCTIONS(VILG_CUBLASLT_FUNCTION)
#undef VILG_CUBLASLT_FUNCTION
    version_ = functions_.GetVersion();
    if (version_ / 10000 != 12 && version_ / 10000 != 13) {
      return candidate.path + " is version " + version() + ", expected 12 or 13";
    }
    link_map* map = nullptr;
    path_ = dlinfo(handle, RTLD_DI_LINKMAP, &map) == 0 && map ? map->l_name : candidate.path;
    usable_ = true;
    return "";
  }
  std::string version() const {
    return format("%zu.%zu.%zu", version_ / 10000, version_ / 100 % 100, version_ % 100);
  }
  static std::string quoted(const std::string& text) {
    std::string json = "\"";
    for (const char c : text) {
      if (c == '"' || c == '\\') json += '\\';
      if (static_cast<unsigned char>(c) < 0x20) {
        json += ' ';
      } else {
        json += c;
      }
    }
    return json + "\"";
  }

  mutable std::mutex mutex_;
  Functions functions_;
  size_t version_ = 0;
  bool usable_ = false;
  std::string path_, missing_;
};

Library& library() {
  static auto& library = *new Library;  // threads may still ask while the process ends
  return library;
}

}  // namespace

const Functions* functions() { return library().functions(); }
void give_up(const std::string& reason) { library().give_up(reason); }

}  // namespace cublaslt

std::string libraries_json() { return "{\"cublasLt\": " + cublaslt::library().json() + "}"; }

}  // namespace vilg::cuda
