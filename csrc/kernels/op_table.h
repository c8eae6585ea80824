#pragma once

#include "kernels/absolute_error.h"
#include "kernels/activation.h"
#include "kernels/attention.h"
#include "kernels/codebook.h"
#include "kernels/context.h"
#include "kernels/convolution.h"
#include "kernels/draw.h"
#include "kernels/elementwise.h"
#include "kernels/embedding.h"
#include "kernels/gumbel.h"
#include "kernels/image_losses.h"
#include "kernels/loss.h"
#include "kernels/matmul.h"
#include "kernels/normalization.h"
#include "kernels/optimizer.h"
#include "kernels/pooling.h"

// Every op: VILG_OP(name, parameters). The table below, its check for holes and the tests' loops
// are made from this list.
#define VILG_OPS(VILG_OP)                                           \
  VILG_OP(matmul, MatmulParams)                                     \
  VILG_OP(bias_backward, BiasBackwardParams)                        \
  VILG_OP(gelu_forward, GeluForwardParams)                          \
  VILG_OP(gelu_backward, GeluBackwardParams)                        \
  VILG_OP(attention_forward, AttentionForwardParams)                \
  VILG_OP(attention_backward, AttentionBackwardParams)              \
  VILG_OP(attention_decode, AttentionDecodeParams)                  \
  VILG_OP(cache_write, CacheWriteParams)                            \
  VILG_OP(layer_norm_forward, LayerNormForwardParams)               \
  VILG_OP(layer_norm_backward, LayerNormBackwardParams)             \
  VILG_OP(group_norm_forward, GroupNormForwardParams)               \
  VILG_OP(group_norm_backward, GroupNormBackwardParams)             \
  VILG_OP(softmax_forward, SoftmaxForwardParams)                    \
  VILG_OP(softmax_backward, SoftmaxBackwardParams)                  \
  VILG_OP(conv2d_forward, Conv2dForwardParams)                      \
  VILG_OP(conv2d_backward, Conv2dBackwardParams)                    \
  VILG_OP(upsample_forward, UpsampleForwardParams)                  \
  VILG_OP(upsample_backward, UpsampleBackwardParams)                \
  VILG_OP(transpose, TransposeParams)                               \
  VILG_OP(codebook_lookup, CodebookLookupParams)                    \
  VILG_OP(argmax, ArgmaxParams)                                     \
  VILG_OP(gather, GatherParams)                                     \
  VILG_OP(scatter_add, ScatterAddParams)                            \
  VILG_OP(stream_embedding_forward, StreamEmbeddingForwardParams)   \
  VILG_OP(stream_embedding_backward, StreamEmbeddingBackwardParams) \
  VILG_OP(cross_entropy, CrossEntropyParams)                        \
  VILG_OP(squared_error, SquaredErrorParams)                        \
  VILG_OP(absolute_error, AbsoluteErrorParams)                      \
  VILG_OP(adamw, AdamWParams)                                       \
  VILG_OP(squared_norm, SquaredNormParams)                          \
  VILG_OP(add, AddParams)                                           \
  VILG_OP(convert, ConvertParams)                                   \
  VILG_OP(draw, DrawParams)                                         \
  VILG_OP(leaky_relu_forward, LeakyReluForwardParams)               \
  VILG_OP(leaky_relu_backward, LeakyReluBackwardParams)             \
  VILG_OP(max_pool_forward, MaxPoolForwardParams)                   \
  VILG_OP(max_pool_backward, MaxPoolBackwardParams)                 \
  VILG_OP(gumbel_noise, GumbelNoiseParams)                          \
  VILG_OP(uniform_divergence, UniformDivergenceParams)              \
  VILG_OP(logit_laplace, LogitLaplaceParams)                        \
  VILG_OP(feature_distance, FeatureDistanceParams)

namespace vilg {

// A backend is this table. Ops validate their parameters (VILG_CHECK) and throw; they never print,
// abort or allocate outside the context's allocator.
struct OpTable {
  const char* name = nullptr;
#define VILG_OP(op, Params) void (*op)(const Params&, OpContext&) = nullptr;
  VILG_OPS(VILG_OP)
#undef VILG_OP
};

const OpTable& ref_ops();  // scalar, double accumulation: the oracle
const OpTable& cpu_ops();  // SIMD, chosen for this machine at first use

// Throws kInternal naming the first op that the table lacks.
void check_op_table(const OpTable& table);

}  // namespace vilg
