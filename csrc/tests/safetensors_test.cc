#include "io/safetensors.h"

#include <dirent.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <functional>
#include <iterator>

#include "tests/harness.h"

using namespace vilg;
using namespace vilg::io;

namespace {

// A folder of its own that goes with the test.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    const char* base = std::getenv("TMPDIR");
    path_ = std::string(base ? base : "/tmp") + "/vilg-test-XXXXXX";
    VILG_CHECK(mkdtemp(path_.data()), kIo, "no temporary folder");
  }
  ~TemporaryFolder() {
    for (const std::string& name : names()) ::unlink(file(name).c_str());
    ::rmdir(path_.c_str());
  }
  std::string file(const std::string& name) const { return path_ + "/" + name; }
  const std::string& path() const { return path_; }
  std::vector<std::string> names() const {
    std::vector<std::string> result;
    DIR* folder = ::opendir(path_.c_str());
    while (const dirent* entry = ::readdir(folder)) {
      if (entry->d_name[0] != '.') result.emplace_back(entry->d_name);
    }
    ::closedir(folder);
    return result;
  }

 private:
  std::string path_;
};

std::string slurp(const std::string& path) {
  std::ifstream stream(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), {}};
}

void put(const std::string& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

std::string file_of(const std::string& header, const std::string& data, uint64_t length) {
  std::string bytes(8, '\0');
  std::memcpy(bytes.data(), &length, 8);
  return bytes + header + data;
}
std::string file_of(const std::string& header, const std::string& data) {
  return file_of(header, data, header.size());
}

// Opens the bytes as a file; the error's message, which must be of kCheckpointFormat, or "".
std::string open_error(const TemporaryFolder& folder, const std::string& bytes) {
  const std::string path = folder.file("lies.safetensors");
  put(path, bytes);
  try {
    SafetensorsFile::open(path);
    return "";
  } catch (const Error& error) {
    if (error.code() != ErrorCode::kCheckpointFormat) return "wrong code: " + error.message();
    return error.message();
  }
}

const std::vector<float> kFloats = {1.0f, -2.5f, 3.25f, 0.0f, 1e-30f, 7.0f};
const std::vector<int32_t> kInts = {1, -2, 3};
const std::vector<uint16_t> kHalves = {0x3C00, 0xC000, 0x0001, 0x8000, 0x7C00, 0x7BFF};
const std::vector<uint8_t> kBytes = {1, 2, 3, 4, 5};

std::vector<TensorToWrite> sample() {
  return {{"bytes", StoredType::kU8, {5}, kBytes.data()},
          {"ints", StoredType::kI32, {3}, kInts.data()},
          {"halves", StoredType::kF16, {2, 3}, kHalves.data()},
          {"floats", StoredType::kF32, {2, 3}, kFloats.data()},
          {"scalar", StoredType::kF32, {}, kFloats.data()},
          {"empty", StoredType::kF32, {0, 4}, nullptr}};
}

}  // namespace

VILG_TEST(safetensors_round_trip) {
  TemporaryFolder folder;
  const std::string path = folder.file("a.safetensors");
  write_safetensors(path, sample(), {{"format", "pt"}, {"note", "\u4e2d\"\n"}});
  const auto file = SafetensorsFile::open(path);
  EXPECT(file->tensors().size() == 6, "%zu tensors", file->tensors().size());
  EXPECT(file->metadata().at("note") == "\u4e2d\"\n", "metadata");
  const StoredTensor& floats = file->get("floats", {2, 3});
  EXPECT(floats.type == StoredType::kF32 && floats.size_bytes == 24, "floats");
  EXPECT(std::memcmp(floats.data, kFloats.data(), 24) == 0, "floats' bytes");
  EXPECT(file->get("scalar").shape.empty() && file->get("scalar").num_elements() == 1, "scalar");
  EXPECT(file->get("empty").num_elements() == 0, "empty");
  for (const StoredTensor& tensor : file->tensors()) {
    EXPECT(reinterpret_cast<uintptr_t>(tensor.data) % stored_type_size(tensor.type) == 0,
           "%s is not aligned", tensor.name.c_str());
  }
  // the view outlives the handle
  const Tensor view = [&] {
    const auto again = SafetensorsFile::open(path);
    return again->view(again->get("ints"));
  }();
  EXPECT(view.dtype() == DType::kInt32 && view.shape() == Shape({3}), "view");
  EXPECT(std::memcmp(view.data(), kInts.data(), 12) == 0, "view's bytes");
  // the same tensors give the same bytes, whatever their order
  std::vector<TensorToWrite> reversed = sample();
  std::reverse(reversed.begin(), reversed.end());
  write_safetensors(folder.file("b.safetensors"), reversed, file->metadata());
  EXPECT(slurp(path) == slurp(folder.file("b.safetensors")), "order of tensors changes the file");
  EXPECT(folder.names().size() == 2, "a temporary file is left");
}

