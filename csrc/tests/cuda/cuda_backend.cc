#include "tests/cuda/cuda_backend.h"

#include <algorithm>
#include <cstdlib>
#include <type_traits>
#include <vector>

#include "cuda/emulation/memory.h"
#include "kernels/cache.h"
#include "plugin/plugin_backend.h"
#include "tests/cuda/staging.h"
#include "tests/fixtures.h"
#include "tests/harness.h"

extern "C" const VilgPlugin* vilg_plugin();

namespace vilg::test {
const VilgPlugin& cuda_plugin() {
  const char* path = std::getenv("VILG_CUDA_PLUGIN");
  static const VilgPlugin& plugin = path ? load_plugin(path) : *vilg_plugin();
  return plugin;
}

namespace {

// Ranges of host memory and their copies on the device. Ranges that overlap (an op may work in
// place, and q, k and v of one projection interleave) share one copy.
class Staging {
 public:
  void add(const void* pointer, size_t size, bool written) {
    if (!pointer || size == 0) return;
    const auto begin = reinterpret_cast<uintptr_t>(pointer);
    Range range{begin, begin + size, written, {}};
    for (auto it = ranges_.begin(); it != ranges_.end();) {
      if (it->begin < range.end && range.begin < it->end) {
        range.begin = std::min(range.begin, it->begin);
        range.end = std::max(range.end, it->end);
        range.written |= it->written;
        it = ranges_.erase(it);
      } else {
        ++it;
      }
    }
    ranges_.push_back(std::move(range));
  }
  void to_device() {
    for (Range& range : ranges_) {
      const auto size = static_cast<int64_t>(range.end - range.begin);
      // where a vector access is possible in host memory, it is on the device, and only there
      const auto shift = static_cast<int64_t>(range.begin % 16);
      range.memory = cuda_backend().empty(DType::kUInt8, {size + shift + 2 * kPad});
      range.copy = range.memory.as<char>() + kPad + shift;
      const std::vector<unsigned char> poison(kPad, kPoison);
      cuda_backend().copy_in(range.copy - kPad, poison.data(), kPad);
      cuda_backend().copy_in(range.copy + size, poison.data(), kPad);
      cuda_backend().copy_in(range.copy, reinterpret_cast<const void*>(range.begin),
                             static_cast<size_t>(size));
    }
  }
  template <typename T>
  T* on_device(T* pointer) const {
    const auto address = reinterpret_cast<uintptr_t>(pointer);
    for (const Range& range : ranges_) {
      if (address >= range.begin && address < range.end) {
        return reinterpret_cast<T*>(range.copy + (address - range.begin));
      }
    }
    return pointer;  // null, or of no elements
  }
  void to_host() {
    for (const Range& range : ranges_) {
      const size_t size = range.end - range.begin;
      for (const char* pad : {range.copy - kPad, range.copy + size}) {
        std::vector<unsigned char> now(kPad);
        cuda_backend().copy_out(now.data(), pad, kPad);
        const bool intact =
            std::all_of(now.begin(), now.end(), [](auto b) { return b == kPoison; });
        EXPECT(intact, "wrote %s a block of %zu bytes", pad < range.copy ? "before" : "beyond",
               size);
      }
      if (!range.written) continue;
      cuda_backend().copy_out(reinterpret_cast<void*>(range.begin), range.copy, size);
    }
  }

 private:
  static constexpr int64_t kPad = 256;
  static constexpr unsigned char kPoison = 0xff;
  struct Range {
    uintptr_t begin, end;
    bool written;
    Tensor memory;
    char* copy = nullptr;
  };
  std::vector<Range> ranges_;
};

template <typename Params>
void run(void (*op)(const Params&, OpContext&), const Params& host, const StopFlag* stop) {
  validate(host);                            // before sizes are believed
  cuda::emulation::allow_host_access(true);  // whatever runs here works on copies
  Params device = host;
  Staging staging;
  fields(device, [&](auto*& pointer, size_t size) {
    staging.add(
        pointer, size,
        !std::is_const_v<std::remove_pointer_t<std::remove_reference_t<decltype(pointer)>>>);
  });
  staging.to_device();
  fields(device, [&](auto*& pointer, size_t) { pointer = staging.on_device(pointer); });
  OpContext context = cuda_backend().context(stop);
  op(device, context);
  staging.to_host();
}

}  // namespace

Backend& cuda_backend() {
  static Backend& backend = plugin_backend(cuda_plugin(), 0);
  return backend;
}

std::vector<Backend*> backends() {
  cuda::emulation::allow_host_access(false);
  return {&cuda_backend()};
}

bool cuda_emulated() {
  static const bool emulated = plugin_devices(cuda_plugin())[0].emulated;
  return emulated;
}

const OpTable& cuda_ops() {
  static const OpTable table = [] {
    OpTable t;
    t.name = "cuda";
#define VILG_OP(op, Params)                                     \
  t.op = [](const Params& params, OpContext& context) {         \
    run<Params>(cuda_backend().ops().op, params, context.stop); \
  };
    VILG_OPS(VILG_OP)
#undef VILG_OP
    return t;
  }();
  return table;
}

}  // namespace vilg::test
