// attention_backward on tensor cores, without atomics: every sum has one place and one order.
//
//   weights P = exp2(scale q k^T - lse), dP = dout v^T, dS = P (dP - delta), delta = dout . out
//   dq = scale dS k     dk = scale dS^T q     dv = P^T dout
//
// Two kernels compute P and dS of the same tiles. In the first a warp has 32 queries and goes
// through the keys they see, as forward; in the second it has 32 keys and goes through the queries
// that see them. What both need of a query, lse and delta, the first one leaves behind. Text and
// IMG are seen by all queries: several blocks share these, each adds up a part of the queries, and
// a third kernel adds the parts.
#include "cuda/attention_plain.h"
#include "cuda/attention_tile.h"
#include "cuda/cuda_ops.h"
#include "cuda/launch.h"

namespace vilg::cuda {
namespace {

// Products along the head of fragments with 16 rows of a tile: their scores, or gradients of
// weights.
template <int kFragments, int kSteps, int kWidth>
__device__ __forceinline__ void add_scores(float (&x)[kFragments][2][4],
                                           const uint32_t (&a)[kFragments][kSteps][4],
                                           const SharedRows<kWidth>& rows) {
#pragma unroll
  for (int step = 0; step < kSteps; ++step) {
    uint32_t b[4];
    rows.right(b, 0, step);
#pragma unroll
    for (int m = 0; m < kFragments; ++m) {
      multiply_bf16(x[m][0], a[m][step], b[0], b[1]);
      multiply_bf16(x[m][1], a[m][step], b[2], b[3]);
    }
  }
}

// Sum over 16 rows of a tile: x += weights . rows, weights as left operand.
template <int kFragments, int kSteps, int kWidth>
__device__ __forceinline__ void add_rows(float (&x)[kFragments][2 * kSteps][4],
                                         const uint32_t (&weights)[kFragments][4],
                                         const SharedRows<kWidth>& rows) {
#pragma unroll
  for (int step = 0; step < kSteps; ++step) {
    uint32_t b[4];
    rows.right_transposed(b, 0, step);
#pragma unroll
    for (int m = 0; m < kFragments; ++m) {
      multiply_bf16(x[m][2 * step], weights[m], b[0], b[1]);
      multiply_bf16(x[m][2 * step + 1], weights[m], b[2], b[3]);
    }
  }
}

// Accumulators of 16 columns as the left operand of a sum over these columns.
template <int kFragments>
__device__ __forceinline__ void pack_left(uint32_t (&a)[kFragments][4],
                                          const float (&x)[kFragments][2][4]) {
#pragma unroll
  for (int m = 0; m < kFragments; ++m) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float* pair = &x[m][i / 2][2 * (i % 2)];
      a[m][i] = pack_bf16(pair[0], pair[1]);
    }
  }
}

// --- dq ------------------------------------------------------------------------------------------

template <typename T>
__device__ __forceinline__ Vector<float, 2> load_floats(const T* from) {
  const Vector<T, 2> pair = load_vector<2>(from);
  Vector<float, 2> x;
  x[0] = to_float(pair[0]), x[1] = to_float(pair[1]);
  return x;
}

// The products of rows of `out` and of its gradient, which is rounded as for the products with
// values, so that the gradients of a query's scores add up to zero.
template <typename T, int kFragments, int kSteps>
__device__ __forceinline__ void multiply_rows(float (&delta)[2 * kFragments],
                                              const uint32_t (&dout)[kFragments][kSteps][4],
                                              const HeadRows<const T>& out,
                                              const FragmentRows<kFragments>& rows, int head_size) {
#pragma unroll
  for (int i = 0; i < 2 * kFragments; ++i) {
    delta[i] = 0;
    if (rows.position[i] >= 0) {
      const T* row = out.data + rows.position[i] * out.stride + lane_id() % 4 * 2;
#pragma unroll
      for (int step = 0; step < 2 * kSteps; ++step) {
        if (8 * step >= head_size) continue;
        const Vector<float, 2> x = load_floats(row + 8 * step);
        const uint32_t pair = dout[i / 2][step / 2][i % 2 + step % 2 * 2];
        delta[i] = fmaf(low_bf16(pair), x[0], fmaf(high_bf16(pair), x[1], delta[i]));
      }
    }
    delta[i] = quad_sum(delta[i]);
  }
}