VILG_TEST(safetensors_float32_conversion) {
  TemporaryFolder folder;
  const std::string path = folder.file("a.safetensors");
  const std::vector<double> doubles = {0.1, -3.0};
  const std::vector<bf16> bfloats = test::to_bf16({1.5f, -0.25f});
  write_safetensors(path, {{"f16", StoredType::kF16, {6}, kHalves.data()},
                           {"f64", StoredType::kF64, {2}, doubles.data()},
                           {"bf16", StoredType::kBF16, {2}, bfloats.data()},
                           {"i32", StoredType::kI32, {3}, kInts.data()}});
  const auto file = SafetensorsFile::open(path);
  std::vector<float> out(6);
  read_float32(file->get("f16"), out.data());
  EXPECT(out[0] == 1.0f && out[1] == -2.0f && out[2] == 0x1p-24f && out[3] == 0 &&
             std::signbit(out[3]) && std::isinf(out[4]) && out[5] == 65504.0f,
         "float16 gives %g %g %g %g %g %g", out[0], out[1], out[2], out[3], out[4], out[5]);
  read_float32(file->get("f64"), out.data());
  EXPECT(out[0] == 0.1f && out[1] == -3.0f, "float64");
  read_float32(file->get("bf16"), out.data());
  EXPECT(out[0] == 1.5f && out[1] == -0.25f, "bfloat16");
  EXPECT_ERROR(kUnsupported, read_float32(file->get("i32"), out.data()));
  EXPECT_ERROR(kUnsupported, file->view(file->get("f64")));
  EXPECT_ERROR(kCheckpointIncompatible, file->get("f65"));
  EXPECT_ERROR(kCheckpointIncompatible, file->get("f64", {3}));
  EXPECT_ERROR(kCheckpointIncompatible, file->get("f64", {2, 1}));
}

VILG_TEST(safetensors_unaligned_view_is_a_copy) {
  TemporaryFolder folder;
  const std::string path = folder.file("a.safetensors");
  std::string data = "x";
  data.append(reinterpret_cast<const char*>(kFloats.data()), 8);
  std::string header =
      R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"b":{"dtype":"F32","shape":[2],"data_offsets":[1,9]}})";
  put(path, file_of(header, data));
  const auto file = SafetensorsFile::open(path);
  const Tensor view = file->view(file->get("b"));
  EXPECT(reinterpret_cast<uintptr_t>(view.data()) % 4 == 0, "unaligned");
  EXPECT(view.f32()[0] == 1.0f && view.f32()[1] == -2.5f, "bytes");
}

