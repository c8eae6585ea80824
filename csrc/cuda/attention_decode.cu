// attention_decode: one new query of every row. A block has one head and eight rows. Four of its
// warps begin with the prefix, which they read once for all eight rows, the other four with the
// rows' own keys, which is what the memory is busy with (60 rows of 64 heads: 2 MB of prefix, 32 MB
// of own keys in a row layer); whoever is done takes own keys that are left.
//
// The prefix and a row's own keys are each divided into four shares, and every share ends in a
// part: largest score, sum of weights, weighted values. Parts are merged in a fixed order. What a
// share has depends on the number of keys alone, and its arithmetic on nothing but row and share,
// so a row has the same bits whatever rows are beside it.
#include "cuda/cuda_ops.h"
#include "cuda/launch.h"

namespace vilg::cuda {
namespace {

constexpr float kLog2E = 1.4426950408889634f;
constexpr int kRows = 8, kShares = 4, kParts = 2 * kShares;  // parts: of the prefix, of own keys
constexpr int kWarps = 8, kThreads = kWarps * kLanes;
constexpr int kTile = 32;  // keys of the prefix
// Longer lists of keys are divided among blocks, whose parts a second kernel merges.
constexpr int64_t kPrefixOfBlock = 256, kOwnOfBlock = 1024;

// What kernels need of the parameters; `splits` blocks of prefix_share and own_share keys each.
struct Decode {
  float *out, *parts;  // parts: (splits, rows, H, D + 2) of blocks, where there are several
  const float* q;
  const void *prefix_k, *prefix_v, *own_k, *own_v;
  const int32_t *slots, *slot_count;
  int64_t out_stride, q_stride, prefix_capacity, own_capacity;
  int prefix_length, num_slots, prefix_share, own_share, splits;
  int rows, heads, head_size;
  float scale2;

  __device__ __forceinline__ int own_keys() const {
    return slot_count ? min(*slot_count, num_slots) : num_slots;
  }
  __device__ __forceinline__ float* part(int64_t split, int64_t row, int64_t head) const {
    return parts + ((split * rows + row) * heads + head) * (head_size + 2);
  }
};

// kWords words of elements as floats. They are carried as words, for the compiler would give each
// half of one a register of its own.
template <typename T, int kWords>
__device__ __forceinline__ void unpack(float* x, const Vector<uint32_t, kWords>& words) {
#pragma unroll
  for (int i = 0; i < kWords; ++i) {
    if constexpr (sizeof(T) == 2) {
      x[2 * i] = low_bf16(words[i]), x[2 * i + 1] = high_bf16(words[i]);
    } else {
      x[i] = bits_to_float(words[i]);
    }
  }
}
template <int kWords>
__device__ __forceinline__ Vector<uint32_t, kWords> load_words(const void* from) {
  return load_vector<kWords>(static_cast<const uint32_t*>(from));
}

template <typename T, int kWidth>
struct Shape {
  static constexpr int kPiece = 16 / static_cast<int>(sizeof(T));  // elements of 16 bytes
  static constexpr int kPieces = kWidth / kPiece;                  // of a key: lanes that share it
  static constexpr int kElements = kWidth / kLanes;                // of a lane where all share it
  static constexpr int kWords = kElements * static_cast<int>(sizeof(T)) / 4;
  static constexpr int kKeyBytes = kWidth * static_cast<int>(sizeof(T));
  static constexpr int kLoads = 8, kBatch = kLoads * kLanes / kPieces;  // own keys under way
};

template <typename T, int kWidth>
struct Shared {
  using S = Shape<T, kWidth>;
  // tiles of the prefix; those of keys make room for the part in the end
  alignas(128) unsigned char keys[kShares][kTile * S::kKeyBytes];
  alignas(128) unsigned char values[kShares][kTile * S::kKeyBytes];
  alignas(16) float q[kRows][kWidth];  // times scale2; zeros past the head and past the rows
  alignas(16) float weights[kShares][kRows][kTile];
  alignas(16) float own_sums[kShares][kRows][kWidth];
  float largest[kParts][kRows], sum[kParts][kRows];
  uint32_t next;  // own share that nobody has taken