template <typename T, int kWidth>
__global__ void __launch_bounds__(AttentionShape<kWidth>::kThreads, 2)
    query_gradient_kernel(AttentionStream s, T* dq, QueryStatistics* statistics, const T* dout,
                          const T* out, const float* lse, const T* q, const T* k, const T* v) {
  using Queries = QueryBlock<T, kWidth>;
  constexpr int kFragments = Queries::Shape::kFragments, kSteps = kWidth / 16;
  VILG_SHARED_MEMORY(smem);
  const Queries& queries = Queries::begin(smem, s, k, v);
  const AttentionBlock& block = queries.block();

  uint32_t q_rows[kFragments][kSteps][4], dout_rows[kFragments][kSteps][4];
  float base[2 * kFragments], delta[2 * kFragments];
  {
    const typename Queries::Rows rows = queries.rows(s);
    const int64_t out_offset = head_offset(s.out_strides, block);
    load_fragments<T, kFragments, kSteps>(
        q_rows, {q + head_offset(s.qkv_strides, block), s.qkv_strides.token}, rows, s.head_size);
    load_fragments<T, kFragments, kSteps>(dout_rows, {dout + out_offset, s.out_strides.token}, rows,
                                          s.head_size);
    multiply_rows<T, kFragments, kSteps>(delta, dout_rows, {out + out_offset, s.out_strides.token},
                                         rows, s.head_size);
#pragma unroll
    for (int i = 0; i < 2 * kFragments; ++i) {
      const int64_t position = rows.position[i];
      base[i] =
          position >= 0 ? lse[block.head_index * int64_t{s.length} + position] * kLog2E : 0.0f;
      if (position >= 0 && lane_id() % 4 == 0) {
        const int place = queries.warp_first() + lane_id() / 4 + 8 * i;
        statistics[statistics_index(s, block.head_index, queries.image(), place)] = {base[i],
                                                                                     delta[i]};
      }
    }
  }

  float sum[kFragments][2 * kSteps][4] = {};
  queries.for_each_tile(
      smem, s, [&](SharedRows<kWidth> keys, SharedRows<kWidth> values, uint32_t seen) {
#pragma unroll 1
        for (int half = 0; half < 2; ++half, seen >>= 16) {
          float weights[kFragments][2][4] = {}, dscores[kFragments][2][4] = {};
          add_scores<kFragments, kSteps>(weights, q_rows, keys);
          add_scores<kFragments, kSteps>(dscores, dout_rows, values);
#pragma unroll
          for (int i = 0; i < 2 * kFragments; ++i) {
#pragma unroll
            for (int n = 0; n < 2; ++n) {
#pragma unroll
              for (int e = 2 * (i % 2); e < 2 * (i % 2) + 2; ++e) {
                const float weight = exp2_fast(fmaf(weights[i / 2][n][e], s.scale2, -base[i]));
                dscores[i / 2][n][e] = weight * (dscores[i / 2][n][e] - delta[i]);
              }
            }
          }
          const auto lane = static_cast<int>(thread_number_again() % kLanes);
          if (ballot((seen & 0xffffu) == 0xffffu || lane >= 16 * kFragments) != ~0u) {
#pragma unroll
            for (int i = 0; i < 2 * kFragments; ++i) {
              const uint32_t word = shuffle(seen, lane / 4 + 8 * i) >> (lane % 4 * 2);
#pragma unroll
              for (int n = 0; n < 2; ++n) {
                float* pair = &dscores[i / 2][n][2 * (i % 2)];
                if (!(word >> (8 * n) & 1u)) pair[0] = 0;
                if (!(word >> (8 * n) & 2u)) pair[1] = 0;
              }
            }
          }
          uint32_t left[kFragments][4];
          pack_left(left, dscores);
          add_rows<kFragments, kSteps>(sum, left, keys);
          keys = keys.from(16), values = values.from(16);
        }
      });

  float factors[2 * kFragments];
#pragma unroll
  for (float& factor : factors) factor = s.scale;
  store_fragments<kFragments, kSteps>({dq + head_offset(s.qkv_strides, block), s.qkv_strides.token},
                                      sum, factors, queries.rows(s), s.head_size);
}

