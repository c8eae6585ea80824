#include "cpu/isa.h"

#include <atomic>

#include "core/error.h"

namespace vilg::cpu {
namespace {
std::atomic<int> active{-1};
}

const char* isa_name(Isa isa) {
  switch (isa) {
    case Isa::kV2:
      return "x86-64-v2";
    case Isa::kV3:
      return "x86-64-v3";
    case Isa::kV4:
      return "x86-64-v4";
    case Isa::kV4Bf16:
      return "x86-64-v4+avx512bf16";
    case Isa::kNeon:
      return "armv8-neon";
  }
  return "unknown";
}

bool isa_supported(Isa isa) {
#if defined(__x86_64__)
  __builtin_cpu_init();
  switch (isa) {
    case Isa::kV2:
      return __builtin_cpu_supports("x86-64-v2");
    case Isa::kV3:
      return __builtin_cpu_supports("x86-64-v3");
    case Isa::kV4:
      return __builtin_cpu_supports("x86-64-v4");
    case Isa::kV4Bf16:
      return __builtin_cpu_supports("x86-64-v4") && __builtin_cpu_supports("avx512bf16");
    case Isa::kNeon:
      return false;
  }
  return false;
#elif defined(__aarch64__)
  return isa == Isa::kNeon;
#else
  (void)isa;
  return false;
#endif
}

Isa best_isa() {
  for (Isa isa : {Isa::kV4Bf16, Isa::kV4, Isa::kV3, Isa::kNeon}) {
    if (isa_supported(isa)) return isa;
  }
  return Isa::kV2;
}

Isa active_isa() {
  int value = active.load(std::memory_order_relaxed);
  if (value < 0) {
    value = static_cast<int>(best_isa());
    active.store(value, std::memory_order_relaxed);
  }
  return static_cast<Isa>(value);
}

void set_active_isa(Isa isa) {
  VILG_CHECK(isa_supported(isa), kUnsupported,
             "This machine does not have %s; the best it has is %s", isa_name(isa),
             isa_name(best_isa()));
  active.store(static_cast<int>(isa), std::memory_order_relaxed);
}

}  // namespace vilg::cpu
