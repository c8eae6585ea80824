#include "core/error.h"
#include "cpu/isa.h"
#include "kernels/cpu_isa.h"

namespace vilg {
namespace {
constexpr cpu::Isa kWeakestFirst[] = {cpu::Isa::kV2, cpu::Isa::kV3, cpu::Isa::kV4,
                                      cpu::Isa::kV4Bf16, cpu::Isa::kNeon};
}

std::vector<std::string> supported_isas() {
  std::vector<std::string> names;
  for (const cpu::Isa isa : kWeakestFirst) {
    if (cpu::isa_supported(isa)) names.emplace_back(cpu::isa_name(isa));
  }
  return names;
}

std::string active_isa() { return cpu::isa_name(cpu::active_isa()); }

void set_active_isa(const std::string& name) {
  std::string known;
  for (const cpu::Isa isa : kWeakestFirst) {
    if (name == cpu::isa_name(isa)) return cpu::set_active_isa(isa);
    if (cpu::isa_supported(isa)) {
      known += (known.empty() ? "" : ", ") + std::string(cpu::isa_name(isa));
    }
  }
  VILG_FAIL(kUnsupported, "Expected an instruction set of this machine (%s), received \"%s\"",
            known.c_str(), name.c_str());
}

}  // namespace vilg