// --- dk and dv -----------------------------------------------------------------------------------

// How the queries of the shared keys are divided: part i of `parts` takes an equal share of their
// chunks. From the sizes alone, so that the order of sums is too.
constexpr int kMostParts = 8;

// Sums over a part of the queries: (parts, B * H, T + 1, 2, D), dk before its scale and dv.
struct KeyParts {
  float* sums;
  int parts;
  int64_t elements;  // of a part

  VILG_HOST_DEVICE static int64_t head_elements(const AttentionStream& s) {
    return int64_t{2} * s.places(false) * s.head_size;
  }
};

// A block of keys that goes through all queries that see one of them, or through its part of them.
template <typename T, int kWidth>
struct KeyBlock {
  using Shape = AttentionShape<kWidth>;
  AttentionBlock block;
  int part;  // -1: all queries
  TileChunks chunks;
  int begin, end;                 // of the chunks
  uint32_t valid[Shape::kWarps];  // which of the warps' shared keys are valid text
  const T *queries, *douts;
  // of the chunks that lie in shared memory
  Sight sights[2][Shape::kChunkRows];
  alignas(8) float lse[2][Shape::kChunkRows], delta[2][Shape::kChunkRows];

  // The block's values, then two chunks of queries and gradients of outputs, then this.
  static constexpr int kValueBytes = Shape::kBlockPlaces * kWidth * 2;
  static constexpr size_t shared_bytes() {
    return kValueBytes + 4 * Shape::kChunkBytes + sizeof(KeyBlock);
  }
  static __device__ KeyBlock& in(unsigned char* smem) {
    return *reinterpret_cast<KeyBlock*>(smem + kValueBytes + 4 * Shape::kChunkBytes);
  }
  static __device__ unsigned char* chunk(unsigned char* smem, int c) {
    return smem + kValueBytes + c % 2 * 2 * Shape::kChunkBytes;
  }

  // By one thread.
  __device__ void begin_block(const AttentionStream& s, int parts, const T* dout, const T* q) {
    // the blocks of a head: its shared keys, part after part, and its image keys; the first have
    // the most queries
    const int shared = AttentionBlock::shared_blocks(s, Shape::kBlockPlaces);
    const auto index = static_cast<int>(blockIdx.x);
    const bool is_part = parts > 1 && index < shared * parts;
    part = is_part ? index / shared : -1;
    block = AttentionBlock::at(s, static_cast<int>(blockIdx.z), static_cast<int>(blockIdx.y),
                               is_part ? index % shared : index - shared * (parts - 1),
                               Shape::kBlockPlaces);
    chunks = query_chunks(s, block.places, Shape::kChunkTiles);
    const int count = chunks.count;
    begin = is_part ? count * part / parts : 0;
    end = is_part ? count * (part + 1) / parts : count;
    queries = q + head_offset(s.qkv_strides, block);
    douts = dout + head_offset(s.out_strides, block);
  }

  __device__ __forceinline__ void stage(unsigned char* smem, const AttentionStream& s,
                                        const QueryStatistics* statistics, int c) {
    const Places places = chunks.at(c, Shape::kChunkTiles);
    stage_rows<T, kWidth>(chunk(smem, c), queries, s.qkv_bytes, chunk(smem, c) + Shape::kChunkBytes,
                          douts, s.out_bytes, s, places);
    const int row = static_cast<int>(threadIdx.x), place = places.first + row;
    if (row < places.count) {
      sights[c % 2][row] = sight_of(s, block.sample, places.image, place);
      QueryStatistics query;
      if (place < s.places(places.image)) {
        query = statistics[statistics_index(s, block.head_index, places.image, place)];
      }
      lse[c % 2][row] = query.lse, delta[c % 2][row] = query.delta;
    }
  }
};

