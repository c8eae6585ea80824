#pragma once

namespace vilg::cpu {

// The instruction sets that the kernels of csrc/cpu/simd are compiled for.
enum class Isa { kV2, kV3, kV4, kV4Bf16, kNeon };

const char* isa_name(Isa isa);  // "x86-64-v3" and so on
bool isa_supported(Isa isa);    // by this machine and this build
Isa best_isa();

// The one in use: best_isa() until set. set_active_isa throws kUnsupported where the machine lacks
// it; ops that run at that moment may finish with the old one.
Isa active_isa();
void set_active_isa(Isa isa);

}  // namespace vilg::cpu
