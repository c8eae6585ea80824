#pragma once

#include <cstdint>

#include "core/dtype.h"

namespace vilg {

enum class Epilogue : int32_t {
  kNone,
  kGelu,          // c = gelu(x), tanh form; x kept in pre_activation where that is given
  kGeluBackward,  // c = x * gelu'(pre_activation), pre_activation is an input
};

// c = epilogue(alpha * op(a) . op(b) + bias) + residual (+ c when `accumulate`), for each of
// `batch` matrices. pre_activation belongs to the GELU epilogues and is refused without them. op(a)
// is M x K, op(b) is K x N. A linear layer with weights [out, in] has trans_b.
//
// `compute` is the type of the products: kFloat32, or kBFloat16 (operands rounded to bfloat16,
// float32 accumulation). Storage types are independent of it: operands are converted on the way in.
//
// Row invariance: with M <= kSkinnyRows the bits of one row of c do not depend on M or on the other
// rows, so that a candidate's tokens do not depend on how many candidates are drawn with it.
struct MatmulParams {
  void* c = nullptr;               // (batch, M, N), rows ldc apart
  void* pre_activation = nullptr;  // (batch, M, N), rows ldc apart, c_dtype; see Epilogue
  const void* a = nullptr;         // (batch, M, K), or (batch, K, M) when trans_a; rows lda apart
  const void* b = nullptr;         // (batch, K, N), or (batch, N, K) when trans_b; rows ldb apart
  const float* bias = nullptr;     // (N), may be null
  const void* residual =
      nullptr;  // (batch, M, N), rows ldc apart, c_dtype; may be null, may be c itself
  DType a_dtype = DType::kFloat32, b_dtype = DType::kFloat32, c_dtype = DType::kFloat32;
  DType compute = DType::kFloat32;
  int64_t m = 0, n = 0, k = 0;
  int64_t lda = 0, ldb = 0, ldc = 0;  // elements
  int64_t batch = 1;
  int64_t stride_a = 0, stride_b = 0, stride_c = 0;  // elements between the matrices of a batch
  bool trans_a = false, trans_b = false;
  bool accumulate = false;
  float alpha = 1.0f;
  Epilogue epilogue = Epilogue::kNone;
};
inline constexpr int64_t kSkinnyRows = 64;

// dbias[n] += sum over rows of dout
struct BiasBackwardParams {
  float* dbias = nullptr;      // (N)
  const void* dout = nullptr;  // (rows, N)
  DType dtype = DType::kFloat32;
  int64_t rows = 0, n = 0;
};

// out = gelu(x), tanh form. out may be x.
struct GeluForwardParams {
  void* out = nullptr;
  const void* x = nullptr;
  DType dtype = DType::kFloat32;
  int64_t num_elements = 0;
};
// dx = dout * gelu'(x), tanh form (+ dx when `accumulate`). dx may be dout or x.
struct GeluBackwardParams {
  void* dx = nullptr;
  const void* dout = nullptr;
  const void* x = nullptr;
  DType dtype = DType::kFloat32;
  int64_t num_elements = 0;
  bool accumulate = false;
};

// Throw where the parameters do not describe a computation; for every backend.
void validate(const MatmulParams& params);
void validate(const BiasBackwardParams& params);
void validate(const GeluForwardParams& params);
void validate(const GeluBackwardParams& params);

}  // namespace vilg
