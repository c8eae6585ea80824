#pragma once

#include <cstdint>
#include <span>

namespace vilg {

// One level of the inverse Haar wavelet transform, as ru-dalle's decoder has it
// (rudalle/vae/decoder_dwt.py): `bands` (4 * channels, height, width) to `picture` (channels, 2 *
// height, 2 * width). The bands are the low one of every channel, and then for every channel its
// differences between rows, between columns, and between both.
void inverse_haar(std::span<float> picture, std::span<const float> bands, int64_t channels,
                  int64_t height, int64_t width);

}  // namespace vilg
