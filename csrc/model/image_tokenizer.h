#pragma once

#include <span>
#include <vector>

#include "autograd/image_ops.h"
#include "model/parameters.h"

namespace vilg {

// Pictures that go through together without a tape: one of 256 x 256, or several small ones.
inline constexpr int64_t kPassPixels = 65536;

// What turns pictures into codes and back: a Vqgan or a Dvae.
class ImageTokenizer {
 public:
  virtual ~ImageTokenizer() = default;

  ParameterList& parameters() { return parameters_; }
  Backend& backend() const { return parameters_.backend(); }
  DType precision() const { return precision_; }
  virtual int64_t resolution() const = 0;     // side of its pictures
  virtual int64_t reduction() const = 0;      // pixels of a side to one code
  virtual int64_t codebook_size() const = 0;  // codes are 0 .. codebook_size - 1

  // (B, 3, S, S) in host memory, S the resolution, to (B, S, S, 3) on a tape.
  Value upload_pictures(Tape& tape, std::span<const float> images, int64_t batch) const {
    check_images(images, batch, resolution(), resolution());
    return upload(tape, images, 0, batch, resolution(), resolution());
  }

  // --- whole batches in host memory ---
  struct Encoding {
    std::vector<int32_t> indices;  // (B, h*w)
    std::vector<float> prequant;   // (B, D, h, w): what the codes were chosen by
  };
  // images (B, 3, height, width) in [-1, 1]; sides are multiples of the reduction.
  virtual Encoding encode(std::span<const float> images, int64_t batch, int64_t height,
                          int64_t width, const StopFlag* stop = nullptr) = 0;
  // indices (B, rows * columns) -> (B, 3, rows * reduction, columns * reduction)
  virtual std::vector<float> decode(std::span<const int32_t> indices, int64_t batch, int64_t rows,
                                    int64_t columns, const StopFlag* stop = nullptr) = 0;

 protected:
  ImageTokenizer(Backend& backend, const std::vector<ParameterSpec>& specs, DType precision,
                 int64_t image_channels)
      : precision_(precision),
        image_channels_(image_channels),
        parameters_(backend, specs, precision) {}

  void check_images(std::span<const float> images, int64_t batch, int64_t height,
                    int64_t width) const;
  void check_indices(std::span<const int32_t> indices, int64_t batch, int64_t rows,
                     int64_t columns) const;
  // Throws unless the weights are float32.
  void check_trainable() const;
  // The next pictures that go through together, from `first` on, as (count, height, width, C).
  Value upload(Tape& tape, std::span<const float> images, int64_t first, int64_t count,
               int64_t height, int64_t width) const;
  // The largest of each row of (.., n).
  Tensor largest(Tape& tape, const Tensor& values) const;

 private:
  DType precision_;
  int64_t image_channels_;
  ParameterList parameters_;
};

}  // namespace vilg
