#include "sample/offsets.h"

namespace vilg {
namespace {

std::vector<float> read_weight(Generator& generator, const char* name) {
  ParameterList& parameters = generator.parameters();
  return parameters.read(parameters.index_of(name));
}

}  // namespace

std::vector<float> modality_of(Generator& generator, Segment segment) {
  const auto C = static_cast<size_t>(generator.config().hidden);
  if (!generator.config().modality) return std::vector<float>(C, 0.0f);
  const std::vector<float> both = read_weight(generator, "modality.weight");
  const size_t start = segment == Segment::kText ? 0 : C;
  return {both.begin() + static_cast<std::ptrdiff_t>(start),
          both.begin() + static_cast<std::ptrdiff_t>(start + C)};
}

Tensor image_offsets(Generator& generator) {
  const int64_t g = generator.config().grid, C = generator.config().hidden;
  const int64_t first = generator.config().first_place();
  const std::vector<float> row = read_weight(generator, "row_position.weight");
  const std::vector<float> column = read_weight(generator, "column_position.weight");
  const std::vector<float> modality = modality_of(generator, Segment::kImage);
  std::vector<float> offsets(static_cast<size_t>(g * g * C), 0.0f);
  for (int64_t p = 0; p + first < g * g; ++p) {
    for (int64_t c = 0; c < C; ++c) {
      // the order of stream_embedding: the embedding comes on top of this sum
      offsets[static_cast<size_t>((p + first) * C + c)] =
          row[static_cast<size_t>(p / g * C + c)] + column[static_cast<size_t>(p % g * C + c)] +
          modality[static_cast<size_t>(c)];
    }
  }
  return generator.backend().upload(offsets.data(), DType::kFloat32, {g * g, C});
}

Tensor text_offsets(Generator& generator) {
  const int64_t t = generator.config().embedded_text(), C = generator.config().hidden;
  const std::vector<float> position = read_weight(generator, "text_position.weight");
  const std::vector<float> modality = modality_of(generator, Segment::kText);
  std::vector<float> offsets(static_cast<size_t>(t * C));
  for (int64_t j = 0; j < t; ++j) {
    for (int64_t c = 0; c < C; ++c) {
      offsets[static_cast<size_t>(j * C + c)] =
          position[static_cast<size_t>(j * C + c)] + modality[static_cast<size_t>(c)];
    }
  }
  return generator.backend().upload(offsets.data(), DType::kFloat32, {t, C});
}

}  // namespace vilg
