// Attention with fused multiply-adds in float32. Blocks of 128 threads go through tiles of 32 x 32
// scores; thread t has row t / 4 of them, columns t % 4 + 4 j. What is summed over the keys (or,
// for the gradients of keys and values, the queries) are slices of 64 elements of a row, one to a
// block: heads of any size fit, at the price of computing the scores once for each slice.
#include "cuda/attention_plain.h"

#include "cuda/attention_sight.h"
#include "cuda/attention_tile.h"
#include "cuda/launch.h"

namespace vilg::cuda {
namespace {

constexpr int kThreads = 128, kSlice = 64;
constexpr int kColumns = kTilePlaces / 4, kElements = kSlice / 4;  // of one thread

struct Scratch {
  // padded so that rows begin in different banks
  float rows[kTilePlaces][kSlice + 4], columns[kTilePlaces][kSlice + 4];
  float weights[2][kTilePlaces][kTilePlaces + 1];
};

__device__ __forceinline__ int tile_row() { return static_cast<int>(threadIdx.x) / 4; }
__device__ __forceinline__ int tile_column(int j) {
  return static_cast<int>(threadIdx.x) % 4 + 4 * j;
}
// Elements 4 i ... of the thread's share of a slice.
__device__ __forceinline__ int slice_element(int i) {
  return static_cast<int>(threadIdx.x) % 4 * 4 + 16 * i;
}

// One slice of a tile of rows. What was there before must no longer be needed by anybody.
template <typename T>
__device__ __forceinline__ void stage(float (*to)[kSlice + 4], const HeadRows<const T>& x,
                                      const AttentionStream& s, const Places& tile, int slice) {
#pragma unroll 4
  for (int i = static_cast<int>(threadIdx.x); i < kTilePlaces * kSlice; i += kThreads) {
    const int row = i / kSlice, element = i % kSlice, place = tile.first + row;
    const int from = slice * kSlice + element;
    to[row][element] = place < s.places(tile.image) && from < s.head_size
                           ? to_float(x.data[s.position(tile.image, place) * x.stride + from])
                           : 0.0f;
  }
}

// Products of a tile of rows with one of columns along the head.
template <typename T>
__device__ __forceinline__ void multiply(float (&product)[kColumns], Scratch& scratch,
                                         const HeadRows<const T>& rows, const Places& row_tile,
                                         const HeadRows<const T>& columns,
                                         const Places& column_tile, const AttentionStream& s) {
  for (float& x : product) x = 0;
  for (int slice = 0; slice * kSlice < s.head_size; ++slice) {
    __syncthreads();
    stage(scratch.rows, rows, s, row_tile, slice);
    stage(scratch.columns, columns, s, column_tile, slice);
    __syncthreads();
    const int elements = min(kSlice, s.head_size - slice * kSlice);  // zeros follow
#pragma unroll 2
    for (int element = 0; element < elements; element += 4) {
      const Vector<float, 4> a = load_vector<4>(&scratch.rows[tile_row()][element]);
#pragma unroll
      for (int j = 0; j < kColumns; ++j) {
        const Vector<float, 4> b = load_vector<4>(&scratch.columns[tile_column(j)][element]);
#pragma unroll
        for (int e = 0; e < 4; ++e) product[j] = fmaf(a[e], b[e], product[j]);
      }
    }
  }
}

// sum += weights . one slice of a tile of columns.
template <typename T>
__device__ __forceinline__ void add_weighted(float (&sum)[kElements], Scratch& scratch,
                                             const float (&weights)[kTilePlaces][kTilePlaces + 1],
                                             const HeadRows<const T>& columns, const Places& tile,
                                             const AttentionStream& s, int slice) {
  __syncthreads();
  stage(scratch.columns, columns, s, tile, slice);
  __syncthreads();
#pragma unroll 2
  for (int column = 0; column < kTilePlaces; ++column) {
    const float weight = weights[tile_row()][column];
#pragma unroll
    for (int i = 0; i < kElements / 4; ++i) {
      const Vector<float, 4> x = load_vector<4>(&scratch.columns[column][slice_element(i)]);
#pragma unroll
      for (int e = 0; e < 4; ++e) sum[4 * i + e] = fmaf(weight, x[e], sum[4 * i + e]);
    }
  }
}

template <typename T>
__device__ __forceinline__ void store(const HeadRows<T>& to, const float (&sum)[kElements],
                                      float factor, const AttentionStream& s, const Places& tile,
                                      int slice) {
  const int place = tile.first + tile_row();
  if (place >= s.places(tile.image)) return;
  T* row = to.data + s.position(tile.image, place) * to.stride;
#pragma unroll
  for (int i = 0; i < kElements; ++i) {
    const int element = slice * kSlice + slice_element(i / 4) + i % 4;
    if (element < s.head_size) row[element] = from_float<T>(sum[i] * factor);
  }
}

// Which keys of the tile the query with the lane's number sees.
__device__ __forceinline__ uint32_t seen_keys(const AttentionStream& s, int sample,
                                              const Sight& sight, const Places& keys) {
  return keys.image ? image_word(sight, keys.first, s.grid)
                    : shared_word(sight, keys.first, valid_text(s, sample, keys.first));
}

// The grid has the samples and the slices of a head in its last dimension.
__device__ __forceinline__ AttentionBlock this_block(const AttentionStream& s) {
  const int slices = (s.head_size + kSlice - 1) / kSlice;
  return AttentionBlock::at(s, static_cast<int>(blockIdx.z) / slices, static_cast<int>(blockIdx.y),
                            static_cast<int>(blockIdx.x), kTilePlaces);
}
__device__ __forceinline__ int this_slice(const AttentionStream& s) {
  return static_cast<int>(blockIdx.z) % ((s.head_size + kSlice - 1) / kSlice);
}

template <typename T>
__global__ void __launch_bounds__(kThreads, 2)
    forward_kernel(AttentionStream s, T* out, float* lse, const T* q, const T* k, const T* v) {
  VILG_SHARED_MEMORY(smem);
  Scratch& scratch = *reinterpret_cast<Scratch*>(smem);
  const AttentionBlock block = this_block(s);
  const int slice = this_slice(s);
  const int64_t in = head_offset(s.qkv_strides, block), in_stride = s.qkv_strides.token;
  const Sight sight = sight_of(s, block.sample, block.places.image, block.places.first + lane_id());
  float largest = -INFINITY, sum = 0, result[kElements] = {};
  const TileChunks tiles = key_chunks(s, block.places, 1);
  for (int i = 0; i < tiles.count; ++i) {
    const Places keys = tiles.at(i, 1);
    const uint32_t seen = seen_keys(s, block.sample, sight, keys);
    if (ballot(seen != 0) == 0) continue;
    float scores[kColumns];
    multiply<T>(scores, scratch, {q + in, in_stride}, block.places, {k + in, in_stride}, keys, s);
    const uint32_t word = shuffle(seen, tile_row() % kLanes);
    float new_largest = largest;
    for (int j = 0; j < kColumns; ++j) {
      scores[j] = word >> tile_column(j) & 1u ? scores[j] * s.scale2 : -INFINITY;
      new_largest = fmaxf(new_largest, scores[j]);
    }
    new_largest = quad_max(new_largest);
    const float factor = new_largest == largest ? 1.0f : exp2_fast(largest - new_largest);
    const float base = new_largest == -INFINITY ? 0.0f : new_largest;
    largest = new_largest;
    sum *= factor;
    for (float& x : result) x *= factor;
    for (int j = 0; j < kColumns; ++j) {
      const float weight = exp2_fast(scores[j] - base);
      sum += weight;
      scratch.weights[0][tile_row()][tile_column(j)] = weight;
    }
    add_weighted<T>(result, scratch, scratch.weights[0], {v + in, in_stride}, keys, s, slice);
  }
  sum = quad_sum(sum);
  const int64_t at = head_offset(s.out_strides, block);
  store<T>({out + at, s.out_strides.token}, result, 1.0f / sum, s, block.places, slice);
  const int place = block.places.first + tile_row();
  if (lse && slice == 0 && threadIdx.x % 4 == 0 && place < s.places(block.places.image)) {
    lse[block.head_index * int64_t{s.length} + s.position(block.places.image, place)] =
        largest * kLn2 + logf(sum);
  }
}

// dq, and what the gradients of keys and values need of each query.
template <typename T>
__global__ void __launch_bounds__(kThreads, 2)
    query_gradient_kernel(AttentionStream s, T* dq, QueryStatistics* statistics, const T* dout,
                          const T* out, const float* lse, const T* q, const T* k, const T* v) {
  VILG_SHARED_MEMORY(smem);
  Scratch& scratch = *reinterpret_cast<Scratch*>(smem);
  const AttentionBlock block = this_block(s);
  const int slice = this_slice(s);
  const int64_t in = head_offset(s.qkv_strides, block), in_stride = s.qkv_strides.token;
  const int64_t at = head_offset(s.out_strides, block), out_stride = s.out_strides.token;
  const Sight sight = sight_of(s, block.sample, block.places.image, block.places.first + lane_id());
  const int place = block.places.first + tile_row();
  QueryStatistics mine;
  if (place < s.places(block.places.image)) {
    const int64_t position = s.position(block.places.image, place);
    for (int d = static_cast<int>(threadIdx.x) % 4; d < s.head_size; d += 4) {
      const int64_t i = at + position * out_stride + d;
      mine.delta = fmaf(to_float(dout[i]), to_float(out[i]), mine.delta);
    }
    mine.lse = lse[block.head_index * int64_t{s.length} + position] * kLog2E;
  }
  mine.delta = quad_sum(mine.delta);
  if (slice == 0 && threadIdx.x % 4 == 0 && place < s.places(block.places.image)) {
    statistics[statistics_index(s, block.head_index, block.places.image, place)] = mine;
  }
  float result[kElements] = {};
  const TileChunks tiles = key_chunks(s, block.places, 1);
  for (int i = 0; i < tiles.count; ++i) {
    const Places keys = tiles.at(i, 1);
    const uint32_t seen = seen_keys(s, block.sample, sight, keys);
    if (ballot(seen != 0) == 0) continue;
    float scores[kColumns], dweights[kColumns];
    multiply<T>(scores, scratch, {q + in, in_stride}, block.places, {k + in, in_stride}, keys, s);
    multiply<T>(dweights, scratch, {dout + at, out_stride}, block.places, {v + in, in_stride}, keys,
                s);
    const uint32_t word = shuffle(seen, tile_row() % kLanes);
    for (int j = 0; j < kColumns; ++j) {
      const float weight =
          word >> tile_column(j) & 1u ? exp2_fast(fmaf(scores[j], s.scale2, -mine.lse)) : 0.0f;
      scratch.weights[0][tile_row()][tile_column(j)] = weight * (dweights[j] - mine.delta);
    }
    add_weighted<T>(result, scratch, scratch.weights[0], {k + in, in_stride}, keys, s, slice);
  }
  store<T>({dq + in, in_stride}, result, s.scale, s, block.places, slice);
}

// dk and dv: the rows are keys, the columns queries.
template <typename T>
__global__ void __launch_bounds__(kThreads, 2)
    key_gradient_kernel(AttentionStream s, T* dk, T* dv, const QueryStatistics* statistics,
                        const T* dout, const T* q, const T* k, const T* v) {
  VILG_SHARED_MEMORY(smem);
  Scratch& scratch = *reinterpret_cast<Scratch*>(smem);
  const AttentionBlock block = this_block(s);
  const int slice = this_slice(s);
  const int64_t in = head_offset(s.qkv_strides, block), in_stride = s.qkv_strides.token;
  const int64_t at = head_offset(s.out_strides, block), out_stride = s.out_strides.token;
  float dk_sum[kElements] = {}, dv_sum[kElements] = {};
  const TileChunks tiles = query_chunks(s, block.places, 1);
  for (int i = 0; i < tiles.count; ++i) {
    const Places queries = tiles.at(i, 1);
    const Sight sight = sight_of(s, block.sample, queries.image, queries.first + lane_id());
    const uint32_t seen = seen_keys(s, block.sample, sight, block.places);
    if (ballot(seen != 0) == 0) continue;
    float scores[kColumns], dweights[kColumns];
    multiply<T>(scores, scratch, {k + in, in_stride}, block.places, {q + in, in_stride}, queries,
                s);
    multiply<T>(dweights, scratch, {v + in, in_stride}, block.places, {dout + at, out_stride},
                queries, s);
    for (int j = 0; j < kColumns; ++j) {
      const bool sees = shuffle(seen, tile_column(j)) >> tile_row() & 1u;
      float weight = 0, dscore = 0;
      if (sees) {
        const QueryStatistics query = statistics[statistics_index(
            s, block.head_index, queries.image, queries.first + tile_column(j))];
        weight = exp2_fast(fmaf(scores[j], s.scale2, -query.lse));
        dscore = weight * (dweights[j] - query.delta);
      }
      scratch.weights[0][tile_row()][tile_column(j)] = weight;
      scratch.weights[1][tile_row()][tile_column(j)] = dscore;
    }
    add_weighted<T>(dv_sum, scratch, scratch.weights[0], {dout + at, out_stride}, queries, s,
                    slice);
    add_weighted<T>(dk_sum, scratch, scratch.weights[1], {q + in, in_stride}, queries, s, slice);
  }
  store<T>({dk + in, in_stride}, dk_sum, s.scale, s, block.places, slice);
  store<T>({dv + in, in_stride}, dv_sum, 1.0f, s, block.places, slice);
}

Grid grid_of(const AttentionParams& p, const AttentionStream& s) {
  return {dim3(AttentionBlock::blocks_per_head(s, kTilePlaces), p.heads,
               p.batch * ceil_div(p.head_size, kSlice)),
          kThreads, sizeof(Scratch)};
}

template <typename T>
void run(const AttentionForwardParams& p, Queue& queue) {
  const AttentionStream s = AttentionStream::of(p);
  launch(queue, grid_of(p, s), forward_kernel<T>, s, static_cast<T*>(p.out), p.lse,
         static_cast<const T*>(p.q), static_cast<const T*>(p.k), static_cast<const T*>(p.v));
}

template <typename T>
void run(const AttentionBackwardParams& p, Queue& queue) {
  const AttentionStream s = AttentionStream::of(p);
  const Workspace workspace(queue.allocator(), statistics_bytes(s, p.batch));
  auto* statistics = workspace.as<QueryStatistics>();
  const auto *q = static_cast<const T*>(p.q), *k = static_cast<const T*>(p.k);
  const auto *v = static_cast<const T*>(p.v), *dout = static_cast<const T*>(p.dout);
  launch(queue, grid_of(p, s), query_gradient_kernel<T>, s, static_cast<T*>(p.dq), statistics, dout,
         static_cast<const T*>(p.out), p.lse, q, k, v);
  launch(queue, grid_of(p, s), key_gradient_kernel<T>, s, static_cast<T*>(p.dk),
         static_cast<T*>(p.dv), statistics, dout, q, k, v);
}

}  // namespace

void attention_forward_plain(const AttentionForwardParams& p, Queue& queue) {
  p.dtype == DType::kFloat32 ? run<float>(p, queue) : run<bf16>(p, queue);
}

void attention_backward_plain(const AttentionBackwardParams& p, Queue& queue) {
  p.dtype == DType::kFloat32 ? run<float>(p, queue) : run<bf16>(p, queue);
}

}  // namespace vilg::cuda
