#pragma once

#include <cstdint>

#include "core/dtype.h"
#include "kernels/dims.h"

namespace vilg {

// Ids outside their vocabulary are refused with their position before anything is written.
//
// The stream's first hidden states (docs/model.md, "Embeddings"):
//   text j: text_embedding[t] + text_position[j] + modality[0]
//   IMG:    image_start + modality[1]
//   image p: image_embedding[z] + row_position[p / G] + column_position[p % G] + modality[1]
struct StreamEmbeddingForwardParams {
  void* out = nullptr;                    // (B, N, C)
  const int32_t* text = nullptr;          // (B, T)
  const int32_t* image = nullptr;         // (B, G*G)
  const void* text_embedding = nullptr;   // (Vt, C), table_dtype as all tables below
  const void* image_embedding = nullptr;  // (Vz, C)
  const float* image_start = nullptr;     // (C)
  const void* text_position = nullptr;    // (T, C)
  const void* row_position = nullptr;     // (G, C)
  const void* column_position = nullptr;  // (G, C)
  const void* modality = nullptr;         // (2, C)
  DType table_dtype = DType::kFloat32;
  DType dtype = DType::kFloat32;  // of out
  int64_t batch = 0, channels = 0, text_vocab = 0, image_vocab = 0;
  Direction direction = Direction::kTextToImage;
  StreamSizes sizes{};
};
// Sizes and pointers; the ids are on the device of the op, which checks them itself.
void validate(const StreamEmbeddingForwardParams& params);

// All gradients +=, each entry's sum in a fixed order.
struct StreamEmbeddingBackwardParams {
  float *dtext_embedding = nullptr, *dimage_embedding = nullptr, *dimage_start = nullptr;
  float *dtext_position = nullptr, *drow_position = nullptr, *dcolumn_position = nullptr,
        *dmodality = nullptr;
  const void* dout = nullptr;  // (B, N, C)
  const int32_t* text = nullptr;
  const int32_t* image = nullptr;
  DType dtype = DType::kFloat32;
  int64_t batch = 0, channels = 0, text_vocab = 0, image_vocab = 0;
  Direction direction = Direction::kTextToImage;
  StreamSizes sizes{};
};
void validate(const StreamEmbeddingBackwardParams& params);

}  // namespace vilg
