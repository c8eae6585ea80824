#include "model/image_tokenizer.h"

namespace vilg {
namespace {

long long ll(int64_t value) { return static_cast<long long>(value); }

}  // namespace

void ImageTokenizer::check_images(std::span<const float> images, int64_t batch, int64_t height,
                                  int64_t width) const {
  VILG_CHECK(batch >= 1, kInvalidArgument, "Expected at least one image, received %lld", ll(batch));
  const int64_t side = reduction();
  VILG_CHECK(height >= side && width >= side && height % side == 0 && width % side == 0,
             kShapeMismatch,
             "Expected image sides that are multiples of %lld (pixels to a code), received %lld x "
             "%lld",
             ll(side), ll(height), ll(width));
  const int64_t expected = batch * image_channels_ * height * width;
  VILG_CHECK(static_cast<int64_t>(images.size()) == expected, kShapeMismatch,
             "Expected images of %lld x %lld x %lld x %lld = %lld values, received %zu", ll(batch),
             ll(image_channels_), ll(height), ll(width), ll(expected), images.size());
}

void ImageTokenizer::check_indices(std::span<const int32_t> indices, int64_t batch, int64_t rows,
                                   int64_t columns) const {
  VILG_CHECK(batch >= 1 && rows >= 1 && columns >= 1, kInvalidArgument,
             "Expected at least one image of at least one code, received %lld of %lld x %lld",
             ll(batch), ll(rows), ll(columns));
  VILG_CHECK(static_cast<int64_t>(indices.size()) == batch * rows * columns, kShapeMismatch,
             "Expected %lld x %lld x %lld indices, received %zu", ll(batch), ll(rows), ll(columns),
             indices.size());
  for (size_t i = 0; i < indices.size(); ++i) {
    VILG_CHECK(indices[i] >= 0 && indices[i] < codebook_size(), kInvalidArgument,
               "Expected image ids from 0 to %lld, received %d at position %zu",
               ll(codebook_size() - 1), indices[i], i);
  }
}

void ImageTokenizer::check_trainable() const {
  VILG_CHECK(precision_ == DType::kFloat32, kUnsupported,
             "Gradients need a model in float32 (load it with precision: 'float32'), received one "
             "in %s",
             dtype_name(precision_));
}

Value ImageTokenizer::upload(Tape& tape, std::span<const float> images, int64_t first,
                             int64_t count, int64_t height, int64_t width) const {
  const int64_t size = image_channels_ * height * width;
  return to_channels_last(tape,
                          tape.value(backend().upload(images.data() + first * size, DType::kFloat32,
                                                      {count, image_channels_, height, width})));
}

Tensor ImageTokenizer::largest(Tape& tape, const Tensor& values) const {
  const int64_t n = values.dim(-1), rows = values.num_elements() / n;
  Tensor indices = backend().empty(DType::kInt32, {rows});
  tape.ops().argmax({indices.as<int32_t>(), values.f32(), rows, n}, tape.context());
  return indices;
}

}  // namespace vilg
