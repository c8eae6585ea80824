#include "cpu/simd/embedding.h"

#include <algorithm>
#include <cstring>

#include "cpu/cpu_ops.h"
#include "cpu/isa.h"
#include "kernels/checks.h"

namespace vilg::cpu {
namespace {

constexpr int64_t kTaskRows = 32;
// A backward task owns this many channels of every table, so each entry's sum has one owner and the
// order of the stream. 64 floats are four cache lines: whole lines only, and enough tasks.
constexpr int64_t kTaskChannels = 64;

}  // namespace

void stream_embedding_forward(const StreamEmbeddingForwardParams& p, OpContext& ctx) {
  validate(p);
  const int64_t C = p.channels, T = p.sizes.text_length, G = p.sizes.grid;
  const int64_t N = p.sizes.stream_length();
  check_indices("stream_embedding_forward", "text", p.text, p.batch * T, p.text_vocab);
  check_indices("stream_embedding_forward", "image", p.image, p.batch * G * G, p.image_vocab);
  const bool table_bf16 = p.table_dtype == DType::kBFloat16, out_bf16 = p.dtype == DType::kBFloat16;
  const auto sum = VILG_SIMD(embedding)->sum[table_bf16][out_bf16];
  const auto add_start = VILG_SIMD(embedding)->add_start[table_bf16][out_bf16];
  const auto row = [C, size = static_cast<int64_t>(dtype_size(p.table_dtype))](const void* table,
                                                                               int64_t i) {
    return static_cast<const char*>(table) + i * C * size;
  };
  const int64_t text_start = p.sizes.text_start(p.direction);
  const int64_t image_start = p.sizes.image_start(p.direction);
  const int64_t chunks = ceil_div(N, kTaskRows);
  ctx.pool->parallel_for(p.batch * chunks, [&](int64_t task) {
    const int64_t b = task / chunks, begin = task % chunks * kTaskRows;
    for (int64_t s = begin; s < std::min(N, begin + kTaskRows); ++s) {
      void* out =
          static_cast<char*>(p.out) + (b * N + s) * C * static_cast<int64_t>(dtype_size(p.dtype));
      if (s >= text_start && s < text_start + T) {
        const int64_t j = s - text_start;
        sum(out, row(p.text_embedding, p.text[b * T + j]), row(p.text_position, j),
            row(p.modality, 0), nullptr, C);
      } else if (s == image_start) {
        add_start(out, p.image_start, row(p.modality, 1), C);
      } else {
        const int64_t i = s - image_start - 1;
        sum(out, row(p.image_embedding, p.image[b * G * G + i]), row(p.row_position, i / G),
            row(p.column_position, i % G), row(p.modality, 1), C);
      }
    }
  });
}

void stream_embedding_backward(const StreamEmbeddingBackwardParams& p, OpContext& ctx) {
  validate(p);
  const int64_t C = p.channels, T = p.sizes.text_length, G = p.sizes.grid;
  const int64_t N = p.sizes.stream_length();
  check_indices("stream_embedding_backward", "text", p.text, p.batch * T, p.text_vocab);
  check_indices("stream_embedding_backward", "image", p.image, p.batch * G * G, p.image_vocab);
  const auto accumulate = VILG_SIMD(embedding)->accumulate[p.dtype == DType::kBFloat16];
  ctx.pool->parallel_for(ceil_div(C, kTaskChannels), [&](int64_t task) {
    const int64_t c = task * kTaskChannels, n = std::min(kTaskChannels, C - c);
    const auto dout = [&](int64_t row) {
      return static_cast<const char*>(p.dout) +
             (row * C + c) * static_cast<int64_t>(dtype_size(p.dtype));
    };
    // sums of sums (a grid row, a segment) keep float32 exact enough for long batches
    float text_sum[kTaskChannels] = {}, image_sum[kTaskChannels] = {}, segment[kTaskChannels];
    for (int64_t b = 0; b < p.batch; ++b) {
      ctx.check_stop();
      const int64_t text = b * N + p.sizes.text_start(p.direction);
      const int64_t image = b * N + p.sizes.image_start(p.direction);
      std::memset(segment, 0, sizeof segment);
      for (int64_t j = 0; j < T; ++j) {
        accumulate(segment, p.dtext_embedding + p.text[b * T + j] * C + c,
                   p.dtext_position + j * C + c, dout(text + j), n);
      }
      for (int64_t k = 0; k < n; ++k) text_sum[k] += segment[k];
      accumulate(p.dimage_start + c, image_sum, nullptr, dout(image), n);
      for (int64_t y = 0; y < G; ++y) {
        std::memset(segment, 0, sizeof segment);
        for (int64_t x = 0; x < G; ++x) {
          const int64_t i = y * G + x;
          accumulate(segment, p.dimage_embedding + p.image[b * G * G + i] * C + c,
                     p.dcolumn_position + x * C + c, dout(image + 1 + i), n);
        }
        float* drow = p.drow_position + y * C + c;
        for (int64_t k = 0; k < n; ++k) {
          drow[k] += segment[k];
          image_sum[k] += segment[k];
        }
      }
    }
    for (int64_t k = 0; k < n; ++k) {
      p.dmodality[c + k] += text_sum[k];
      p.dmodality[C + c + k] += image_sum[k];
    }
  });
}

}  // namespace vilg::cpu