template <typename T, int kWidth>
__global__ void __launch_bounds__(AttentionShape<kWidth>::kThreads, 2)
    key_gradient_kernel(AttentionStream s, T* dk, T* dv, KeyParts parts,
                        const QueryStatistics* statistics, const T* dout, const T* q, const T* k,
                        const T* v) {
  using Keys = KeyBlock<T, kWidth>;
  using Shape = AttentionShape<kWidth>;
  using Rows = FragmentRows<Shape::kFragments>;
  constexpr int kFragments = Shape::kFragments, kSteps = kWidth / 16;
  VILG_SHARED_MEMORY(smem);
  Keys& keys = Keys::in(smem);
  if (threadIdx.x == 0) keys.begin_block(s, parts.parts, dout, q);
  __syncthreads();
  const auto warp_row = [] { return warp_id() * Shape::kRows; };
  const auto warp_first = [&] { return keys.block.places.first + warp_row(); };
  const SharedRows<kWidth> value_rows = SharedRows<kWidth>{smem}.from(warp_row());
  uint32_t k_rows[kFragments][kSteps][4];
  {
    // the keys pass through the chunk that is not yet used
    unsigned char* const key_rows = Keys::chunk(smem, keys.begin + 1);
    const int64_t offset = head_offset(s.qkv_strides, keys.block);
    stage_rows<T, kWidth>(key_rows, k + offset, s.qkv_bytes, smem, v + offset, s.qkv_bytes, s,
                          keys.block.places);
    copy_async_commit();
    if (keys.begin < keys.end) keys.stage(smem, s, statistics, keys.begin);
    copy_async_commit();
    if (!keys.block.places.image) {
      const uint32_t valid = valid_text(s, keys.block.sample, warp_first());
      if (lane_id() == 0) keys.valid[warp_id()] = valid;
    }
    copy_async_wait<1>();
    __syncthreads();
#pragma unroll
    for (int m = 0; m < kFragments; ++m) {
#pragma unroll
      for (int step = 0; step < kSteps; ++step) {
        SharedRows<kWidth>{key_rows}.from(warp_row()).left(k_rows[m][step], 16 * m, step);
      }
    }
  }

  float dk_sum[kFragments][2 * kSteps][4] = {}, dv_sum[kFragments][2 * kSteps][4] = {};
#pragma unroll 1
  for (int c = keys.begin; c < keys.end; ++c) {
    copy_async_wait<0>();
    __syncthreads();
    if (c + 1 < keys.end) keys.stage(smem, s, statistics, c + 1);
    copy_async_commit();
    const SharedRows<kWidth> chunk{Keys::chunk(smem, c)};
    const int count = keys.chunks.at(c, Shape::kChunkTiles).count;
#pragma unroll 1
    for (int tile = 0; tile < count; tile += kTilePlaces) {
      // bit i: whether the query with the lane's number sees the warp's key i
      const auto lane = static_cast<int>(thread_number_again() % kLanes);
      const Sight& sight = keys.sights[c % 2][tile + lane];
      const uint32_t seen =
          (keys.block.places.image ? image_word(sight, warp_first(), s.grid)
                                   : shared_word(sight, warp_first(), keys.valid[warp_id()])) &
          low_bits(Shape::kRows);
      if (ballot(seen != 0) == 0) continue;
      const bool some_unseen = ballot(seen == low_bits(Shape::kRows)) != ~0u;
#pragma unroll 1
      for (int row = tile; row < tile + kTilePlaces; row += 16) {
        const SharedRows<kWidth> queries = chunk.from(row);
        const SharedRows<kWidth> douts = queries.from(Shape::kChunkRows);
        float weights[kFragments][2][4] = {}, dscores[kFragments][2][4] = {};
        add_scores<kFragments, kSteps>(weights, k_rows, queries);
        // as add_scores, but there are not enough registers for all values
#pragma unroll
        for (int step = 0; step < kSteps; ++step) {
          uint32_t b[4];
          douts.right(b, 0, step);
#pragma unroll
          for (int m = 0; m < kFragments; ++m) {
            uint32_t a[4];
            value_rows.left(a, 16 * m, step);
            multiply_bf16(dscores[m][0], a, b[0], b[1]);
            multiply_bf16(dscores[m][1], a, b[2], b[3]);
          }
        }
#pragma unroll
        for (int n = 0; n < 2; ++n) {
          const int query = row + 8 * n + lane % 4 * 2;
          const Vector<float, 2> lse = load_vector<2>(&keys.lse[c % 2][query]);
#pragma unroll
          for (int m = 0; m < kFragments; ++m) {
#pragma unroll
            for (int e = 0; e < 4; ++e) {
              weights[m][n][e] = exp2_fast(fmaf(weights[m][n][e], s.scale2, -lse[e % 2]));
            }
          }
        }
        if (some_unseen) {
#pragma unroll
          for (int i = 0; i < 4; ++i) {
            const int query = row + 8 * (i / 2) + lane % 4 * 2 + i % 2;
            const uint32_t word = shuffle(seen, query % kLanes) >> lane / 4;
#pragma unroll
            for (int m = 0; m < kFragments; ++m) {
              if (!(word >> (16 * m) & 1u)) weights[m][i / 2][i % 2] = 0;
              if (!(word >> (16 * m + 8) & 1u)) weights[m][i / 2][i % 2 + 2] = 0;
            }
          }
        }
#pragma unroll
        for (int n = 0; n < 2; ++n) {
          const int query = row + 8 * n + lane % 4 * 2;
          const Vector<float, 2> delta = load_vector<2>(&keys.delta[c % 2][query]);
#pragma unroll
          for (int m = 0; m < kFragments; ++m) {
#pragma unroll
            for (int e = 0; e < 4; ++e) {
              dscores[m][n][e] = weights[m][n][e] * (dscores[m][n][e] - delta[e % 2]);
            }
          }
        }
        uint32_t left[kFragments][4];
        pack_left(left, weights);
        add_rows<kFragments, kSteps>(dv_sum, left, douts);
        pack_left(left, dscores);
        add_rows<kFragments, kSteps>(dk_sum, left, queries);
      }
    }
  }
  copy_async_wait<0>();

  const AttentionBlock& block = keys.block;
  float ones[2 * kFragments], scales[2 * kFragments];
  Rows rows = Rows::at(s, block.places.image, warp_first());
  if (keys.part >= 0) {
#pragma unroll
    for (int i = 0; i < 2 * kFragments; ++i) {
      ones[i] = 1.0f;
      if (rows.position[i] >= 0) rows.position[i] = warp_first() + lane_id() / 4 + 8 * i;
    }
    float* sums =
        parts.sums + keys.part * parts.elements + block.head_index * KeyParts::head_elements(s);
    const int64_t stride = int64_t{2} * s.head_size;
    store_fragments<kFragments, kSteps>({sums, stride}, dk_sum, ones, rows, s.head_size);
    store_fragments<kFragments, kSteps>({sums + s.head_size, stride}, dv_sum, ones, rows,
                                        s.head_size);
    return;
  }
#pragma unroll
  for (int i = 0; i < 2 * kFragments; ++i) ones[i] = 1.0f, scales[i] = s.scale;
  const int64_t offset = head_offset(s.qkv_strides, block);
  store_fragments<kFragments, kSteps>({dk + offset, s.qkv_strides.token}, dk_sum, scales, rows,
                                      s.head_size);
  store_fragments<kFragments, kSteps>({dv + offset, s.qkv_strides.token}, dv_sum, ones, rows,
                                      s.head_size);
}

