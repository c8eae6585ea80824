// attention_forward on tensor cores. A warp has 32 queries that are neighbours in the pattern's
// order (a row or column of a picture 32 tokens wide) and goes through tiles of 32 keys; tiles that
// none of them sees are left out. The four warps of a block share what they read: the text once,
// and of the image 5 tiles for 4 rows, 4 for 4 columns, 9 for conv.
//
// Keys and values come in chunks of 128, the next one under way while one is worked on: 64 KB of
// shared memory, so that three blocks fit on a multiprocessor of sm_90, as do their registers. For
// T = 127 and 32 x 32 tokens a query sees 6 tiles in a row layer, 5 in a column layer, 10 in a
// conv layer: 1.19, 1.11 and 1.7 times the pairs that the pattern has.
#include "cuda/attention_plain.h"
#include "cuda/attention_tile.h"
#include "cuda/cuda_ops.h"
#include "cuda/launch.h"

namespace vilg::cuda {
namespace {

// The running softmax of a warp's queries over the keys so far, and their weighted values.
template <int kWidth>
struct Accumulator {
  static constexpr int kFragments = AttentionShape<kWidth>::kFragments, kSteps = kWidth / 16;
  uint32_t q[kFragments][kSteps][4];
  float out[kFragments][2 * kSteps][4];
  float largest[2 * kFragments], sum[2 * kFragments];  // before the scale; of this lane's keys

