// What memory an op's parameters point to: fields(params, visit) calls visit(pointer, bytes) for
// every pointer that may be given. Gaps between rows belong to it, so that writing into them is
// seen.
#pragma once

#include <algorithm>
#include <cstddef>

#include "kernels/op_table.h"

namespace vilg::test {

constexpr size_t bytes(int64_t count, DType dtype) {
  return static_cast<size_t>(count) * dtype_size(dtype);
}
constexpr DType kF32Type = DType::kFloat32, kI32Type = DType::kInt32, kU8Type = DType::kUInt8;

// Elements from the first to the last of a matrix with gaps between its rows.
constexpr int64_t extent(int64_t rows, int64_t columns, int64_t stride) {
  return (rows - 1) * stride + columns;
}

template <typename V>
void fields(MatmulParams& p, V&& visit) {
  const auto batched = [&](int64_t rows, int64_t columns, int64_t ld, int64_t stride) {
    return (p.batch - 1) * stride + extent(rows, columns, ld);
  };
  const int64_t c = batched(p.m, p.n, p.ldc, p.stride_c);
  visit(p.c, bytes(c, p.c_dtype));
  visit(p.pre_activation, bytes(c, p.c_dtype));
  visit(p.a, bytes(p.trans_a ? batched(p.k, p.m, p.lda, p.stride_a)
                             : batched(p.m, p.k, p.lda, p.stride_a),
                   p.a_dtype));
  visit(p.b, bytes(p.trans_b ? batched(p.n, p.k, p.ldb, p.stride_b)
                             : batched(p.k, p.n, p.ldb, p.stride_b),
                   p.b_dtype));
  visit(p.bias, bytes(p.n, kF32Type));
  visit(p.residual, bytes(c, p.c_dtype));
}
template <typename V>
void fields(BiasBackwardParams& p, V&& visit) {
  visit(p.dbias, bytes(p.n, kF32Type));
  visit(p.dout, bytes(p.rows * p.n, p.dtype));
}
template <typename V>
void fields(GeluForwardParams& p, V&& visit) {
  visit(p.out, bytes(p.num_elements, p.dtype));
  visit(p.x, bytes(p.num_elements, p.dtype));
}
template <typename V>
void fields(GeluBackwardParams& p, V&& visit) {
  visit(p.dx, bytes(p.num_elements, p.dtype));
  visit(p.dout, bytes(p.num_elements, p.dtype));
  visit(p.x, bytes(p.num_elements, p.dtype));
}

template <typename P>
int64_t attention_extent(const P& p, const AttentionStrides& s) {
  return (p.batch - 1) * s.batch + (p.sizes.stream_length() - 1) * s.token +
         (p.heads - 1) * s.head + p.head_size;
}
template <typename V>
void fields(AttentionForwardParams& p, V&& visit) {
  const size_t in = bytes(attention_extent(p, p.qkv_strides), p.dtype);
  visit(p.out, bytes(attention_extent(p, p.out_strides), p.dtype));
  visit(p.lse, bytes(p.batch * p.heads * p.sizes.stream_length(), kF32Type));
  visit(p.q, in);
  visit(p.k, in);
  visit(p.v, in);
  visit(p.text_valid, bytes(p.batch * p.sizes.text_length, kU8Type));
}
template <typename V>
void fields(AttentionBackwardParams& p, V&& visit) {
  const size_t in = bytes(attention_extent(p, p.qkv_strides), p.dtype);
  const size_t out = bytes(attention_extent(p, p.out_strides), p.dtype);
  visit(p.dq, in);
  visit(p.dk, in);
  visit(p.dv, in);
  visit(p.dout, out);
  visit(p.out, out);
  visit(p.lse, bytes(p.batch * p.heads * p.sizes.stream_length(), kF32Type));
  visit(p.q, in);
  visit(p.k, in);
  visit(p.v, in);
  visit(p.text_valid, bytes(p.batch * p.sizes.text_length, kU8Type));
}
template <typename V>
void fields(AttentionDecodeParams& p, V&& visit) {
  const int64_t width = p.heads * p.head_size;
  visit(p.out, bytes(extent(p.rows, width, p.out_stride), kF32Type));
  visit(p.q, bytes(extent(p.rows, width, p.q_stride), kF32Type));
  visit(p.prefix_k, bytes(p.heads * p.prefix_capacity * p.head_size, p.cache_dtype));
  visit(p.prefix_v, bytes(p.heads * p.prefix_capacity * p.head_size, p.cache_dtype));
  visit(p.own_k, bytes(p.rows * p.heads * p.own_capacity * p.head_size, p.cache_dtype));
  visit(p.own_v, bytes(p.rows * p.heads * p.own_capacity * p.head_size, p.cache_dtype));
  visit(p.slots, bytes(p.num_slots, kI32Type));
  visit(p.slot_count, sizeof(int32_t));
}
template <typename V>
void fields(CacheWriteParams& p, V&& visit) {
  const int64_t rows = (p.tokens - 1) * p.row_step + 1, width = p.heads * p.head_size;
  visit(p.k_cache, bytes(rows * width * p.capacity, p.cache_dtype));
  visit(p.v_cache, bytes(rows * width * p.capacity, p.cache_dtype));
  visit(p.k, bytes(extent(p.tokens, width, p.token_stride), kF32Type));
  visit(p.v, bytes(extent(p.tokens, width, p.token_stride), kF32Type));
  visit(p.slot, sizeof(int32_t));
}

template <typename V>
void fields(LayerNormForwardParams& p, V&& visit) {
  visit(p.out, bytes(p.rows * p.channels, p.dtype));
  visit(p.mean, bytes(p.rows, kF32Type));
  visit(p.rstd, bytes(p.rows, kF32Type));
  visit(p.x, bytes(p.rows * p.channels, p.dtype));
  visit(p.gamma, bytes(p.channels, kF32Type));
  visit(p.beta, bytes(p.channels, kF32Type));
}
template <typename V>
void fields(LayerNormBackwardParams& p, V&& visit) {
  visit(p.dx, bytes(p.rows * p.channels, p.dtype));
  visit(p.dgamma, bytes(p.channels, kF32Type));
  visit(p.dbeta, bytes(p.channels, kF32Type));
  visit(p.dout, bytes(p.rows * p.channels, p.dtype));
  visit(p.x, bytes(p.rows * p.channels, p.dtype));
  visit(p.gamma, bytes(p.channels, kF32Type));
  visit(p.mean, bytes(p.rows, kF32Type));
  visit(p.rstd, bytes(p.rows, kF32Type));
}
template <typename V>
void fields(GroupNormForwardParams& p, V&& visit) {
  const size_t picture = bytes(p.batch * p.pixels * p.channels, p.dtype);
  visit(p.out, picture);
  visit(p.mean, bytes(p.batch * p.groups, kF32Type));
  visit(p.rstd, bytes(p.batch * p.groups, kF32Type));
  visit(p.x, picture);
  visit(p.gamma, bytes(p.channels, kF32Type));
  visit(p.beta, bytes(p.channels, kF32Type));
}
template <typename V>
void fields(GroupNormBackwardParams& p, V&& visit) {
  const size_t picture = bytes(p.batch * p.pixels * p.channels, p.dtype);
  visit(p.dx, picture);
  visit(p.dgamma, bytes(p.channels, kF32Type));
  visit(p.dbeta, bytes(p.channels, kF32Type));
  visit(p.dout, picture);
  visit(p.x, picture);
  visit(p.gamma, bytes(p.channels, kF32Type));
  visit(p.beta, bytes(p.channels, kF32Type));
  visit(p.mean, bytes(p.batch * p.groups, kF32Type));
  visit(p.rstd, bytes(p.batch * p.groups, kF32Type));
}
template <typename V>
void fields(SoftmaxForwardParams& p, V&& visit) {
  visit(p.out, bytes(p.rows * p.n, kF32Type));
  visit(p.x, bytes(p.rows * p.n, kF32Type));
}
template <typename V>
void fields(SoftmaxBackwardParams& p, V&& visit) {
  visit(p.dx, bytes(p.rows * p.n, kF32Type));
  visit(p.dout, bytes(p.rows * p.n, kF32Type));
  visit(p.out, bytes(p.rows * p.n, kF32Type));
}

template <typename V>
void fields(Conv2dForwardParams& p, V&& visit) {
  const size_t out = bytes(p.batch * p.out_height() * p.out_width() * p.out_channels, p.dtype);
  visit(p.out, out);
  visit(p.x, bytes(p.batch * p.height * p.width * p.in_channels, p.dtype));
  visit(p.weight, bytes(p.out_channels * p.kernel_y * p.kernel_x * p.in_channels, p.weight_dtype));
  visit(p.bias, bytes(p.out_channels, kF32Type));
  visit(p.residual, out);
  visit(p.norm_mean, bytes(p.batch * p.norm_groups, kF32Type));
  visit(p.norm_rstd, bytes(p.batch * p.norm_groups, kF32Type));
  visit(p.norm_gamma, bytes(p.in_channels, kF32Type));
  visit(p.norm_beta, bytes(p.in_channels, kF32Type));
}
template <typename V>
void fields(Conv2dBackwardParams& p, V&& visit) {
  const int64_t weights = p.out_channels * p.kernel_y * p.kernel_x * p.in_channels;
  const size_t in = bytes(p.batch * p.height * p.width * p.in_channels, p.dtype);
  visit(p.dx, in);
  visit(p.dweight, bytes(weights, kF32Type));
  visit(p.dbias, bytes(p.out_channels, kF32Type));
  visit(p.dout, bytes(p.batch * p.out_height() * p.out_width() * p.out_channels, p.dtype));
  visit(p.x, in);
  visit(p.weight, bytes(weights, p.weight_dtype));
}
template <typename V>
void fields(UpsampleForwardParams& p, V&& visit) {
  const int64_t count = p.batch * p.height * p.width * p.channels;
  visit(p.out, bytes(4 * count, p.dtype));
  visit(p.x, bytes(count, p.dtype));
}
template <typename V>
void fields(UpsampleBackwardParams& p, V&& visit) {
  const int64_t count = p.batch * p.height * p.width * p.channels;
  visit(p.dx, bytes(count, p.dtype));
  visit(p.dout, bytes(4 * count, p.dtype));
}
template <typename V>
void fields(TransposeParams& p, V&& visit) {
  visit(p.out, bytes(p.batch * p.rows * p.columns, p.out_dtype));
  visit(p.x, bytes(p.batch * p.rows * p.columns, p.x_dtype));
}

template <typename V>
void fields(CodebookLookupParams& p, V&& visit) {
  visit(p.indices, bytes(p.rows, kI32Type));
  visit(p.distances, bytes(p.rows, kF32Type));
  visit(p.vectors, bytes(p.rows * p.dim, kF32Type));
  visit(p.codebook, bytes(p.size * p.dim, kF32Type));
}
template <typename V>
void fields(ArgmaxParams& p, V&& visit) {
  visit(p.indices, bytes(p.rows, kI32Type));
  visit(p.values, bytes(p.rows * p.n, kF32Type));
}
template <typename V>
void fields(GatherParams& p, V&& visit) {
  visit(p.out, bytes(p.rows * p.dim, kF32Type));
  visit(p.table, bytes(p.size * p.dim, p.table_dtype));
  visit(p.indices, bytes(p.rows, kI32Type));
  const int64_t offset_rows = p.offset_row ? *p.offset_row + 1 : 1;
  visit(p.offset, bytes(offset_rows * p.dim, kF32Type));
  visit(p.offset_row, sizeof(int32_t));
}
template <typename V>
void fields(ScatterAddParams& p, V&& visit) {
  visit(p.dtable, bytes(p.size * p.dim, kF32Type));
  visit(p.dout, bytes(p.rows * p.dim, kF32Type));
  visit(p.indices, bytes(p.rows, kI32Type));
}
template <typename V>
void fields(StreamEmbeddingForwardParams& p, V&& visit) {
  const int64_t C = p.channels, G = p.sizes.grid;
  visit(p.out, bytes(p.batch * p.sizes.stream_length() * C, p.dtype));
  visit(p.text, bytes(p.batch * p.sizes.text_length, kI32Type));
  visit(p.image, bytes(p.batch * p.sizes.image_length(), kI32Type));
  visit(p.text_embedding, bytes(p.text_vocab * C, p.table_dtype));
  visit(p.image_embedding, bytes(p.image_vocab * C, p.table_dtype));
  visit(p.image_start, bytes(C, kF32Type));
  visit(p.text_position, bytes(p.sizes.text_length * C, p.table_dtype));
  visit(p.row_position, bytes(G * C, p.table_dtype));
  visit(p.column_position, bytes(G * C, p.table_dtype));
  visit(p.modality, bytes(2 * C, p.table_dtype));
}
template <typename V>
void fields(StreamEmbeddingBackwardParams& p, V&& visit) {
  const int64_t C = p.channels, G = p.sizes.grid;
  visit(p.dtext_embedding, bytes(p.text_vocab * C, kF32Type));
  visit(p.dimage_embedding, bytes(p.image_vocab * C, kF32Type));
  visit(p.dimage_start, bytes(C, kF32Type));
  visit(p.dtext_position, bytes(p.sizes.text_length * C, kF32Type));
  visit(p.drow_position, bytes(G * C, kF32Type));
  visit(p.dcolumn_position, bytes(G * C, kF32Type));
  visit(p.dmodality, bytes(2 * C, kF32Type));
  visit(p.dout, bytes(p.batch * p.sizes.stream_length() * C, p.dtype));
  visit(p.text, bytes(p.batch * p.sizes.text_length, kI32Type));
  visit(p.image, bytes(p.batch * p.sizes.image_length(), kI32Type));
}

template <typename V>
void fields(CrossEntropyParams& p, V&& visit) {
  visit(p.loss, bytes(p.rows, kF32Type));
  visit(p.dlogits, bytes(p.rows * p.vocab, kF32Type));
  visit(p.logits, bytes(p.rows * p.vocab, kF32Type));
  visit(p.targets, bytes(p.rows, kI32Type));
}
template <typename V>
void fields(SquaredErrorParams& p, V&& visit) {
  visit(p.sum, sizeof(double));
  visit(p.dx, bytes(p.num_elements, kF32Type));
  visit(p.x, bytes(p.num_elements, kF32Type));
  visit(p.y, bytes(p.num_elements, kF32Type));
}
template <typename V>
void fields(AbsoluteErrorParams& p, V&& visit) {
  visit(p.sum, sizeof(double));
  visit(p.dx, bytes(p.num_elements, kF32Type));
  visit(p.x, bytes(p.num_elements, kF32Type));
  visit(p.y, bytes(p.num_elements, kF32Type));
}
template <typename V>
void fields(LeakyReluForwardParams& p, V&& visit) {
  visit(p.out, bytes(p.num_elements, kF32Type));
  visit(p.x, bytes(p.num_elements, kF32Type));
}
template <typename V>
void fields(LeakyReluBackwardParams& p, V&& visit) {
  visit(p.dx, bytes(p.num_elements, kF32Type));
  visit(p.dout, bytes(p.num_elements, kF32Type));
  visit(p.out, bytes(p.num_elements, kF32Type));
}
template <typename V>
void fields(MaxPoolForwardParams& p, V&& visit) {
  visit(p.out, bytes(p.batch * (p.height / 2) * (p.width / 2) * p.channels, kF32Type));
  visit(p.x, bytes(p.batch * p.height * p.width * p.channels, kF32Type));
}
template <typename V>
void fields(MaxPoolBackwardParams& p, V&& visit) {
  visit(p.dx, bytes(p.batch * p.height * p.width * p.channels, kF32Type));
  visit(p.dout, bytes(p.batch * (p.height / 2) * (p.width / 2) * p.channels, kF32Type));
  visit(p.x, bytes(p.batch * p.height * p.width * p.channels, kF32Type));
}
template <typename V>
void fields(GumbelNoiseParams& p, V&& visit) {
  visit(p.out, bytes(p.rows * p.n, kF32Type));
  visit(p.x, bytes(p.rows * p.n, kF32Type));
}
template <typename V>
void fields(UniformDivergenceParams& p, V&& visit) {
  visit(p.divergence, bytes(p.rows, kF32Type));
  visit(p.dlogits, bytes(p.rows * p.vocab, kF32Type));
  visit(p.logits, bytes(p.rows * p.vocab, kF32Type));
}
template <typename V>
void fields(LogitLaplaceParams& p, V&& visit) {
  visit(p.sum, sizeof(double));
  visit(p.dstats, bytes(p.pixels * p.channels * 2, kF32Type));
  visit(p.stats, bytes(p.pixels * p.channels * 2, kF32Type));
  visit(p.targets, bytes(p.pixels * p.channels, kF32Type));
}
template <typename V>
void fields(FeatureDistanceParams& p, V&& visit) {
  visit(p.sum, sizeof(double));
  visit(p.dx, bytes(p.rows * p.channels, kF32Type));
  visit(p.x, bytes(p.rows * p.channels, kF32Type));
  visit(p.y, bytes(p.rows * p.channels, kF32Type));
  visit(p.weights, bytes(p.channels, kF32Type));
}
template <typename V>
void fields(AdamWParams& p, V&& visit) {
  visit(p.parameter, bytes(p.num_elements, kF32Type));
  visit(p.low_precision, bytes(p.num_elements, DType::kBFloat16));
  visit(p.m, bytes(p.num_elements, kF32Type));
  visit(p.v, bytes(p.num_elements, kF32Type));
  visit(p.grad, bytes(p.num_elements, kF32Type));
}
template <typename V>
void fields(SquaredNormParams& p, V&& visit) {
  visit(p.sum, sizeof(double));
  visit(p.x, bytes(p.num_elements, kF32Type));
}
template <typename V>
void fields(AddParams& p, V&& visit) {
  visit(p.out, bytes(p.num_elements, p.dtype));
  visit(p.x, bytes(p.num_elements, p.dtype));
  visit(p.y, bytes(p.num_elements, p.dtype));
}
template <typename V>
void fields(ConvertParams& p, V&& visit) {
  visit(p.out, bytes(p.num_elements, p.out_dtype));
  visit(p.x, bytes(p.num_elements, p.x_dtype));
}
template <typename V>
void fields(DrawParams& p, V&& visit) {
  visit(p.tokens, bytes(p.rows, kI32Type));
  visit(p.log_probabilities, bytes(p.rows, kF32Type));
  visit(p.logits, bytes(extent(p.rows, p.vocab, p.logits_stride), kF32Type));
  visit(p.streams, bytes(p.rows, kI32Type));
  visit(p.step, sizeof(int32_t));
}

}  // namespace vilg::test
