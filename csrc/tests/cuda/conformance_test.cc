// The wrappers of device.h against their twins on the host. On a GPU this is what shows that the
// emulation, and with it every other test of the kernels, speaks of the same instructions.
#include "cuda/conformance.h"

#include <cmath>
#include <cstring>
#include <map>
#include <random>

#include "plugin/plugin_call.h"
#include "tests/cuda/cuda_backend.h"
#include "tests/harness.h"

extern "C" const VilgPlugin* vilg_plugin();

namespace vilg::test {
namespace {

using cuda::kConformanceCases;
constexpr size_t kCount = cuda::kConformanceThreads * cuda::kConformanceWords;

std::vector<uint32_t> run(const VilgPlugin& plugin, int number, const std::vector<uint32_t>& in) {
  // for the whole process: a plugin closes no queue
  static auto& queues = *new std::map<const VilgPlugin*, VilgPluginQueue*>;
  VilgPluginQueue*& queue = queues[&plugin];
  if (!queue) plugin_call(plugin.open, 0, &queue);
  void *from = nullptr, *to = nullptr;
  plugin_call(plugin.allocate, queue, kCount * 4, &from);
  plugin_call(plugin.allocate, queue, kCount * 4, &to);
  std::vector<uint32_t> out(kCount);
  plugin_call(plugin.copy_in, queue, from, static_cast<const void*>(in.data()), kCount * 4);
  plugin_call(plugin.conformance, queue, number, static_cast<const uint32_t*>(from),
              static_cast<uint32_t*>(to));
  plugin_call(plugin.copy_out, queue, static_cast<void*>(out.data()), to, kCount * 4);
  plugin.deallocate(queue, from);
  plugin.deallocate(queue, to);
  return out;
}

float as_float(uint32_t bits) {
  float x;
  std::memcpy(&x, &bits, 4);
  return x;
}

VILG_TEST(cuda_wrappers_are_their_twins) {
  for (int number = 0; number < static_cast<int>(std::size(kConformanceCases)); ++number) {
    const auto& c = kConformanceCases[number];
    std::mt19937 engine(static_cast<uint32_t>(number) + 1);
    std::vector<uint32_t> in(kCount);
    for (uint32_t& word : in) {
      word = static_cast<uint32_t>(engine());
      if (c.small_integers) {
        const auto integer = [&] {
          return float_to_bf16(static_cast<float>(engine() % 17) - 8.0f);
        };
        word = integer();
        word |= static_cast<uint32_t>(integer()) << 16;
      }
    }
    const std::vector<uint32_t> here = run(*vilg_plugin(), number, in);
    const std::vector<uint32_t> there = run(cuda_plugin(), number, in);
    bool written = false;
    for (size_t i = 0; i < kCount; ++i) {
      written = written || here[i] != 0;
      if (c.exact) {
        EXPECT(here[i] == there[i], "%s: word %zu is %08x, its twin gives %08x", c.name, i,
               there[i], here[i]);
      } else {
        // ex2.approx.ftz.f32: 2 units in the last place, rcp.approx.ftz.f32: 1 (PTX ISA)
        const double expected = as_float(here[i]), actual = as_float(there[i]);
        EXPECT(std::abs(actual - expected) <= 0x1p-21 * std::abs(expected), "%s: %g, its twin %g",
               c.name, actual, expected);
      }
    }
    EXPECT(written, "%s writes nothing", c.name);
  }
}

}  // namespace
}  // namespace vilg::test