  __device__ __forceinline__ float* value_sums(int part, int row) {
    static_assert(kRows * sizeof(float) <= kTile * sizeof(T));
    if (part >= kShares) return own_sums[part - kShares][row];
    return reinterpret_cast<float*>(keys[part]) + row * kWidth;
  }
};

// Pieces of a key are exchanged so that the same piece of eight keys lies in different banks.
template <typename T, int kWidth>
__device__ __forceinline__ int piece_offset(int key, int piece) {
  return key * Shape<T, kWidth>::kKeyBytes + (piece ^ (key & 7)) * 16;
}

// A warp's tile of the prefix: keys from `first`, zeros past `end` and past the head.
template <typename T, int kWidth>
__device__ __forceinline__ void stage_tile(unsigned char* to, const T* prefix, int first, int end,
                                           int head_size) {
  using S = Shape<T, kWidth>;
  const int element = lane_id() % S::kPieces * S::kPiece;
  for (int key = lane_id() / S::kPieces; key < kTile; key += kLanes / S::kPieces) {
    const bool given = first + key < end && element < head_size;
    const T* from = given ? prefix + int64_t{first + key} * head_size + element : prefix;
    copy_async_16(to + piece_offset<T, kWidth>(key, lane_id() % S::kPieces), from, given ? 16 : 0);
  }
  copy_async_commit();
}

// Every fourth tile of prefix keys begin .. end for all rows: first scores with a key to a lane,
// then values with elements of the head to a lane.
template <typename T, int kWidth>
__device__ __forceinline__ void attend_prefix(Shared<T, kWidth>& shared, const T* k, const T* v,
                                              int begin, int end, int head_size) {
  using S = Shape<T, kWidth>;
  const int part = warp_id();
  unsigned char *const keys = shared.keys[part], *const values = shared.values[part];
  float largest[kRows], sum[kRows] = {}, out[kRows][S::kElements] = {};
#pragma unroll
  for (float& x : largest) x = -INFINITY;
    // the first tile is under way: keys, then values, each in a group
#pragma unroll 1
  for (int first = begin + part * kTile; first < end; first += kShares * kTile) {
    const int next = first + kShares * kTile;
    copy_async_wait<1>();
    __syncwarp();
    float scores[kRows] = {};
#pragma unroll 1
    for (int piece = 0; piece * S::kPiece < head_size; ++piece) {
      float x[S::kPiece];
      unpack<T>(x, load_words<4>(keys + piece_offset<T, kWidth>(lane_id(), piece)));
#pragma unroll
      for (int row = 0; row < kRows; ++row) {
#pragma unroll
        for (int i = 0; i < S::kPiece; i += 4) {
          const Vector<float, 4> q = load_vector<4>(&shared.q[row][piece * S::kPiece + i]);
#pragma unroll
          for (int e = 0; e < 4; ++e) scores[row] = fmaf(q[e], x[i + e], scores[row]);
        }
      }
    }
    __syncwarp();
    if (next < end) {
      stage_tile<T, kWidth>(keys, k, next, end, head_size);
    } else {
      copy_async_commit();
    }
#pragma unroll
    for (int row = 0; row < kRows; ++row) {
      const float score = first + lane_id() < end ? scores[row] : -INFINITY;
      const float new_largest = fmaxf(largest[row], warp_max(score));
      const float base = new_largest == -INFINITY ? 0.0f : new_largest;  // where all are NaN
      const float factor = exp2_fast(largest[row] - base), weight = exp2_fast(score - base);
      largest[row] = new_largest;
      sum[row] = fmaf(sum[row], factor, weight);
#pragma unroll
      for (float& x : out[row]) x *= factor;
      shared.weights[part][row][lane_id()] = weight;
    }
    copy_async_wait<1>();
    __syncwarp();
#pragma unroll 1
    for (int key = 0; key < kTile; key += 4) {
      float x[4][S::kElements];
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int element = lane_id() * S::kElements;
        unpack<T>(x[i], load_words<S::kWords>(
                            values + piece_offset<T, kWidth>(key + i, element / S::kPiece) +
                            element % S::kPiece * static_cast<int>(sizeof(T))));
      }
#pragma unroll
      for (int row = 0; row < kRows; ++row) {
        const Vector<float, 4> weight = load_vector<4>(&shared.weights[part][row][key]);
#pragma unroll
        for (int i = 0; i < 4; ++i) {
#pragma unroll
          for (int e = 0; e < S::kElements; ++e)
            out[row][e] = fmaf(weight[i], x[i][e], out[row][e]);
        }
      }
    }
    __syncwarp();
    if (next < end) {
      stage_tile<T, kWidth>(values, v, next, end, head_size);
    } else {
      copy_async_commit();
    }
  }
  copy_async_wait<0>();
#pragma unroll
  for (int row = 0; row < kRows; ++row) {
    const float total = warp_sum(sum[row]);
    if (lane_id() == 0) shared.largest[part][row] = largest[row], shared.sum[part][row] = total;
#pragma unroll
    for (int e = 0; e < S::kElements; ++e) {
      shared.value_sums(part, row)[lane_id() * S::kElements + e] = out[row][e];
    }
  }
}

// Every fourth batch, from batch `share`, of one row's own keys begin .. end; slot 0 of its cache
// is at element `own`. A key is shared by
// kPieces lanes, so that each load of a warp reads whole keys; a batch's keys and values are all
// under way at once, 8 KB of each warp.
template <typename T, int kWidth>
__device__ __forceinline__ void attend_own(Shared<T, kWidth>& shared, const T* k, const T* v,
                                           int64_t own, const int32_t* slots, int begin, int end,
                                           int row, int share, int head_size) {
  using S = Shape<T, kWidth>;
  const int piece = lane_id() % S::kPieces * S::kPiece;
  float q[S::kPiece], out[S::kPiece] = {}, largest = -INFINITY, sum = 0;
#pragma unroll
  for (int e = 0; e < S::kPiece; ++e) q[e] = shared.q[row][piece + e];
#pragma unroll 1
  for (int first = begin + share * S::kBatch; first < end; first += kShares * S::kBatch) {
    const int32_t my_slot = slots[min(first + lane_id(), end - 1)];
    Vector<uint32_t, 4> keys[S::kLoads], values[S::kLoads];
#pragma unroll
    for (int i = 0; i < S::kLoads; ++i) {
      const int key = lane_id() / S::kPieces + i * (kLanes / S::kPieces);
      const int64_t offset = own + int64_t{shuffle(my_slot, key)} * head_size + piece;
      keys[i] = values[i] = {};
      if (first + key < end && piece < head_size) {
        keys[i] = load_words<4>(k + offset);
        values[i] = load_words<4>(v + offset);
      }
    }
    float scores[S::kLoads], new_largest = largest;
#pragma unroll
    for (int i = 0; i < S::kLoads; ++i) {
      const int key = lane_id() / S::kPieces + i * (kLanes / S::kPieces);
      float x[S::kPiece], score = 0;
      unpack<T>(x, keys[i]);
#pragma unroll
      for (int e = 0; e < S::kPiece; ++e) score = fmaf(q[e], x[e], score);
#pragma unroll
      for (int step = S::kPieces / 2; step > 0; step /= 2) score += shuffle_xor(score, step);
      scores[i] = first + key < end ? score : -INFINITY;
      new_largest = fmaxf(new_largest, scores[i]);
    }
#pragma unroll
    for (int step = kLanes / 2; step >= S::kPieces; step /= 2) {
      new_largest = fmaxf(new_largest, shuffle_xor(new_largest, step));
    }
    const float base = new_largest == -INFINITY ? 0.0f : new_largest;
    const float factor = exp2_fast(largest - base);
    largest = new_largest;
    sum *= factor;
#pragma unroll
    for (float& x : out) x *= factor;
#pragma unroll
    for (int i = 0; i < S::kLoads; ++i) {
      const float weight = exp2_fast(scores[i] - base);
      float x[S::kPiece];
      unpack<T>(x, values[i]);
      sum += weight;
#pragma unroll
      for (int e = 0; e < S::kPiece; ++e) out[e] = fmaf(weight, x[e], out[e]);
    }
  }
#pragma unroll
  for (int step = kLanes / 2; step >= S::kPieces; step /= 2) {
    sum += shuffle_xor(sum, step);
#pragma unroll
    for (float& x : out) x += shuffle_xor(x, step);
  }
  const int part = kShares + share;
  if (lane_id() == 0) shared.largest[part][row] = largest, shared.sum[part][row] = sum;
  if (lane_id() < S::kPieces) {
#pragma unroll
    for (int e = 0; e < S::kPiece; ++e) shared.value_sums(part, row)[piece + e] = out[e];
  }
}

// Blocks: (heads, groups of kRows rows, splits).
template <typename T, int kWidth>
__global__ void __launch_bounds__(kThreads, 2) decode_kernel(Decode p) {
  VILG_SHARED_MEMORY(smem);
  auto& shared = *reinterpret_cast<Shared<T, kWidth>*>(smem);
  wait_for_previous_kernel();
  let_next_kernel_begin();
  const auto head = static_cast<int>(blockIdx.x), first_row = static_cast<int>(blockIdx.y) * kRows;
  const auto split = static_cast<int>(blockIdx.z);
  const int rows = min(kRows, p.rows - first_row), warp = warp_id();
  const int begin = min(split * p.prefix_share, p.prefix_length);
  const int end = min(begin + p.prefix_share, p.prefix_length);
  const int64_t prefix = head * p.prefix_capacity * p.head_size;
  const T *prefix_k = static_cast<const T*>(p.prefix_k),
          *prefix_v = static_cast<const T*>(p.prefix_v);
  if (end > begin) prefix_k += prefix, prefix_v += prefix;
  const int first = begin + warp * kTile;
  if (warp < kShares && first < end) {
    stage_tile<T, kWidth>(shared.keys[warp], prefix_k, first, end, p.head_size);
    stage_tile<T, kWidth>(shared.values[warp], prefix_v, first, end, p.head_size);
  }
  for (int i = static_cast<int>(threadIdx.x); i < kRows * kWidth; i += kThreads) {
    const int row = i / kWidth, element = i % kWidth;
    float x = 0;
    if (row < rows && element < p.head_size) {
      x = p.q[(first_row + row) * p.q_stride + head * p.head_size + element] * p.scale2;
    }
    shared.q[row][element] = x;
  }
  if (threadIdx.x == 0) shared.next = 0;
  __syncthreads();

  if (warp < kShares) {
    attend_prefix<T, kWidth>(shared, prefix_k, prefix_v, begin, end, p.head_size);
  }
  const int own_keys = p.own_keys();
  const int own_begin = min(split * p.own_share, own_keys);
  const int own_end = min(own_begin + p.own_share, own_keys);
  while (true) {
    // the first shares of all rows come first: short lists have no others
    const uint32_t taken = lane_id() == 0 ? atomic_add(&shared.next, 1u) : 0;
    const auto item = static_cast<int>(shuffle(taken, 0));
    if (item >= rows * kShares) break;
    const int row = item % rows;
    const int64_t own = (int64_t{first_row + row} * p.heads + head) * p.own_capacity * p.head_size;
    attend_own<T, kWidth>(shared, static_cast<const T*>(p.own_k), static_cast<const T*>(p.own_v),
                          own, p.slots, own_begin, own_end, row, item / rows, p.head_size);
  }
  __syncthreads();

  static_assert(kWarps == kRows);
  const int row = warp;
  if (row >= rows) return;
  float weights[kParts], largest = -INFINITY, sum = 0;
#pragma unroll
  for (int part = 0; part < kParts; ++part) {
    weights[part] = shared.largest[part][row];
    largest = fmaxf(largest, weights[part]);
  }
  const float base = largest == -INFINITY ? 0.0f : largest;
#pragma unroll
  for (int part = 0; part < kParts; ++part) {
    weights[part] = exp2_fast(weights[part] - base);
    sum = fmaf(weights[part], shared.sum[part][row], sum);
  }
  float* const out = p.splits == 1 ? p.out + (first_row + row) * p.out_stride + head * p.head_size
                                   : p.part(split, first_row + row, head);
  const float factor = p.splits == 1 ? 1.0f / sum : 1.0f;
  for (int element = lane_id(); element < p.head_size; element += kLanes) {
    float x = 0;
#pragma unroll
    for (int part = 0; part < kParts; ++part) {
      x = fmaf(weights[part], shared.value_sums(part, row)[element], x);
    }
    out[element] = x * factor;
  }
  if (p.splits > 1 && lane_id() == 0) out[p.head_size] = largest, out[p.head_size + 1] = sum;
}

// The parts of several blocks; a warp has one row and head.
__global__ void __launch_bounds__(kThreads) merge_kernel(Decode p) {
  wait_for_previous_kernel();
  let_next_kernel_begin();
  const int64_t index = int64_t{blockIdx.x} * kWarps + warp_id();
  if (index >= int64_t{p.rows} * p.heads) return;
  const int64_t row = index / p.heads, head = index % p.heads;
  float largest = -INFINITY, sum = 0;
  for (int split = 0; split < p.splits; ++split) {
    largest = fmaxf(largest, p.part(split, row, head)[p.head_size]);
  }
  const float base = largest == -INFINITY ? 0.0f : largest;
  for (int split = 0; split < p.splits; ++split) {
    const float* part = p.part(split, row, head) + p.head_size;
    sum = fmaf(exp2_fast(part[0] - base), part[1], sum);
  }
  for (int element = lane_id(); element < p.head_size; element += kLanes) {
    float x = 0;
    for (int split = 0; split < p.splits; ++split) {
      const float* part = p.part(split, row, head);
      x = fmaf(exp2_fast(part[p.head_size] - base), part[element], x);
    }
    p.out[row * p.out_stride + head * p.head_size + element] = x / sum;
  }
}

// Every head size and alignment: a block has one row and head, and its scores in p.parts.
constexpr int kPlainThreads = 128;

template <typename T>
__global__ void __launch_bounds__(kPlainThreads) plain_kernel(Decode p) {
  VILG_SHARED_MEMORY(smem);
  auto* const scratch = reinterpret_cast<float*>(smem);
  wait_for_previous_kernel();
  let_next_kernel_begin();
  const int64_t row = blockIdx.y, head = blockIdx.x;
  const int keys = p.prefix_length + p.own_keys();
  float* const scores = p.parts + (row * p.heads + head) * (p.prefix_length + p.num_slots);
  const auto key_offset = [&](int key) {
    if (key < p.prefix_length) return (head * p.prefix_capacity + key) * p.head_size;
    const int64_t slot = p.slots[key - p.prefix_length];
    return ((row * p.heads + head) * p.own_capacity + slot) * p.head_size;
  };
  const float* q = p.q + row * p.q_stride + head * p.head_size;
  float largest = -INFINITY;
  for (int key = warp_id(); key < keys; key += kPlainThreads / kLanes) {
    const T* k =
        static_cast<const T*>(key < p.prefix_length ? p.prefix_k : p.own_k) + key_offset(key);
    float score = 0;
    for (int element = lane_id(); element < p.head_size; element += kLanes) {
      score = fmaf(q[element], to_float(k[element]), score);
    }
    score = warp_sum(score) * p.scale2;
    largest = fmaxf(largest, score);
    if (lane_id() == 0) scores[key] = score;
  }
  largest = block_max(largest, scratch);
  __syncthreads();
  const float base = largest == -INFINITY ? 0.0f : largest;
  float sum = 0;
  for (int key = static_cast<int>(threadIdx.x); key < keys; key += kPlainThreads) {
    const float weight = exp2_fast(scores[key] - base);
    scores[key] = weight;
    sum += weight;
  }
  sum = block_sum(sum, scratch);
  __syncthreads();
  for (int element = static_cast<int>(threadIdx.x); element < p.head_size;
       element += kPlainThreads) {
    float x = 0;
    for (int key = 0; key < keys; ++key) {
      const T* v =
          static_cast<const T*>(key < p.prefix_length ? p.prefix_v : p.own_v) + key_offset(key);
      x = fmaf(scores[key], to_float(v[element]), x);
    }
    p.out[row * p.out_stride + head * p.head_size + element] = x / sum;
  }
}

Decode decode_of(const AttentionDecodeParams& p) {
  Decode d{};
  d.out = p.out, d.q = p.q;
  d.prefix_k = p.prefix_k, d.prefix_v = p.prefix_v, d.own_k = p.own_k, d.own_v = p.own_v;
  d.slots = p.slots, d.slot_count = p.slot_count;
  d.out_stride = p.out_stride, d.q_stride = p.q_stride;
  d.prefix_capacity = p.prefix_capacity, d.own_capacity = p.own_capacity;
  d.prefix_length = static_cast<int>(p.prefix_length);
  d.num_slots = static_cast<int>(p.num_slots);
  d.rows = static_cast<int>(p.rows), d.heads = static_cast<int>(p.heads);
  d.head_size = static_cast<int>(p.head_size);
  d.scale2 = p.scale * kLog2E;
  return d;
}

template <typename T, int kWidth>
void run(const AttentionDecodeParams& params, Queue& queue) {
  Decode p = decode_of(params);
  const int64_t prefix_splits = max(ceil_div(params.prefix_length, kPrefixOfBlock), int64_t{1});
  const int64_t own_splits = max(ceil_div(params.num_slots, kOwnOfBlock), int64_t{1});
  p.splits = static_cast<int>(max(prefix_splits, own_splits));
  p.prefix_share = static_cast<int>(round_up(ceil_div(params.prefix_length, prefix_splits), kTile));
  p.own_share = static_cast<int>(kOwnOfBlock);
  const Workspace workspace(
      queue.allocator(),
      p.splits == 1 ? 0
                    : sizeof(float) * static_cast<size_t>(p.splits * params.rows * params.heads *
                                                          (params.head_size + 2)));
  p.parts = workspace.as<float>();
  launch(queue,
         {dim3(params.heads, ceil_div(params.rows, kRows), p.splits), kThreads,
          sizeof(Shared<T, kWidth>), true},
         decode_kernel<T, kWidth>, p);
  if (p.splits == 1) return;
  launch(queue, {dim3(ceil_div(params.rows * params.heads, kWarps)), kThreads, 0, true},
         merge_kernel, p);
}

template <typename T>
void run_plain(const AttentionDecodeParams& params, Queue& queue) {
  Decode p = decode_of(params);
  const int64_t scores = params.rows * params.heads * (params.prefix_length + params.num_slots);
  const Workspace workspace(queue.allocator(), sizeof(float) * static_cast<size_t>(scores));
  p.parts = workspace.as<float>();
  launch(queue, {dim3(params.heads, params.rows), kPlainThreads, kLanes * sizeof(float), true},
         plain_kernel<T>, p);
}

}  // namespace

void attention_decode(const AttentionDecodeParams& p, Queue& queue) {
  const bool is_bf16 = p.cache_dtype == DType::kBFloat16;
  const bool plain = p.head_size % 8 != 0 || p.head_size > (is_bf16 ? 128 : 64) ||
                     !aligned_to_16(p.prefix_k, p.prefix_v, p.own_k, p.own_v);
  if (plain) {
    is_bf16 ? run_plain<bf16>(p, queue) : run_plain<float>(p, queue);
  } else if (!is_bf16) {
    run<float, 64>(p, queue);
  } else if (p.head_size <= 64) {
    run<bf16, 64>(p, queue);
  } else {
    run<bf16, 128>(p, queue);
  }
}

}  // namespace vilg::cuda
