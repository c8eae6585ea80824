#include "ref/ref_ops.h"
#include "tests/cuda/cuda_backend.h"
#include "tests/data.h"

namespace vilg::test {
namespace {

// From one element to several blocks, multiples of a vector and not.
constexpr int64_t kSizes[] = {1, 7, 8, 255, 1000, 4099, 70000};

VILG_TEST(cuda_add) {
  for (DType dtype : {kF, kH}) {
    for (int64_t n : kSizes) {
      for (bool with_y : {false, true}) {
        const auto count = static_cast<size_t>(n);
        const Data x(dtype, count, 1), y(dtype, count, 2);
        Output expected(dtype, count), actual(dtype, count);
        AddParams p;
        p.x = x.data(), p.y = with_y ? y.data() : nullptr;
        p.dtype = dtype, p.num_elements = n, p.alpha = 0.75f, p.beta = -1.5f;
        p.out = expected.data();
        ref::add(p, context());
        p.out = actual.data();
        cuda_ops().add(p, context());
        // one rounding to the storage type, and two or three of float32 before it
        const double bound = dtype == kF ? 0x1p-22 : 0x1p-8;
        EXPECT(max_abs_error(actual.values(), expected.values()) <= 3 * bound, "%s n %lld: %g",
               dtype_name(dtype), static_cast<long long>(n),
               max_abs_error(actual.values(), expected.values()));
        EXPECT(actual.intact(), "wrote outside");
      }
    }
  }
}

VILG_TEST(cuda_convert) {
  for (int64_t n : kSizes) {
    const auto count = static_cast<size_t>(n);
    for (DType from : {kF, kH}) {
      for (DType to : {kF, kH}) {
        const Data x(from, count, 3, 100.0f);
        Output expected(to, count), actual(to, count);
        ConvertParams p;
        p.x = x.data(), p.x_dtype = from, p.out_dtype = to, p.num_elements = n;
        p.out = expected.data();
        ref::convert(p, context());
        p.out = actual.data();
        cuda_ops().convert(p, context());
        EXPECT(same_bits(actual.values(), expected.values()), "%s to %s, n %lld", dtype_name(from),
               dtype_name(to), static_cast<long long>(n));
      }
    }
  }
}

}  // namespace
}  // namespace vilg::test
