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

// sums (head size rounded up) += weights[i] * values[begin + i]
template <typename T>
inline void add_values(float* sums, const float* weights, const Keys<T>& values, int64_t begin,
                       int64_t count) {
  const int64_t D = values.head_size;
  int64_t d = 0;
  // four sums: keys of one sum follow each other, so a single one would wait for every product
  for (; d + 4 * kWidth <= D; d += 4 * kWidth) {
    vf sum[4];
#pragma GCC unroll 4
    for (int c = 0; c < 4; ++c) sum[c] = load(sums + d + c * kWidth);
    for (int64_t i = 0; i < count; ++i) {
      const T* value = values[begin + i] + d;
      const vf weight = splat(weights[i]);
#pragma GCC unroll 4
      for (int c = 0; c < 4; ++c) sum[c] = fma(load(value + c * kWidth), weight, sum[c]);
    }
#pragma GCC unroll 4
    for (int c = 0; c < 4; ++c) store(sums + d + c * kWidth, sum[c]);
  }
  for (; d + kWidth <= D; d += kWidth) {
    vf sum = load(sums + d);
    for (int64_t i = 0; i < count; ++i) {
      sum = fma(load(values[begin + i] + d), splat(weights[i]), sum);
    }
    store(sums + d, sum);
  }
  if (d < D) {
    vf sum = load(sums + d);
    for (int64_t i = 0; i < count; ++i) {
      sum = fma(load_partial(values[begin + i] + d, D - d), splat(weights[i]), sum);
    }
    store(sums + d, sum);
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
    for (int64_t r = 0; r < p.rows; ++r) {
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
    for (int64_t r = 0; r < p.rows; ++r) {
      add_values(all_sums + r * width, p.workspace + r * p.scores_stride + i, prefix_v, i, count);
    }
  }
  for (int64_t r = 0; r < p.rows; ++r) {
    float* sums = all_sums + r * width;
    const Keys<T> own_v{(const T*)p.own_v + r * p.own_stride, p.slots, D};
    add_values(sums, p.workspace + r * p.scores_stride + prefix, own_v, 0, p.num_slots);
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
