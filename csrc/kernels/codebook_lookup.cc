#include "kernels/checks.h"
#include "kernels/codebook.h"

namespace vilg {
namespace {

// indices are int32, and so is what may be counted
void check_size(int64_t value, int64_t largest, const char* op, const char* name) {
  VILG_CHECK(value >= 1 && value <= largest, kShapeMismatch,
             "Expected a %s from 1 to %lld for %s, received %lld", name,
             static_cast<long long>(largest), op, static_cast<long long>(value));
}

}  // namespace

void validate(const CodebookLookupParams& p) {
  const char* op = "codebook_lookup";
  check_pointer(op, "indices", p.indices);
  check_pointer(op, "vectors", p.vectors);
  check_pointer(op, "codebook", p.codebook);
  check_size(p.rows, INT64_MAX, op, "rows");
  check_size(p.size, INT32_MAX, op, "size");
  check_size(p.dim, INT64_MAX, op, "dim");
}

void validate(const ArgmaxParams& p) {
  const char* op = "argmax";
  check_pointer(op, "indices", p.indices);
  check_pointer(op, "values", p.values);
  check_size(p.rows, INT64_MAX, op, "rows");
  check_size(p.n, INT32_MAX, op, "n");
}

}  // namespace vilg
