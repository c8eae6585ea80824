#include "cpu/simd/attention_decode.h"

#include "cpu/simd/shuffle.h"
#include "cpu/simd/vec.h"

using namespace vilg::cpu;

namespace {

// Keys (or values) of one row: a stretch of the shared prefix or of the row's own slots.
template <typename T>
struct Keys {
  const T* data;
  const int32_t* slots;  // null: in order
  int64_t head_size;
  const T* operator[](int64_t i) const { return data + (slots ? slots[i] : i) * head_size; }
};

// scores[0 .. kWidth) = scale * q . keys[begin ..]; past `count` the last key stands in, so that
// the same instructions run for every key wherever it lies.
template <typename T>
inline void score_group(float* scores, const float* q, const Keys<T>& keys, int64_t begin,
                        int64_t count, float scale) {
  const int64_t D = keys.head_size;
  const T* rows[kWidth];
  for (int i = 0; i < kWidth; ++i) rows[i] = keys[begin + (i < count ? i : count - 1)];
  vf sums[kWidth] = {};
  int64_t d = 0;
  for (; d + kWidth <= D; d += kWidth) {
    const vf part = load(q + d);
#pragma GCC unroll 16
    for (int i = 0; i < kWidth; ++i) sums[i] = fma(load(rows[i] + d), part, sums[i]);
  }
  if (d < D) {
    const vf part = load_partial(q + d, D - d);
#pragma GCC unroll 1
    for (int i = 0; i < kWidth; ++i) sums[i] = fma(load_partial(rows[i] + d, D - d), part, sums[i]);
  }
  store(scores, sum_rows(sums) * splat(scale));
}

// The same sums in the same order for the keys of four rows at once: a key of the shared prefix is
// loaded and widened once for all four. scores and q are those of the first row.
constexpr int kRowBlock = 4;
template <typename T>
inline void score_group_of_rows(float* scores, int64_t scores_stride, const float* q,
                                int64_t q_stride, const Keys<T>& keys, int64_t begin, int64_t count,
                                float scale) {
  constexpr int kKeys = kWidth / kRowBlock;
  const int64_t D = keys.head_size;
  for (int64_t first = 0; first < count; first += kKeys) {
    const int64_t here = count - first < kKeys ? count - first : kKeys;
    const T* rows[kKeys];
    for (int i = 0; i < kKeys; ++i) rows[i] = keys[begin + first + (i < here ? i : here - 1)];
    vf sums[kWidth] = {};  // (rows, keys)
    int64_t d = 0;
    for (; d + kWidth <= D; d += kWidth) {
      vf part[kRowBlock];
#pragma GCC unroll 4
      for (int r = 0; r < kRowBlock; ++r) part[r] = load(q + r * q_stride + d);
#pragma GCC unroll 4
      for (int i = 0; i < kKeys; ++i) {
        const vf key = load(rows[i] + d);
#pragma GCC unroll 4
        for (int r = 0; r < kRowBlock; ++r) {
          sums[r * kKeys + i] = fma(key, part[r], sums[r * kKeys + i]);
        }
      }
    }
    if (d < D) {
#pragma GCC unroll 1
      for (int i = 0; i < kKeys; ++i) {
        const vf key = load_partial(rows[i] + d, D - d);
#pragma GCC unroll 1
        for (int r = 0; r < kRowBlock; ++r) {
          const vf part = load_partial(q + r * q_stride + d, D - d);
          sums[r * kKeys + i] = fma(key, part, sums[r * kKeys + i]);
        }
      }
    }
    float lanes[kWidth];
    store(lanes, sum_rows(sums) * splat(scale));
    for (int r = 0; r < kRowBlock; ++r) {
      for (int64_t i = 0; i < here; ++i)
        scores[r * scores_stride + first + i] = lanes[r * kKeys + i];
    }
  }
}

// For R rows: sums (head size rounded up) += weights[i] * values[begin + i]. Rows lie apart by the
// strides. Every element is one chain over the keys in order, whatever R is.
constexpr int kColumns = kWidth == 16 ? 4 : 2;
template <int R, typename T>
inline void add_values(float* sums, int64_t sums_stride, const float* weights,
                       int64_t weights_stride, const Keys<T>& values, int64_t begin,
                       int64_t count) {
  const int64_t D = values.head_size;
  int64_t d = 0;
  for (; d + kColumns * kWidth <= D; d += kColumns * kWidth) {
    vf sum[R][kColumns];
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
      for (int c = 0; c < kColumns; ++c) sum[r][c] = load(sums + r * sums_stride + d + c * kWidth);
    }
    for (int64_t i = 0; i < count; ++i) {
      const T* from = values[begin + i] + d;
      vf value[kColumns];
#pragma GCC unroll 4
      for (int c = 0; c < kColumns; ++c) value[c] = load(from + c * kWidth);
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) {
        const vf weight = splat(weights[r * weights_stride + i]);
#pragma GCC unroll 4
        for (int c = 0; c < kColumns; ++c) sum[r][c] = fma(value[c], weight, sum[r][c]);
      }
    }
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
      for (int c = 0; c < kColumns; ++c) store(sums + r * sums_stride + d + c * kWidth, sum[r][c]);
    }
  }
  for (; d < D; d += kWidth) {
    const bool whole = d + kWidth <= D;
    for (int r = 0; r < R; ++r) {
      vf sum = load(sums + r * sums_stride + d);
      for (int64_t i = 0; i < count; ++i) {
        const T* from = values[begin + i] + d;
        const vf value = whole ? load(from) : load_partial(from, D - d);
        sum = fma(value, splat(weights[r * weights_stride + i]), sum);
      }
      store(sums + r * sums_stride + d, sum);
    }
  }
}