VILG_TEST(safetensors_headers_that_lie) {
  TemporaryFolder folder;
  const auto tensor = [](const char* name, const char* dtype, const char* shape,
                         const char* offsets) {
    return format(R"("%s":{"dtype":"%s","shape":%s,"data_offsets":%s})", name, dtype, shape,
                  offsets);
  };
  const std::string good = "{" + tensor("a", "F32", "[2]", "[0,8]") + "}";
  const std::string eight(8, 'x');
  EXPECT(open_error(folder, file_of(good, eight)) == "", "the honest one");
  EXPECT(open_error(folder, file_of(good + "   ", eight)) == "", "padding");
  EXPECT(open_error(folder, file_of("{}", "")) == "", "no tensors");

  const struct {
    const char* what;
    std::string bytes;
    const char* says;
  } cases[] = {
      {"empty file", "", "8 bytes"},
      {"seven bytes", "1234567", "8 bytes"},
      {"header over 100 MB", file_of("{}", "", 100'000'001), "at most 100000000"},
      {"header over everything", file_of("{}", "", UINT64_MAX), "at most 100000000"},
      {"header longer than the file", file_of(good, "", good.size() + 1), "truncated"},
      {"no header", file_of("", ""), "'{'"},
      {"leading space", file_of(" {}", ""), "'{'"},
      {"not an object", file_of("[]", ""), "'{'"},
      {"not UTF-8", file_of("{\"\xFF\":1}", ""), "UTF-8"},
      {"not JSON", file_of("{nope}", ""), "key"},
      {"cut JSON", file_of(good.substr(0, good.size() - 1), eight), "its end"},
      {"two objects", file_of("{}{}", ""), "nothing more"},
      {"truncated data", file_of(good, "1234567"), "truncated"},
      {"trailing data", file_of(good, "123456789"), "found 9"},
      {"begins late", file_of("{" + tensor("a", "F32", "[1]", "[4,8]") + "}", eight), "begin at 0"},
      {"ends before it begins",
       file_of("{" + tensor("a", "F32", "[2]", "[0,0]") + "," + tensor("b", "F32", "[2]", "[8,0]") +
                   "}",
               eight),
       "Tensor"},
      {"overlap",
       file_of("{" + tensor("a", "F32", "[2]", "[0,8]") + "," + tensor("b", "F32", "[2]", "[0,8]") +
                   "}",
               eight),
       "Tensor b"},
      {"hole",
       file_of(
           "{" + tensor("a", "U8", "[2]", "[0,2]") + "," + tensor("b", "U8", "[2]", "[6,8]") + "}",
           eight),
       "Tensor b"},
      {"size lies", file_of("{" + tensor("a", "F32", "[3]", "[0,8]") + "}", eight), "12 bytes"},
      {"overflowing shape",
       file_of("{" + tensor("a", "F32", "[4611686018427387904,4]", "[0,8]") + "}", eight), "2^63"},
      {"shape beyond int64",
       file_of("{" + tensor("a", "F32", "[18446744073709551615]", "[0,8]") + "}", eight), "2^63"},
      {"wrapping to zero",
       file_of("{" + tensor("a", "U8", "[4294967296,4294967296]", "[0,0]") + "}", ""), "2^63"},
      {"negative dimension", file_of("{" + tensor("a", "F32", "[-2]", "[0,8]") + "}", eight),
       "integer"},
      {"fractional dimension", file_of("{" + tensor("a", "F32", "[2.0]", "[0,8]") + "}", eight),
       "integer"},
      {"unknown dtype", file_of("{" + tensor("a", "F31", "[2]", "[0,8]") + "}", eight), "\"F31\""},
      {"one offset", file_of("{" + tensor("a", "F32", "[2]", "[8]") + "}", eight), "found 1"},
      {"three offsets", file_of("{" + tensor("a", "F32", "[2]", "[0,8,8]") + "}", eight),
       "at most 2"},
      {"no dtype", file_of(R"({"a":{"shape":[2],"data_offsets":[0,8]}})", eight), "no dtype"},
      {"no shape", file_of(R"({"a":{"dtype":"F32","data_offsets":[0,8]}})", eight), "no shape"},
      {"no offsets", file_of(R"({"a":{"dtype":"F32","shape":[2]}})", eight), "no data_offsets"},
      {"duplicate tensor",
       file_of("{" + tensor("a", "F32", "[2]", "[0,8]") + "," + tensor("a", "F32", "[2]", "[0,8]") +
                   "}",
               eight),
       "twice"},
      {"duplicate dtype",
       file_of(R"({"a":{"dtype":"U8","dtype":"F32","shape":[2],"data_offsets":[0,8]}})", eight),
       "two"},
      {"metadata of numbers", file_of(R"({"__metadata__":{"a":1}})", ""), "a string"},
      {"duplicate metadata", file_of(R"({"__metadata__":{"a":"1","a":"2"}})", ""), "twice"},
      {"endless shape",
       file_of(
           "{" + tensor("a", "F32", ("[1" + std::string(2000, ' ') + "]").c_str(), "[0,8]") + "}",
           eight),
       "4 bytes"},
  };
  for (const auto& one : cases) {
    const std::string message = open_error(folder, one.bytes);
    EXPECT(message.find(one.says) != std::string::npos && message.find("wrong code") != 0,
           "%s: expected \"%s\" in \"%s\"", one.what, one.says, message.c_str());
  }
  std::string dims = "[1";
  for (int i = 0; i < 64; ++i) dims += ",1";
  EXPECT(open_error(folder, file_of("{" + tensor("a", "U8", (dims + "]").c_str(), "[0,1]") + "}",
                                    "x")) != "",
         "65 dimensions");
}

