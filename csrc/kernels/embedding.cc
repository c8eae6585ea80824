#include "kernels/embedding.h"

#include "kernels/checks.h"

namespace vilg {
namespace {

template <typename Params>
void check_sizes(const char* op, const Params& p) {
  check_positive(op, "batch", p.batch);
  check_positive(op, "channels", p.channels);
  check_positive(op, "text_vocab", p.text_vocab);
  check_positive(op, "image_vocab", p.image_vocab);
  check_positive(op, "text_length", p.sizes.text_length);
  check_positive(op, "grid", p.sizes.grid);
  check_pointer(op, "text", p.text);
  check_pointer(op, "image", p.image);
}

}  // namespace

void validate(const StreamEmbeddingForwardParams& p) {
  constexpr const char* kOp = "stream_embedding_forward";
  check_sizes(kOp, p);
  check_float_dtype(kOp, "tables", p.table_dtype);
  check_float_dtype(kOp, "out", p.dtype);
  check_pointer(kOp, "out", p.out);
  check_pointer(kOp, "text_embedding", p.text_embedding);
  check_pointer(kOp, "image_embedding", p.image_embedding);
  check_pointer(kOp, "image_start", p.image_start);
  check_pointer(kOp, "text_position", p.text_position);
  check_pointer(kOp, "row_position", p.row_position);
  check_pointer(kOp, "column_position", p.column_position);
  check_pointer(kOp, "modality", p.modality);
}

void validate(const StreamEmbeddingBackwardParams& p) {
  constexpr const char* kOp = "stream_embedding_backward";
  check_sizes(kOp, p);
  check_float_dtype(kOp, "dout", p.dtype);
  check_pointer(kOp, "dout", p.dout);
  check_pointer(kOp, "dtext_embedding", p.dtext_embedding);
  check_pointer(kOp, "dimage_embedding", p.dimage_embedding);
  check_pointer(kOp, "dimage_start", p.dimage_start);
  check_pointer(kOp, "dtext_position", p.dtext_position);
  check_pointer(kOp, "drow_position", p.drow_position);
  check_pointer(kOp, "dcolumn_position", p.dcolumn_position);
  check_pointer(kOp, "dmodality", p.dmodality);
}

}  // namespace vilg