template <typename T>
void decode_rows(const AttentionDecodeTile& p) {
  const int64_t D = p.head_size, width = (D + 15) / 16 * 16;
  const int64_t prefix = p.prefix_length, num_keys = prefix + p.num_slots;
  float* const all_sums = p.workspace + p.rows * p.scores_stride;
  const Keys<T> prefix_k{(const T*)p.prefix_k, nullptr, D};
  const Keys<T> prefix_v{(const T*)p.prefix_v, nullptr, D};

  // keys outside, rows inside: a group of the shared prefix is read once for all rows
  for (int64_t i = 0; i < prefix; i += kWidth) {
    const int64_t count = prefix - i < kWidth ? prefix - i : kWidth;
    int64_t r = 0;
    for (; r + kRowBlock <= p.rows; r += kRowBlock) {
      score_group_of_rows(p.workspace + r * p.scores_stride + i, p.scores_stride,
                          p.q + r * p.q_stride, p.q_stride, prefix_k, i, count, p.scale);
    }
    for (; r < p.rows; ++r) {
      score_group(p.workspace + r * p.scores_stride + i, p.q + r * p.q_stride, prefix_k, i, count,
                  p.scale);
    }
  }
  for (int64_t r = 0; r < p.rows; ++r) {
    float* scores = p.workspace + r * p.scores_stride;
    const Keys<T> own_k{(const T*)p.own_k + r * p.own_stride, p.slots, D};
    for (int64_t i = 0; i < p.num_slots; i += kWidth) {
      const int64_t count = p.num_slots - i < kWidth ? p.num_slots - i : kWidth;
      score_group(scores + prefix + i, p.q + r * p.q_stride, own_k, i, count, p.scale);
    }
    for (int i = 0; i < kWidth; ++i) scores[num_keys + i] = -1e30f;  // fills the last vector
    vf largest = load(scores);
    for (int64_t i = 0; i < num_keys; i += kWidth) largest = max(load(scores + i), largest);
    const vf maximum = splat(hmax(largest));
    vf total = {};
    for (int64_t i = 0; i < num_keys; i += kWidth) {
      vf weight = exp(load(scores + i) - maximum);
      if (i + kWidth > num_keys) {
        float lanes[kWidth];
        store(lanes, weight);
        for (int64_t j = num_keys - i; j < kWidth; ++j) lanes[j] = 0;
        weight = load(lanes);
      }
      store(scores + i, weight);
      total += weight;
    }
    const vf inverse = splat(1.0f / hsum(total));
    for (int64_t i = 0; i < num_keys; i += kWidth) store(scores + i, load(scores + i) * inverse);
    for (int64_t d = 0; d < width; d += kWidth) store(all_sums + r * width + d, vf{});
  }
  for (int64_t i = 0; i < prefix; i += kWidth) {
    const int64_t count = prefix - i < kWidth ? prefix - i : kWidth;
    int64_t r = 0;
    for (; r + kRowBlock <= p.rows; r += kRowBlock) {
      add_values<kRowBlock>(all_sums + r * width, width, p.workspace + r * p.scores_stride + i,
                            p.scores_stride, prefix_v, i, count);
    }
    for (; r < p.rows; ++r) {
      add_values<1>(all_sums + r * width, width, p.workspace + r * p.scores_stride + i,
                    p.scores_stride, prefix_v, i, count);
    }
  }
  for (int64_t r = 0; r < p.rows; ++r) {
    float* sums = all_sums + r * width;
    const Keys<T> own_v{(const T*)p.own_v + r * p.own_stride, p.slots, D};
    add_values<1>(sums, width, p.workspace + r * p.scores_stride + prefix, p.scores_stride, own_v,
                  0, p.num_slots);
    float* out = p.out + r * p.out_stride;
    for (int64_t d = 0; d < D; ++d) out[d] = sums[d];
  }
}

void decode(const AttentionDecodeTile& tile) {
  if (tile.is_bf16) {
    decode_rows<uint16_t>(tile);
  } else {
    decode_rows<float>(tile);
  }
}

}  // namespace

namespace vilg::cpu {
VILG_SIMD_ENTRY(AttentionDecodeSimd, attention_decode) {
  static const AttentionDecodeSimd table = {decode};
  return &table;
}
}  // namespace vilg::cpu