VILG_TEST(safetensors_errors_of_the_system) {
  TemporaryFolder folder;
  EXPECT_ERROR(kIo, SafetensorsFile::open(folder.file("missing")));
  EXPECT_ERROR(kIo, SafetensorsFile::open(folder.path()));
  EXPECT_ERROR(kIo, write_safetensors(folder.file("no/such/folder"), sample()));
  try {
    SafetensorsFile::open(folder.file("missing"));
  } catch (const Error& error) {
    EXPECT(error.message().find("No such file") != std::string::npos, "%s", error.what());
    EXPECT(error.message().find("missing") != std::string::npos, "%s", error.what());
  }
}

VILG_TEST(safetensors_bad_tensors_are_not_written) {
  TemporaryFolder folder;
  const std::string path = folder.file("a");
  const float x = 1;
  EXPECT_ERROR(kInvalidArgument, write_safetensors(path, {{"a", StoredType::kF32, {1}, nullptr}}));
  EXPECT_ERROR(kInvalidArgument, write_safetensors(path, {{"a", StoredType::kF32, {-1}, &x}}));
  EXPECT_ERROR(kInvalidArgument, write_safetensors(path, {{"", StoredType::kF32, {1}, &x}}));
  EXPECT_ERROR(kInvalidArgument,
               write_safetensors(path, {{"__metadata__", StoredType::kF32, {1}, &x}}));
  EXPECT_ERROR(kInvalidArgument, write_safetensors(path, {{"\xFF", StoredType::kF32, {1}, &x}}));
  EXPECT_ERROR(kInvalidArgument, write_safetensors(path, {{"a", StoredType::kF32, {1}, &x},
                                                          {"a", StoredType::kF32, {1}, &x}}));
  EXPECT_ERROR(kInvalidArgument,
               write_safetensors(path, {{"a", StoredType::kF32, {INT64_MAX, 2}, &x}}));
  EXPECT(folder.names().empty(), "a file was made");
}

