// Operands of the stream embedding, and the ops of any table run on them.
#pragma once

#include "tests/harness.h"

namespace vilg::test {

struct EmbeddingCase {
  int64_t batch, channels, text_vocab = 11, image_vocab = 7;
  StreamSizes sizes;
  Direction direction;
  // the tables in the order of the parameters; [2] is image_start
  std::vector<float> tables[7];
  std::vector<int32_t> text, image;
  std::vector<float> dout;

  EmbeddingCase(int64_t batch_, int64_t channels_, StreamSizes sizes_, Direction direction_)
      : batch(batch_), channels(channels_), sizes(sizes_), direction(direction_) {
    const int64_t rows[] = {text_vocab, image_vocab, 1, sizes.text_length,
                            sizes.grid, sizes.grid,  2};
    for (int i = 0; i < 7; ++i) {
      tables[i] =
          random_floats(static_cast<size_t>(rows[i] * channels), static_cast<uint32_t>(100 + i));
    }
    for (int64_t i = 0; i < batch * sizes.text_length; ++i) {
      text.push_back(static_cast<int32_t>(i * 5 % text_vocab));
    }
    for (int64_t i = 0; i < batch * sizes.image_length(); ++i) {
      image.push_back(static_cast<int32_t>(i * i % image_vocab));
    }
    dout = random_floats(static_cast<size_t>(batch * sizes.stream_length() * channels), 3);
  }
};

inline std::vector<float> forward(const OpTable& ops, const EmbeddingCase& c, DType table_dtype,
                                  DType dtype) {
  std::vector<bf16> halves[7];
  const void* data[7];
  for (int i = 0; i < 7; ++i) {
    halves[i] = to_bf16(c.tables[i]);
    data[i] = table_dtype == DType::kBFloat16 ? static_cast<const void*>(halves[i].data())
                                              : c.tables[i].data();
  }
  Guarded<float> out(c.dout.size());
  Guarded<bf16> out_half(c.dout.size());
  StreamEmbeddingForwardParams p;
  p.out = dtype == DType::kBFloat16 ? static_cast<void*>(out_half.data()) : out.data();
  p.text = c.text.data();
  p.image = c.image.data();
  p.text_embedding = data[0];
  p.image_embedding = data[1];
  p.image_start = c.tables[2].data();
  p.text_position = data[3];
  p.row_position = data[4];
  p.column_position = data[5];
  p.modality = data[6];
  p.table_dtype = table_dtype;
  p.dtype = dtype;
  p.batch = c.batch;
  p.channels = c.channels;
  p.text_vocab = c.text_vocab;
  p.image_vocab = c.image_vocab;
  p.direction = c.direction;
  p.sizes = c.sizes;
  ops.stream_embedding_forward(p, context());
  EXPECT(out.intact() && out_half.intact(), "writes outside");
  return dtype == DType::kBFloat16 ? to_float(out_half.values()) : out.values();
}

// The gradients of the seven tables, added to `before`.
inline std::vector<std::vector<float>> backward(const OpTable& ops, const EmbeddingCase& c,
                                                DType dtype, float before) {
  std::vector<Guarded<float>> gradients;
  for (const auto& table : c.tables) {
    gradients.emplace_back(table.size());
    for (size_t i = 0; i < table.size(); ++i) gradients.back().data()[i] = before;
  }
  const std::vector<bf16> half = to_bf16(c.dout);
  StreamEmbeddingBackwardParams p;
  p.dtext_embedding = gradients[0].data();
  p.dimage_embedding = gradients[1].data();
  p.dimage_start = gradients[2].data();
  p.dtext_position = gradients[3].data();
  p.drow_position = gradients[4].data();
  p.dcolumn_position = gradients[5].data();
  p.dmodality = gradients[6].data();
  p.dout = dtype == DType::kBFloat16 ? static_cast<const void*>(half.data()) : c.dout.data();
  p.text = c.text.data();
  p.image = c.image.data();
  p.dtype = dtype;
  p.batch = c.batch;
  p.channels = c.channels;
  p.text_vocab = c.text_vocab;
  p.image_vocab = c.image_vocab;
  p.direction = c.direction;
  p.sizes = c.sizes;
  ops.stream_embedding_backward(p, context());
  std::vector<std::vector<float>> result;
  for (auto& gradient : gradients) {
    EXPECT(gradient.intact(), "writes outside");
    result.push_back(gradient.values());
  }
  return result;
}

inline constexpr Direction kDirections[] = {Direction::kTextToImage, Direction::kImageToText};

}  // namespace vilg::test
