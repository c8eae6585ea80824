#include "kernels/checks.h"
#include "ref/element.h"
#include "ref/ref_ops.h"

namespace vilg::ref {

void stream_embedding_forward(const StreamEmbeddingForwardParams& p, OpContext&) {
  validate(p);
  const int64_t C = p.channels, T = p.sizes.text_length, G = p.sizes.grid;
  const int64_t N = p.sizes.stream_length();
  check_indices("stream_embedding_forward", "text", p.text, p.batch * T, p.text_vocab);
  check_indices("stream_embedding_forward", "image", p.image, p.batch * G * G, p.image_vocab);
  const auto table = [&](const void* data, int64_t row, int64_t c) {
    return read(data, p.table_dtype, row * C + c);
  };
  for (int64_t b = 0; b < p.batch; ++b) {
    const int64_t text = b * N + p.sizes.text_start(p.direction);
    const int64_t image = b * N + p.sizes.image_start(p.direction);
    for (int64_t c = 0; c < C; ++c) {
      for (int64_t j = 0; j < T; ++j) {
        write(p.out, p.dtype, (text + j) * C + c,
              table(p.text_embedding, p.text[b * T + j], c) + table(p.text_position, j, c) +
                  table(p.modality, 0, c));
      }
      write(p.out, p.dtype, image * C + c, p.image_start[c] + table(p.modality, 1, c));
      for (int64_t i = 0; i < G * G; ++i) {
        write(p.out, p.dtype, (image + 1 + i) * C + c,
              table(p.image_embedding, p.image[b * G * G + i], c) +
                  table(p.row_position, i / G, c) + table(p.column_position, i % G, c) +
                  table(p.modality, 1, c));
      }
    }
  }
}

void stream_embedding_backward(const StreamEmbeddingBackwardParams& p, OpContext& ctx) {
  validate(p);
  const int64_t C = p.channels, T = p.sizes.text_length, G = p.sizes.grid;
  const int64_t N = p.sizes.stream_length();
  check_indices("stream_embedding_backward", "text", p.text, p.batch * T, p.text_vocab);
  check_indices("stream_embedding_backward", "image", p.image, p.batch * G * G, p.image_vocab);
  // one channel of every table at a time, as doubles
  struct Table {
    float* gradient;
    int64_t rows;
    double* sums;
  };
  Table tables[] = {{p.dtext_embedding, p.text_vocab, nullptr},
                    {p.dimage_embedding, p.image_vocab, nullptr},
                    {p.dimage_start, 1, nullptr},
                    {p.dtext_position, T, nullptr},
                    {p.drow_position, G, nullptr},
                    {p.dcolumn_position, G, nullptr},
                    {p.dmodality, 2, nullptr}};
  auto& [text_embedding, image_embedding, image_start, text_position, row_position, column_position,
         modality] = tables;
  const int64_t total = p.text_vocab + p.image_vocab + 1 + T + 2 * G + 2;
  Workspace workspace(*ctx.allocator, static_cast<size_t>(total) * sizeof(double));
  double* next = workspace.as<double>();
  for (Table& table : tables) {
    table.sums = next;
    next += table.rows;
  }
  for (int64_t c = 0; c < C; ++c) {
    for (const Table& table : tables) {
      for (int64_t r = 0; r < table.rows; ++r) table.sums[r] = table.gradient[r * C + c];
    }
    for (int64_t b = 0; b < p.batch; ++b) {
      const int64_t text = b * N + p.sizes.text_start(p.direction);
      const int64_t image = b * N + p.sizes.image_start(p.direction);
      for (int64_t j = 0; j < T; ++j) {
        const double d = read(p.dout, p.dtype, (text + j) * C + c);
        text_embedding.sums[p.text[b * T + j]] += d;
        text_position.sums[j] += d;
        modality.sums[0] += d;
      }
      const double start = read(p.dout, p.dtype, image * C + c);
      image_start.sums[0] += start;
      modality.sums[1] += start;
      for (int64_t i = 0; i < G * G; ++i) {
        const double d = read(p.dout, p.dtype, (image + 1 + i) * C + c);
        image_embedding.sums[p.image[b * G * G + i]] += d;
        row_position.sums[i / G] += d;
        column_position.sums[i % G] += d;
        modality.sums[1] += d;
      }
    }
    for (const Table& table : tables) {
      for (int64_t r = 0; r < table.rows; ++r) {
        table.gradient[r * C + c] = static_cast<float>(table.sums[r]);
      }
    }
  }
}

}  // namespace vilg::ref
