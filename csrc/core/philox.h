#pragma once

#include <array>
#include <cstdint>

#include "core/host_device.h"

namespace vilg {

// Philox 4x32-10 (Salmon et al. 2011): a pure function of key and counter, so a draw depends on
// nothing but what it is for, and the same numbers come out whatever the batch size, thread count
// or backend.
VILG_HOST_DEVICE constexpr std::array<uint32_t, 4> philox(std::array<uint32_t, 4> counter,
                                                          std::array<uint32_t, 2> key) {
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = uint64_t{0xD2511F53u} * counter[0];
    const uint64_t p1 = uint64_t{0xCD9E8D57u} * counter[2];
    counter = {static_cast<uint32_t>(p1 >> 32) ^ counter[1] ^ key[0], static_cast<uint32_t>(p1),
               static_cast<uint32_t>(p0 >> 32) ^ counter[3] ^ key[1], static_cast<uint32_t>(p0)};
    key[0] += 0x9E3779B9u;
    key[1] += 0xBB67AE85u;
  }
  return counter;
}

// What a random number is for: keeps the streams of one seed apart.
enum class RandomPurpose : uint32_t {
  kInit = 1,
  kDraw = 2,
  kReviveCode = 3,
  kDropout = 4,
  kGumbel = 5
};

VILG_HOST_DEVICE constexpr std::array<uint32_t, 4> philox(uint64_t seed, RandomPurpose purpose,
                                                          uint32_t stream, uint64_t position) {
  return philox({static_cast<uint32_t>(position), static_cast<uint32_t>(position >> 32), stream,
                 static_cast<uint32_t>(purpose)},
                {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)});
}

// Uniform in [0, 1) with 24 bits, exact in float32.
VILG_HOST_DEVICE constexpr float uniform_from_bits(uint32_t bits) {
  return static_cast<float>(bits >> 8) * 0x1p-24f;
}

}  // namespace vilg