// Adds up the parts of the shared keys, four elements a thread.
constexpr int kSumThreads = 256;

template <typename T>
__global__ void __launch_bounds__(kSumThreads)
    sum_parts_kernel(AttentionStream s, T* dk, T* dv, KeyParts parts) {
  const int64_t i = (int64_t{blockIdx.x} * kSumThreads + threadIdx.x) * 4;
  if (i >= parts.elements) return;
  float sum[4] = {};
  for (int part = 0; part < parts.parts; ++part) {
    const Vector<float, 4> x = load_vector<4>(parts.sums + part * parts.elements + i);
#pragma unroll
    for (int e = 0; e < 4; ++e) sum[e] += x[e];
  }
  const int64_t row = i / s.head_size;
  const bool is_dv = row % 2;
  const int place = static_cast<int>(row / 2 % s.places(false));
  AttentionBlock block{};
  block.head_index = static_cast<int>(row / 2 / s.places(false));
  block.sample = block.head_index / s.heads, block.head = block.head_index % s.heads;
  Vector<T, 4> result;
#pragma unroll
  for (int e = 0; e < 4; ++e) result[e] = from_float<T>(is_dv ? sum[e] : sum[e] * s.scale);
  store_vector<4>((is_dv ? dv : dk) + head_offset(s.qkv_strides, block) +
                      s.position(false, place) * s.qkv_strides.token + i % s.head_size,
                  result);
}