  // Bit i of `seen`: whether the query that has the lane's number sees key i of the tile. `scale`
  // is positive, and for base 2.
  __device__ __forceinline__ void add(const SharedRows<kWidth>& keys,
                                      const SharedRows<kWidth>& values, uint32_t seen,
                                      float scale) {
    float s[kFragments][4][4] = {};
#pragma unroll
    for (int n = 0; n < 4; n += 2) {
#pragma unroll
      for (int step = 0; step < kSteps; ++step) {
        uint32_t b[4];
        keys.right(b, 8 * n, step);
#pragma unroll
        for (int m = 0; m < kFragments; ++m) {
          multiply_bf16(s[m][n], q[m][step], b[0], b[1]);
          multiply_bf16(s[m][n + 1], q[m][step], b[2], b[3]);
        }
      }
    }
    const auto lane = static_cast<int>(thread_number_again() % kLanes);
    if (ballot(seen == ~0u || lane >= 16 * kFragments) != ~0u) {
#pragma unroll
      for (int i = 0; i < 2 * kFragments; ++i) {
        const uint32_t word = shuffle(seen, lane / 4 + 8 * i) >> (lane % 4 * 2);
#pragma unroll
        for (int n = 0; n < 4; ++n) {
          float* scores = &s[i / 2][n][2 * (i % 2)];
          if (!(word >> (8 * n) & 1u)) scores[0] = -INFINITY;
          if (!(word >> (8 * n) & 2u)) scores[1] = -INFINITY;
        }
      }
    }
    uint32_t weights[2][kFragments][4];  // of 16 keys each, as the left operand
#pragma unroll
    for (int i = 0; i < 2 * kFragments; ++i) {
      float new_largest = largest[i];
#pragma unroll
      for (int n = 0; n < 4; ++n) {
        const float* scores = &s[i / 2][n][2 * (i % 2)];
        new_largest = fmaxf(new_largest, fmaxf(scores[0], scores[1]));
      }
      new_largest = quad_max(new_largest);
      // -infinity until the query has seen a key
      const float base = new_largest == -INFINITY ? 0.0f : new_largest * scale;
      if (ballot(new_largest != largest[i]) != 0) {
        const float factor = exp2_fast(fmaf(largest[i], scale, -base));
        largest[i] = new_largest;
        sum[i] *= factor;
#pragma unroll
        for (int n = 0; n < 2 * kSteps; ++n) {
          out[i / 2][n][2 * (i % 2)] *= factor;
          out[i / 2][n][2 * (i % 2) + 1] *= factor;
        }
      }
#pragma unroll
      for (int n = 0; n < 4; ++n) {
        const float* scores = &s[i / 2][n][2 * (i % 2)];
        const float x = exp2_fast(fmaf(scores[0], scale, -base));
        const float y = exp2_fast(fmaf(scores[1], scale, -base));
        sum[i] += x + y;
        weights[n / 2][i / 2][i % 2 + n % 2 * 2] = pack_bf16(x, y);
      }
    }
#pragma unroll
    for (int half = 0; half < 2; ++half) {
#pragma unroll
      for (int step = 0; step < kSteps; ++step) {
        uint32_t b[4];
        values.right_transposed(b, 16 * half, step);
#pragma unroll
        for (int m = 0; m < kFragments; ++m) {
          multiply_bf16(out[m][2 * step], weights[half][m], b[0], b[1]);
          multiply_bf16(out[m][2 * step + 1], weights[half][m], b[2], b[3]);
        }
      }
    }
  }
};

template <int kFragments, int kSteps>
__device__ __forceinline__ void negate(uint32_t (&x)[kFragments][kSteps][4]) {
#pragma unroll
  for (auto& fragment : x) {
#pragma unroll
    for (auto& step : fragment) {
#pragma unroll
      for (uint32_t& pair : step) pair ^= 0x80008000u;
    }
  }
}

// The third block lacks shared memory elsewhere, or (sm_100) registers.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ == 900
constexpr int kMostBlocks = 3;
#else
constexpr int kMostBlocks = 2;
#endif

template <typename T, int kWidth>
__global__ void __launch_bounds__(AttentionShape<kWidth>::kThreads,
                                  kWidth <= 64 && sizeof(T) == 2 ? kMostBlocks : 2)
    attention_forward_kernel(AttentionStream s, T* out, float* lse, const T* q, const T* k,
                             const T* v) {
  using Queries = QueryBlock<T, kWidth>;
  constexpr int kFragments = Queries::Shape::kFragments, kSteps = kWidth / 16;
  VILG_SHARED_MEMORY(smem);
  const Queries& queries = Queries::begin(smem, s, k, v);
  const AttentionBlock& block = queries.block();
  Accumulator<kWidth> sums = {};
  load_fragments<T, kFragments, kSteps>(
      sums.q, {q + head_offset(s.qkv_strides, block), s.qkv_strides.token}, queries.rows(s),
      s.head_size);
  if (s.scale < 0) negate(sums.q);
#pragma unroll
  for (float& x : sums.largest) x = -INFINITY;

  queries.for_each_tile(smem, s,
                        [&](const SharedRows<kWidth>& keys, const SharedRows<kWidth>& values,
                            uint32_t seen) { sums.add(keys, values, seen, s.size2); });

  const typename Queries::Rows rows = queries.rows(s);
  float factors[2 * kFragments];
#pragma unroll
  for (int i = 0; i < 2 * kFragments; ++i) {
    const float sum = quad_sum(sums.sum[i]);
    factors[i] = 1.0f / sum;
    if (lse && lane_id() % 4 == 0 && rows.position[i] >= 0) {
      lse[block.head_index * int64_t{s.length} + rows.position[i]] =
          sums.largest[i] * s.size2 * kLn2 + logf(sum);
    }
  }
  store_fragments<kFragments, kSteps>(
      {out + head_offset(s.out_strides, block), s.out_strides.token}, sums.out, factors, rows,
      s.head_size);
}

template <typename T, int kWidth>
void run(const AttentionForwardParams& p, Queue& queue) {
  using Shape = AttentionShape<kWidth>;
  const AttentionStream s = AttentionStream::of(p);
  launch(queue,
         {dim3(AttentionBlock::blocks_per_head(s, Shape::kBlockPlaces), p.heads, p.batch),
          Shape::kThreads, QueryBlock<T, kWidth>::shared_bytes()},
         attention_forward_kernel<T, kWidth>, s, static_cast<T*>(p.out), p.lse,
         static_cast<const T*>(p.q), static_cast<const T*>(p.k), static_cast<const T*>(p.v));
}

template <typename T>
void run(const AttentionForwardParams& p, Queue& queue) {
  if (p.head_size <= 32) {
    run<T, 32>(p, queue);
  } else if (p.head_size <= 64) {
    run<T, 64>(p, queue);
  } else {
    run<T, 128>(p, queue);
  }
}

}  // namespace

void attention_forward(const AttentionForwardParams& p, Queue& queue) {
  if (!fits_tensor_cores(p) || !aligned_to_16(p.out)) {
    attention_forward_plain(p, queue);
  } else if (p.dtype == DType::kFloat32) {
    run<float>(p, queue);
  } else {
    run<bf16>(p, queue);
  }
}

}  // namespace vilg::cuda