VILG_TEST(safetensors_full_disk_and_stop_keep_the_old_file) {
  TemporaryFolder folder;
  const std::string path = folder.file("a.safetensors");
  write_safetensors(path, sample());
  const std::string before = slurp(path);
  const auto mapped = SafetensorsFile::open(path);
  const std::vector<float> large(1 << 16, 1.0f);

  StopFlag stop;
  stop.raise();
  bool stopped = false;
  try {
    write_safetensors(path, {{"a", StoredType::kF32, {1 << 16}, large.data()}}, {}, &stop);
  } catch (const Stopped&) {
    stopped = true;
  }
  EXPECT(stopped, "not stopped");

  // the size limit of the process stands for a full disk: write() fails half-way
  rlimit limit;
  getrlimit(RLIMIT_FSIZE, &limit);
  const rlimit small = {65536, limit.rlim_max};
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  setrlimit(RLIMIT_FSIZE, &small);
  EXPECT_ERROR(kIo, write_safetensors(path, {{"a", StoredType::kF32, {1 << 16}, large.data()}}));
  setrlimit(RLIMIT_FSIZE, &limit);
  std::signal(SIGXFSZ, handler);

  EXPECT(slurp(path) == before, "the old file changed");
  EXPECT(folder.names().size() == 1, "%zu files", folder.names().size());

  // replacing the file leaves the map of the old one alone
  write_safetensors(path, {{"a", StoredType::kF32, {1 << 16}, large.data()}});
  EXPECT(std::memcmp(mapped->get("floats").data, kFloats.data(), 24) == 0, "the map changed");
  EXPECT(SafetensorsFile::open(path)->find("a") != nullptr, "the new file is not there");
}

VILG_TEST(safetensors_file_mode) {
  TemporaryFolder folder;
  const std::string path = folder.file("a");
  write_safetensors(path, {});
  struct stat status;
  ::stat(path.c_str(), &status);
  EXPECT((status.st_mode & 0400) && !(status.st_mode & 0111), "mode %o", status.st_mode);
  ::chmod(path.c_str(), 0640);
  write_safetensors(path, {});
  ::stat(path.c_str(), &status);
  EXPECT((status.st_mode & 0777) == 0640, "the mode %o of the old file is lost", status.st_mode);
}

// Whatever a file says, reading it ends in an Error or in tensors that lie inside the map.
// VILG_FUZZ_CASES=200000 in the environment tries more of them.
VILG_TEST(safetensors_mutations) {
  const char* wanted = std::getenv("VILG_FUZZ_CASES");
  const size_t num_cases = wanted ? std::strtoul(wanted, nullptr, 10) : 10000;
  TemporaryFolder folder;
  const std::string path = folder.file("a.safetensors");
  write_safetensors(path, sample(), {{"format", "pt"}});
  const std::string good = slurp(path);
  std::mt19937 engine(1);
  const auto below = [&](size_t n) { return static_cast<size_t>(engine() % n); };
  static constexpr std::string_view kLikely = "{}[]\":,0123456789\\u-.eE \xFF\x80";
  size_t opened = 0, refused = 0;
  for (size_t i = 0; i < num_cases; ++i) {
    std::string bytes = good;
    for (size_t n = 1 + below(4); n > 0; --n) {
      const size_t at = below(bytes.size());
      switch (below(5)) {
        case 0:
          bytes[at] = static_cast<char>(engine());
          break;
        case 1:
          bytes[at] = kLikely[below(kLikely.size())];
          break;
        case 2:
          bytes.erase(at, 1 + below(8));
          break;
        case 3:
          bytes.insert(at, 1, kLikely[below(kLikely.size())]);
          break;
        default:
          bytes.resize(at + 1);
          break;
      }
      if (bytes.empty()) bytes.assign(1, 'x');
    }
    put(path, bytes);
    try {
      const auto file = SafetensorsFile::open(path);
      ++opened;
      size_t total = 0;
      unsigned sum = 0;
      for (const StoredTensor& tensor : file->tensors()) {
        total += tensor.size_bytes;
        for (size_t j = 0; j < tensor.size_bytes; ++j) sum += tensor.data[j];
        if (tensor.type == StoredType::kF32) (void)file->view(tensor);
      }
      EXPECT(total < bytes.size() && sum < 1u << 20, "tensors reach over the file");
    } catch (const Error& error) {
      ++refused;
      EXPECT(
          error.code() == ErrorCode::kCheckpointFormat || error.code() == ErrorCode::kUnsupported,
          "%s: %s", error_code_name(error.code()), error.what());
    }
  }
  EXPECT(opened > num_cases / 100 && refused > num_cases / 2,
         "the mutations are too tame: %zu opened, %zu refused", opened, refused);
}
