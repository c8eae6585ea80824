#pragma once

#include <string>
#include <vector>

// Which instruction set the cpu backend runs on, by name ("x86-64-v3"), for those who may not look
// into csrc/cpu. Process-wide.
namespace vilg {

std::vector<std::string> supported_isas();  // of this machine and this build, the best one last
std::string active_isa();
// Throws kUnsupported with what there is. Ops that run at that moment may finish with the old one.
void set_active_isa(const std::string& name);

}  // namespace vilg
