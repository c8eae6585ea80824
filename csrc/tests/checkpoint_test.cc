#include "model/checkpoint.h"

#include <cstdlib>
#include <cstring>

#include "tests/fixtures.h"
#include "tests/harness.h"
#include "tests/temporary_folder.h"

namespace vilg::test {
namespace {

const std::vector<ParameterSpec>& specs() {
  const Init normal{Init::Kind::kNormal, 1.0f}, uniform{Init::Kind::kUniform, 0.5f};
  static const std::vector<ParameterSpec> all = {
      {"linear.weight", {37, 53}, normal},
      {"linear.bias", {37}, uniform},
      {"conv.weight", {5, 7, 3, 2}, normal, /*convolution=*/true},
      {"point.weight", {5, 7, 1, 1}, normal, /*convolution=*/true},
      {"flat.weight", {5, 1, 3, 3}, normal, /*convolution=*/true},
      {"codebook.weight",
       {11, 3},
       normal,
       /*convolution=*/false,
       /*decay=*/false,
       /*precise=*/true},
      {"ones", {4}, {Init::Kind::kOne}}};
  return all;
}

std::string message_of(const std::function<void()>& body) {
  try {
    body();
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

bool contains(const std::string& text, const char* part) {
  return text.find(part) != std::string::npos;
}

std::vector<io::TensorToWrite> tensors_of(const std::vector<std::vector<float>>& values) {
  std::vector<io::TensorToWrite> tensors;
  for (size_t i = 0; i < values.size(); ++i) {
    const ParameterSpec& spec = specs()[i];
    io::TensorToWrite& tensor = tensors.emplace_back();
    tensor.name = spec.name;
    for (int d = 0; d < spec.shape.rank(); ++d) tensor.shape.push_back(spec.shape[d]);
    tensor.data = values[i].data();
  }
  return tensors;
}

std::vector<std::vector<float>> values_of(const ParameterList& list) {
  std::vector<std::vector<float>> values;
  for (size_t i = 0; i < list.specs().size(); ++i) values.push_back(list.read(i));
  return values;
}

}  // namespace

VILG_TEST(convolution_weights_lie_as_kernels_read_them) {
  ParameterList list(ref_backend(), specs(), DType::kFloat32);
  list.initialize(3);
  const std::vector<float> file = list.read(2);  // [5, 7, 3, 2]
  const float* memory = list["conv.weight"].value.f32();
  EXPECT((list["conv.weight"].value.shape() == Shape{5, 3, 2, 7}), "%s",
         list["conv.weight"].value.shape().to_string().c_str());
  int wrong = 0;
  for (int o = 0; o < 5; ++o) {
    for (int i = 0; i < 7; ++i) {
      for (int y = 0; y < 3; ++y) {
        for (int x = 0; x < 2; ++x) {
          wrong += file[static_cast<size_t>(((o * 7 + i) * 3 + y) * 2 + x)] !=
                   memory[((o * 3 + y) * 2 + x) * 7 + i];
        }
      }
    }
  }
  EXPECT(wrong == 0, "%d elements", wrong);
}

// Big enough for several chunks and tasks.
VILG_TEST(large_weights_load_in_pieces) {
  const std::vector<ParameterSpec> large = {
      {"matrix", {2100, 2003}, {}},
      {"conv", {130, 67, 5, 97}, {}, /*convolution=*/true},  // 4,225,000 elements
  };
  for (const DType dtype : {DType::kFloat32, DType::kBFloat16}) {
    ParameterList list(ref_backend(), large, dtype);
    for (size_t i = 0; i < large.size(); ++i) {
      const std::vector<float> values =
          random_floats(static_cast<size_t>(large[i].shape.num_elements()), 77);
      const std::vector<bf16> rounded = to_bf16(values);
      // one byte off: files promise no alignment
      std::vector<unsigned char> bytes(values.size() * 4 + 1);
      std::memcpy(bytes.data() + 1, values.data(), values.size() * 4);
      list.load(i, bytes.data() + 1, DType::kFloat32);
      EXPECT(list.read(i) == (dtype == DType::kFloat32 ? values : to_float(rounded)), "%s as %s",
             large[i].name.c_str(), dtype_name(dtype));
      list.load(i, rounded.data(), DType::kBFloat16);
      EXPECT(list.read(i) == to_float(rounded), "%s from bfloat16 as %s", large[i].name.c_str(),
             dtype_name(dtype));
    }
  }
}

VILG_TEST(weights_survive_saving_and_loading) {
  TemporaryFolder folder;
  ParameterList list(ref_backend(), specs(), DType::kFloat32);
  list.initialize(9);
  const auto values = values_of(list);
  const std::string path = folder.file("weights.safetensors");
  save_parameters(list, path, DType::kFloat32);
  const auto file = io::SafetensorsFile::open(path);

  ParameterList again(ref_backend(), specs(), DType::kFloat32);
  again.initialize(10);
  double last = 0;
  bool rising = true;
  const LoadReport report = load_parameters(again, *file, {.on_progress = [&](double fraction) {
                                              rising &= fraction > last && fraction <= 1;
                                              last = fraction;
                                            }});
  EXPECT(values_of(again) == values, "not the same bits");
  EXPECT(report.missing.empty() && report.unexpected.empty(), "complete");
  EXPECT(rising && last == 1, "progress ends at %g", last);

  // into a bfloat16 model, from bfloat16 files and back
  ParameterList half(ref_backend(), specs(), DType::kBFloat16);
  load_parameters(half, *file);
  save_parameters(list, path, DType::kBFloat16);
  const auto half_file = io::SafetensorsFile::open(path);
  EXPECT(half_file->get("conv.weight").type == io::StoredType::kBF16 &&
             half_file->get("codebook.weight").type == io::StoredType::kF32 &&
             half_file->get("linear.bias").type == io::StoredType::kF32,
         "types in the file");
  load_parameters(again, *half_file);
  EXPECT(values_of(again) == values_of(half), "rounding on saving and on loading differ");
  for (size_t i = 0; i < specs().size(); ++i) {
    const bool rounds =
        ParameterList::storage_dtype(specs()[i], DType::kBFloat16) != DType::kFloat32;
    EXPECT(half.read(i) == (rounds ? to_float(to_bf16(values[i])) : values[i]), "%s",
           specs()[i].name.c_str());
  }
}

VILG_TEST(half_precision_files_load) {
  TemporaryFolder folder;
  ParameterList list(ref_backend(), {{"x", {2, 2}, {}}}, DType::kFloat32);
  const uint16_t halves[] = {0x3c00, 0xc000, 0x3555, 0x0001};  // 1, -2, 0.33325, 2^-24
  const std::string path = folder.file("half.safetensors");
  io::write_safetensors(
      path, {{.name = "x", .type = io::StoredType::kF16, .shape = {2, 2}, .data = halves}});
  load_parameters(list, *io::SafetensorsFile::open(path));
  EXPECT((list.read(0) == std::vector<float>{1.0f, -2.0f, 0.333251953125f, 0x1p-24f}), "values");
}

VILG_TEST(checkpoints_that_do_not_fit_are_refused) {
  TemporaryFolder folder;
  const std::string path = folder.file("weights.safetensors");
  ParameterList list(ref_backend(), specs(), DType::kFloat32);
  list.initialize(1);
  const auto before = values_of(list);
  const std::vector<float> spare(5000, 1.0f);
  std::vector<std::vector<float>> ones;
  for (const ParameterSpec& spec : specs()) {
    ones.emplace_back(static_cast<size_t>(spec.shape.num_elements()), 1.0f);
  }
  const auto load = [&](const std::vector<io::TensorToWrite>& tensors, LoadOptions options = {}) {
    io::write_safetensors(path, tensors);
    return load_parameters(list, *io::SafetensorsFile::open(path), options);
  };

  auto tensors = tensors_of(ones);
  tensors[2].shape = {5, 7, 2, 3};
  EXPECT_ERROR(kCheckpointIncompatible, load(tensors));
  std::string message = message_of([&] { load(tensors); });
  EXPECT(contains(message, "conv.weight") && contains(message, "[5, 7, 3, 2]") &&
             contains(message, "[5, 7, 2, 3]"),
         "%s", message.c_str());

  tensors = tensors_of(ones);
  tensors[6].type = io::StoredType::kI32;
  EXPECT_ERROR(kCheckpointIncompatible, load(tensors));
  message = message_of([&] { load(tensors); });
  EXPECT(contains(message, "ones") && contains(message, "I32"), "%s", message.c_str());

  tensors = tensors_of(ones);
  tensors[1].name = "linear.offset";
  EXPECT_ERROR(kCheckpointIncompatible, load(tensors));
  message = message_of([&] { load(tensors); });
  EXPECT(contains(message, "linear.bias") && contains(message, "linear.offset"), "%s",
         message.c_str());

  tensors = tensors_of(ones);
  tensors.push_back({.name = "loss.logvar", .shape = {3}, .data = spare.data()});
  EXPECT_ERROR(kCheckpointIncompatible, load(tensors));
  message = message_of([&] { load(tensors); });
  EXPECT(contains(message, "loss.logvar"), "%s", message.c_str());
  EXPECT(values_of(list) == before, "a refused file changed weights");

  // asked for, both are reported and what is there is loaded
  tensors[1].name = "linear.offset";
  const LoadReport report = load(tensors, {.strict = false});
  EXPECT((report.missing == std::vector<std::string>{"linear.bias"}) &&
             (report.unexpected.size() == 2),
         "%zu missing, %zu unexpected", report.missing.size(), report.unexpected.size());
  EXPECT(list.read(0) == ones[0] && list.read(1) == before[1], "loaded and kept");
}

}  // namespace vilg::test
