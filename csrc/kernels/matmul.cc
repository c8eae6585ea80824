#include "kernels/matmul.h"

#include "core/error.h"

namespace vilg {
namespace {

long long ll(int64_t value) { return static_cast<long long>(value); }

void check_storage(DType dtype, const char* name) {
  VILG_CHECK(dtype == DType::kFloat32 || dtype == DType::kBFloat16, kUnsupported,
             "Expected float32 or bfloat16 for %s, received %s", name, dtype_name(dtype));
}

void check_pointer(const void* pointer, const char* name) {
  VILG_CHECK(pointer != nullptr, kInvalidArgument,
             "Expected memory for %s, received a null pointer", name);
}

void check_size(int64_t size, const char* name) {
  VILG_CHECK(size > 0, kInvalidArgument, "Expected a positive size for %s, received %lld", name,
             ll(size));
}

void check_row_stride(int64_t stride, int64_t row, const char* name) {
  VILG_CHECK(stride >= row, kInvalidArgument,
             "Expected %s >= %lld, the length of a row, received %lld", name, ll(row), ll(stride));
}

}  // namespace

void validate(const MatmulParams& p) {
  check_pointer(p.c, "c");
  check_pointer(p.a, "a");
  check_pointer(p.b, "b");
  check_storage(p.a_dtype, "a");
  check_storage(p.b_dtype, "b");
  check_storage(p.c_dtype, "c");
  check_storage(p.compute, "the products");
  check_size(p.m, "m");
  check_size(p.n, "n");
  check_size(p.k, "k");
  check_size(p.batch, "batch");
  check_row_stride(p.lda, p.trans_a ? p.m : p.k, "lda");
  check_row_stride(p.ldb, p.trans_b ? p.k : p.n, "ldb");
  check_row_stride(p.ldc, p.n, "ldc");
  if (p.batch > 1) {
    // a and b may be shared by the batch (stride 0); the matrices of c must not overlap
    const int64_t size_c = (p.m - 1) * p.ldc + p.n;
    VILG_CHECK(p.stride_a >= 0 && p.stride_b >= 0 && p.stride_c >= size_c, kInvalidArgument,
               "Expected stride_a >= 0, stride_b >= 0 and stride_c >= %lld for a batch of %lld, "
               "received %lld, %lld and %lld",
               ll(size_c), ll(p.batch), ll(p.stride_a), ll(p.stride_b), ll(p.stride_c));
  }
  switch (p.epilogue) {
    case Epilogue::kNone:
      VILG_CHECK(p.pre_activation == nullptr, kInvalidArgument,
                 "Expected no pre_activation without a GELU epilogue");
      break;
    case Epilogue::kGelu:
      VILG_CHECK(p.pre_activation != p.c, kInvalidArgument,
                 "Expected pre_activation and c to be different memory");
      break;
    case Epilogue::kGeluBackward:
      check_pointer(p.pre_activation, "pre_activation");
      break;
    default:
      VILG_FAIL(kUnsupported, "Expected a known epilogue, received %d",
                static_cast<int>(p.epilogue));
  }
}

void validate(const BiasBackwardParams& p) {
  check_pointer(p.dbias, "dbias");
  check_pointer(p.dout, "dout");
  check_storage(p.dtype, "dout");
  check_size(p.rows, "rows");
  check_size(p.n, "n");
}

void validate(const GeluForwardParams& p) {
  check_pointer(p.out, "out");
  check_pointer(p.x, "x");
  check_storage(p.dtype, "x");
  check_size(p.num_elements, "num_elements");
}

void validate(const GeluBackwardParams& p) {
  check_pointer(p.dx, "dx");
  check_pointer(p.dout, "dout");
  check_pointer(p.x, "x");
  check_storage(p.dtype, "x");
  check_size(p.num_elements, "num_elements");
}

}  // namespace vilg
