#include "model/wavelet.h"

#include "core/error.h"

namespace vilg {

void inverse_haar(std::span<float> picture, std::span<const float> bands, int64_t channels,
                  int64_t height, int64_t width) {
  const int64_t plane = height * width;
  VILG_CHECK(static_cast<int64_t>(picture.size()) == 4 * channels * plane &&
                 picture.size() == bands.size(),
             kInternal, "inverse_haar: %zu of %zu values", picture.size(), bands.size());
  for (int64_t c = 0; c < channels; ++c) {
    const float* low = bands.data() + c * plane;
    const float* rows = bands.data() + (channels + 3 * c) * plane;
    const float* columns = rows + plane;
    const float* both = columns + plane;
    for (int64_t y = 0; y < height; ++y) {
      float* upper = picture.data() + (2 * (c * height + y)) * 2 * width;
      float* lower = upper + 2 * width;
      for (int64_t x = 0; x < width; ++x) {
        const int64_t i = y * width + x;
        // the filters are (1, 1) and (1, -1), each divided by the root of 2
        const float top = low[i] + rows[i], top_change = columns[i] + both[i];
        const float bottom = low[i] - rows[i], bottom_change = columns[i] - both[i];
        upper[2 * x] = 0.5f * (top + top_change);
        upper[2 * x + 1] = 0.5f * (top - top_change);
        lower[2 * x] = 0.5f * (bottom + bottom_change);
        lower[2 * x + 1] = 0.5f * (bottom - bottom_change);
      }
    }
  }
}

}  // namespace vilg
