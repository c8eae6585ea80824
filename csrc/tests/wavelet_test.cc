#include "model/wavelet.h"

#include <array>
#include <vector>

#include "tests/harness.h"

namespace vilg::test {

// By the definition: each value spreads over a square of 2 x 2, with the signs of its band.
VILG_TEST(inverse_haar_is_the_sum_of_its_bands) {
  constexpr int64_t kChannels = 3, kHeight = 2, kWidth = 5;
  const std::vector<float> bands = random_floats(4 * kChannels * kHeight * kWidth, 3);
  std::vector<float> picture(bands.size());
  inverse_haar(picture, bands, kChannels, kHeight, kWidth);
  for (int64_t c = 0; c < kChannels; ++c) {
    for (int64_t y = 0; y < 2 * kHeight; ++y) {
      for (int64_t x = 0; x < 2 * kWidth; ++x) {
        const auto band = [&](int64_t plane) {
          return bands[static_cast<size_t>((plane * kHeight + y / 2) * kWidth + x / 2)];
        };
        const int64_t details = kChannels + 3 * c;
        const float down = y % 2 ? -1.0f : 1.0f, right = x % 2 ? -1.0f : 1.0f;
        const float expected = (band(c) + down * band(details) + right * band(details + 1) +
                                down * right * band(details + 2)) /
                               2;
        const float actual = picture[static_cast<size_t>((c * 2 * kHeight + y) * 2 * kWidth + x)];
        // four sums of numbers of at most 1, in another order
        EXPECT(std::abs(actual - expected) <= 4e-7f, "%g, not %g", static_cast<double>(actual),
               static_cast<double>(expected));
      }
    }
  }
}

}  // namespace vilg::test