template <typename T, int kWidth>
void run(const AttentionBackwardParams& p, Queue& queue) {
  using Shape = AttentionShape<kWidth>;
  const AttentionStream s = AttentionStream::of(p);
  const int64_t heads = p.batch * p.heads;
  const int64_t blocks = AttentionBlock::blocks_per_head(s, Shape::kBlockPlaces);
  const int64_t shared = AttentionBlock::shared_blocks(s, Shape::kBlockPlaces);
  // two chunks of queries to a part: for T = 127 and 32 x 32 tokens 9 chunks in 5 parts, so that
  // these blocks take about as long as two of an image in a row layer
  const int64_t chunks = ceil_div(s.length, Shape::kChunkRows);
  KeyParts parts{nullptr, static_cast<int>(min(ceil_div(chunks, 2), int64_t{kMostParts})),
                 heads * KeyParts::head_elements(s)};
  const Workspace statistics(queue.allocator(), statistics_bytes(s, p.batch));
  const Workspace sums(queue.allocator(),
                       parts.parts == 1 ? 0 : sizeof(float) * parts.parts * parts.elements);
  parts.sums = sums.as<float>();
  const auto *q = static_cast<const T*>(p.q), *k = static_cast<const T*>(p.k);
  const auto *v = static_cast<const T*>(p.v), *dout = static_cast<const T*>(p.dout);
  auto *dk = static_cast<T*>(p.dk), *dv = static_cast<T*>(p.dv);
  launch(queue,
         {dim3(blocks, p.heads, p.batch), Shape::kThreads, QueryBlock<T, kWidth>::shared_bytes()},
         query_gradient_kernel<T, kWidth>, s, static_cast<T*>(p.dq),
         statistics.as<QueryStatistics>(), dout, static_cast<const T*>(p.out), p.lse, q, k, v);
  launch(queue,
         {dim3(blocks + shared * (parts.parts - 1), p.heads, p.batch), Shape::kThreads,
          KeyBlock<T, kWidth>::shared_bytes()},
         key_gradient_kernel<T, kWidth>, s, dk, dv, parts, statistics.as<QueryStatistics>(), dout,
         q, k, v);
  if (parts.parts == 1) return;
  launch(queue, {dim3(ceil_div(parts.elements, 4 * kSumThreads)), kSumThreads}, sum_parts_kernel<T>,
         s, dk, dv, parts);
}

template <typename T>
void run(const AttentionBackwardParams& p, Queue& queue) {
  if (p.head_size <= 32) {
    run<T, 32>(p, queue);
  } else if (p.head_size <= 64) {
    run<T, 64>(p, queue);
  } else {
    run<T, 128>(p, queue);
  }
}

}  // namespace

void attention_backward(const AttentionBackwardParams& p, Queue& queue) {
  if (!fits_tensor_cores(p) || !aligned_to_16(p.out, p.dout, p.dq, p.dk, p.dv)) {
    attention_backward_plain(p, queue);
  } else if (p.dtype == DType::kFloat32) {
    run<float>(p, queue);
  } else {
    run<bf16>(p, queue);
  }
}

}  // namespace vilg::cuda
