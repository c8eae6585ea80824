#include "kernels/attention.h"

#include "core/error.h"

namespace vilg {
namespace {

long long ll(int64_t value) { return static_cast<long long>(value); }

void check_pointer(const void* pointer, const char* name) {
  VILG_CHECK(pointer != nullptr, kInvalidArgument, "Expected memory for %s, received null", name);
}

void check_dtype(DType dtype, const char* name) {
  VILG_CHECK(dtype == DType::kFloat32 || dtype == DType::kBFloat16, kUnsupported,
             "Expected %s float32 or bfloat16, received %s", name, dtype_name(dtype));
}

void check_positive(int64_t value, const char* name) {
  VILG_CHECK(value > 0, kShapeMismatch, "Expected a positive %s, received %lld", name, ll(value));
}

// Tokens and heads must not overlap, in whatever order they lie.
void check_strides(const AttentionStrides& strides, const char* name, int64_t batch, int64_t length,
                   int64_t heads, int64_t head_size) {
  VILG_CHECK((length == 1 || strides.token >= head_size) &&
                 (heads == 1 || strides.head >= head_size) &&
                 (batch == 1 || strides.batch >= head_size),
             kShapeMismatch,
             "Expected strides of %s of at least the head size %lld, received batch %lld, token "
             "%lld, head %lld",
             name, ll(head_size), ll(strides.batch), ll(strides.token), ll(strides.head));
}

void check_common(const AttentionParams& p, const void* out) {
  check_pointer(p.q, "q");
  check_pointer(p.k, "k");
  check_pointer(p.v, "v");
  check_pointer(out, "out");
  check_dtype(p.dtype, "dtype");
  check_dtype(p.compute, "compute");
  check_positive(p.batch, "batch");
  check_positive(p.heads, "number of heads");
  check_positive(p.head_size, "head size");
  check_positive(p.sizes.text_length, "text length");
  check_positive(p.sizes.grid, "grid");
  VILG_CHECK(p.sizes.grid <= 1024 && p.sizes.text_length <= (1 << 20), kShapeMismatch,
             "Expected a grid up to 1024 and a text length up to 1048576, received %lld and %lld",
             ll(p.sizes.grid), ll(p.sizes.text_length));
  VILG_CHECK(p.sizes.kernel > 0 && p.sizes.kernel % 2 == 1, kShapeMismatch,
             "Expected an odd positive kernel, received %lld", ll(p.sizes.kernel));
  VILG_CHECK(p.pattern == Pattern::kRow || p.pattern == Pattern::kColumn ||
                 p.pattern == Pattern::kConv || p.pattern == Pattern::kFull,
             kInvalidArgument, "Expected a pattern from 0 to 3, received %d",
             static_cast<int>(p.pattern));
  VILG_CHECK(p.direction == Direction::kTextToImage || p.direction == Direction::kImageToText,
             kInvalidArgument, "Expected a direction 0 or 1, received %d",
             static_cast<int>(p.direction));
  const int64_t length = p.sizes.stream_length();
  check_strides(p.qkv_strides, "q, k, v", p.batch, length, p.heads, p.head_size);
  check_strides(p.out_strides, "out", p.batch, length, p.heads, p.head_size);
}

}  // namespace

void validate(const AttentionForwardParams& p) { check_common(p, p.out); }

void validate(const AttentionBackwardParams& p) {
  check_common(p, p.out);
  check_pointer(p.dq, "dq");
  check_pointer(p.dk, "dk");
  check_pointer(p.dv, "dv");
  check_pointer(p.dout, "dout");
  check_pointer(p.lse, "lse");
}

void validate(const AttentionDecodeParams& p) {
  check_pointer(p.out, "out");
  check_pointer(p.q, "q");
  check_dtype(p.cache_dtype, "cache_dtype");
  check_positive(p.rows, "number of rows");
  check_positive(p.heads, "number of heads");
  check_positive(p.head_size, "head size");
  const int64_t width = p.heads * p.head_size;
  VILG_CHECK(p.rows == 1 || (p.q_stride >= width && p.out_stride >= width), kShapeMismatch,
             "Expected row strides of at least heads * head size = %lld, received q %lld, out %lld",
             ll(width), ll(p.q_stride), ll(p.out_stride));
  VILG_CHECK(p.prefix_length >= 0 && p.num_slots >= 0 && p.prefix_length + p.num_slots > 0,
             kShapeMismatch, "Expected at least one key, received a prefix of %lld and %lld slots",
             ll(p.prefix_length), ll(p.num_slots));
  if (p.prefix_length > 0) {
    check_pointer(p.prefix_k, "prefix_k");
    check_pointer(p.prefix_v, "prefix_v");
    VILG_CHECK(p.prefix_capacity >= p.prefix_length, kShapeMismatch,
               "Expected a prefix of at most %lld keys, received %lld", ll(p.prefix_capacity),
               ll(p.prefix_length));
  }
  if (p.num_slots > 0) {
    check_pointer(p.own_k, "own_k");
    check_pointer(p.own_v, "own_v");
    check_pointer(p.slots, "slots");
  }
}

AttentionDecodeParams resolved(const AttentionDecodeParams& params) {
  validate(params);
  AttentionDecodeParams p = params;
  if (p.slot_count) {
    VILG_CHECK(*p.slot_count >= 0 && *p.slot_count <= p.num_slots, kShapeMismatch,
               "Expected a slot count from 0 to %lld, received %d", ll(p.num_slots), *p.slot_count);
    p.num_slots = *p.slot_count;
    p.slot_count = nullptr;
    validate(p);
  }
  for (int64_t i = 0; i < p.num_slots; ++i) {
    VILG_CHECK(p.slots[i] >= 0 && p.slots[i] < p.own_capacity, kShapeMismatch,
               "Expected slots from 0 to %lld, received %d", ll(p.own_capacity - 1), p.slots[i]);
  }
  return p;
}

}  // namespace vilg
