#include "tests/fixtures.h"

namespace vilg::test {

std::vector<Backend*> backends() { return {&ref_backend(), &cpu_backend()}; }

}  // namespace vilg::test
