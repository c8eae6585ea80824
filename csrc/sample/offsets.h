#pragma once

#include <vector>

#include "kernels/attention_pattern.h"
#include "model/generator.h"

namespace vilg {

// position tables of the decode steps, float32: the row of image token p's place in the grid is
// row_position + column_position + modality[1], row j of the text text_position + modality[0]
Tensor image_offsets(Generator& generator);
Tensor text_offsets(Generator& generator);
// What every token of a segment is told of it (C): zeros where the model has no such embedding.
std::vector<float> modality_of(Generator& generator, Segment segment);

}  // namespace vilg
