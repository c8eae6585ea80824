// The stream's first hidden states and their gradients: bound by memory.
#include "cuda/check_indices.h"
#include "cuda/cuda_ops.h"
#include "cuda/run_sums.h"

namespace vilg::cuda {
namespace {

constexpr int kMaxThreads = 256;

// Where a stream's tokens are, and whose.
struct Layout {
  int64_t text_length, grid, stream_length, text_start, image_start;
  Layout(const StreamSizes& sizes, Direction direction)
      : text_length(sizes.text_length),
        grid(sizes.grid),
        stream_length(sizes.stream_length()),
        text_start(sizes.text_start(direction)),
        image_start(sizes.image_start(direction)) {}
  __device__ __forceinline__ bool is_text(int64_t token) const {
    return token >= text_start && token < text_start + text_length;
  }
};

// --- forward ------------------------------------------------------------------------------------

template <typename T>
struct ForwardTables {
  const T *text_embedding, *image_embedding, *text_position, *row_position, *column_position,
      *modality;
  const float* image_start;
};

// A block a token. An id that was not refused, because the queue was recording, reads row 0.
template <typename T, typename Out, bool kAligned>
__global__ void __launch_bounds__(kMaxThreads)
    forward_kernel(Out* out, const int32_t* text, const int32_t* image, ForwardTables<T> tables,
                   Layout layout, int64_t text_vocab, int64_t image_vocab, int64_t channels) {
  constexpr int kWidth = kVectorWidth<T>;
  const int64_t b = blockIdx.x / layout.stream_length, token = blockIdx.x % layout.stream_length;
  const T* rows[4] = {tables.modality, tables.modality, tables.modality, tables.modality};
  int parts = 3;
  if (layout.is_text(token)) {
    const int64_t j = token - layout.text_start;
    const int32_t id = text[b * layout.text_length + j];
    rows[0] = tables.text_embedding + (id >= 0 && id < text_vocab ? id : 0) * channels;
    rows[1] = tables.text_position + j * channels;
    rows[2] = tables.modality;
  } else if (token == layout.image_start) {
    parts = 1;
    rows[0] = tables.modality + channels;
  } else {
    const int64_t i = token - layout.image_start - 1;
    const int32_t id = image[b * layout.grid * layout.grid + i];
    rows[0] = tables.image_embedding + (id >= 0 && id < image_vocab ? id : 0) * channels;
    rows[1] = tables.row_position + i / layout.grid * channels;
    rows[2] = tables.column_position + i % layout.grid * channels;
    rows[3] = tables.modality + channels;
    parts = 4;
  }
  out += int64_t{blockIdx.x} * channels;
  const int64_t stride = int64_t{blockDim.x} * kWidth;
  for (int64_t c = int64_t{threadIdx.x} * kWidth; c < channels; c += stride) {
    float sum[kWidth];  // what is not there counts as zeros, so that all is asked for at once
    Vector<T, kWidth> part[4];
    load_floats<kAligned>(sum, tables.image_start + c, parts == 1 ? channels - c : 0);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      part[i] = load_run<kAligned>(rows[i] + c, i < parts ? channels - c : 0);
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) {
#pragma unroll
      for (int e = 0; e < kWidth; ++e) sum[e] += to_float(part[i][e]);
    }
    store_floats<kAligned>(out + c, sum, channels - c);
  }
}

template <typename T, typename Out>
void run_forward(const StreamEmbeddingForwardParams& p, Queue& queue) {
  const auto table = [](const void* pointer) { return static_cast<const T*>(pointer); };
  const ForwardTables<T> tables = {table(p.text_embedding),
                                   table(p.image_embedding),
                                   table(p.text_position),
                                   table(p.row_position),
                                   table(p.column_position),
                                   table(p.modality),
                                   p.image_start};
  auto* out = static_cast<Out*>(p.out);
  const int64_t threads = round_up(ceil_div(p.channels, kVectorWidth<T>), kLanes);
  // whole vectors of the narrower type are whole vectors of the wider
  with_alignment<std::conditional_t<sizeof(T) < sizeof(Out), T, Out>>(
      p.channels,
      [&](auto aligned) {
        launch(queue,
               {p.batch * p.sizes.stream_length(),
                static_cast<int>(min(threads, int64_t{kMaxThreads}))},
               forward_kernel<T, Out, aligned.value>, out, p.text, p.image, tables,
               Layout(p.sizes, p.direction), p.text_vocab, p.image_vocab, p.channels);
      },
      out, tables.text_embedding, tables.image_embedding, tables.text_position, tables.row_position,
      tables.column_position, tables.modality, tables.image_start);
}

// --- backward -----------------------------------------------------------------------------------
// Embeddings are sums over tokens of equal ids (run_sums.h), which reads dout once. All others are
// sums over whole streams: dout is read once more to add up the batch, and what follows works on
// that sum, which for one stream of 1152 x 4096 is 19 MB and stays in the cache.

// text id, then V_text + image id, then V_text + V_image for IMG; one more: to be left out
__global__ void __launch_bounds__(kMaxThreads)
    keys_kernel(uint32_t* keys, const int32_t* text, const int32_t* image, Layout layout,
                int64_t tokens, int64_t text_vocab, int64_t image_vocab) {
  const int64_t i = int64_t{blockIdx.x} * kMaxThreads + threadIdx.x;
  if (i >= tokens) return;
  const int64_t b = i / layout.stream_length, token = i % layout.stream_length;
  int64_t key = text_vocab + image_vocab + 1;
  if (layout.is_text(token)) {
    const int32_t id = text[b * layout.text_length + token - layout.text_start];
    if (id >= 0 && id < text_vocab) key = id;
  } else if (token == layout.image_start) {
    key = text_vocab + image_vocab;
  } else {
    const int32_t id = image[b * layout.grid * layout.grid + token - layout.image_start - 1];
    if (id >= 0 && id < image_vocab) key = text_vocab + id;
  }
  keys[i] = static_cast<uint32_t>(key);
}

constexpr int kSumThreads = 128;  // a vector each

// sums += `rows` rows, `stride` elements apart, in order.
template <bool kAligned, int kWidth, typename T>
__device__ __forceinline__ void add_rows(float (&sums)[kWidth], const T* from, int64_t rows,
                                         int64_t stride, int64_t left) {
#pragma unroll 8
  for (int64_t r = 0; r < rows; ++r) {
    float row[kWidth];
    load_floats<kAligned>(row, from + r * stride, left);
#pragma unroll
    for (int e = 0; e < kWidth; ++e) sums[e] += row[e];
  }
}
template <bool kAligned, int kWidth>
__device__ __forceinline__ void add_to(float* to, const float (&sums)[kWidth], int64_t left) {
  float total[kWidth];
  load_floats<kAligned>(total, to, left);
#pragma unroll
  for (int e = 0; e < kWidth; ++e) total[e] += sums[e];
  store_floats<kAligned>(to, total, left);
}

// stream (N, C) = the sum of dout (B, N, C) over the batch; text positions are done with that.
template <typename T, bool kAligned>
__global__ void __launch_bounds__(kSumThreads)
    batch_sum_kernel(float* stream, float* dtext_position, const T* dout, Layout layout,
                     int64_t batch, int64_t channels) {
  constexpr int kWidth = kVectorWidth<T>;
  const int64_t token = blockIdx.x;
  const int64_t c = (int64_t{blockIdx.y} * kSumThreads + threadIdx.x) * kWidth;
  const int64_t left = channels - c;
  if (left <= 0) return;
  float sums[kWidth] = {};
  add_rows<kAligned>(sums, dout + token * channels + c, batch, layout.stream_length * channels,
                     left);
  store_floats<kAligned>(stream + token * channels + c, sums, left);
  if (layout.is_text(token)) {
    add_to<kAligned>(dtext_position + (token - layout.text_start) * channels + c, sums, left);
  }
}

// One block for each of G rows, G columns and the text, and some channels. The rows' sums go to
// `rows` (G, C) too.
template <bool kAligned>
__global__ void __launch_bounds__(kSumThreads)
    lines_kernel(float* rows, float* drow_position, float* dcolumn_position, float* dmodality,
                 const float* stream, Layout layout, int64_t channels) {
  constexpr int kWidth = kVectorWidth<float>;
  const int64_t line = blockIdx.x, grid = layout.grid;
  const int64_t c = (int64_t{blockIdx.y} * kSumThreads + threadIdx.x) * kWidth;
  const int64_t left = channels - c;
  if (left <= 0) return;
  const float* image = stream + (layout.image_start + 1) * channels + c;
  float sums[kWidth] = {};
  if (line < grid) {
    add_rows<kAligned>(sums, image + line * grid * channels, grid, channels, left);
    store_floats<kAligned>(rows + line * channels + c, sums, left);
    add_to<kAligned>(drow_position + line * channels + c, sums, left);
  } else if (line < 2 * grid) {
    add_rows<kAligned>(sums, image + (line - grid) * channels, grid, grid * channels, left);
    add_to<kAligned>(dcolumn_position + (line - grid) * channels + c, sums, left);
  } else {
    add_rows<kAligned>(sums, stream + layout.text_start * channels + c, layout.text_length,
                       channels, left);
    add_to<kAligned>(dmodality + c, sums, left);
  }
}

template <bool kAligned>
__global__ void __launch_bounds__(kSumThreads)
    image_modality_kernel(float* dmodality, const float* rows, const float* stream, Layout layout,
                          int64_t channels) {
  constexpr int kWidth = kVectorWidth<float>;
  const int64_t c = (int64_t{blockIdx.x} * kSumThreads + threadIdx.x) * kWidth;
  const int64_t left = channels - c;
  if (left <= 0) return;
  float sums[kWidth] = {};
  add_rows<kAligned>(sums, stream + layout.image_start * channels + c, 1, 0, left);
  add_rows<kAligned>(sums, rows + c, layout.grid, channels, left);
  add_to<kAligned>(dmodality + channels + c, sums, left);
}

template <typename T>
void run_backward(const StreamEmbeddingBackwardParams& p, Queue& queue) {
  const Layout layout(p.sizes, p.direction);
  const int64_t C = p.channels, N = layout.stream_length, tokens = p.batch * N;
  const auto* dout = static_cast<const T*>(p.dout);

  Tables tables;
  tables.gradients[0] = p.dtext_embedding, tables.rows[0] = p.text_vocab;
  tables.gradients[1] = p.dimage_embedding, tables.rows[1] = p.image_vocab;
  tables.gradients[2] = p.dimage_start, tables.rows[2] = 1;
  SortedPositions sorted(queue, tokens, static_cast<uint64_t>(tables.left_out()));
  launch(queue, {ceil_div(tokens, kMaxThreads), kMaxThreads}, keys_kernel, sorted.keys(), p.text,
         p.image, layout, tokens, p.text_vocab, p.image_vocab);
  sorted.sort(queue);
  add_runs(queue, tables, dout, sorted, C);

  Workspace workspace(queue.allocator(),
                      static_cast<size_t>((N + layout.grid) * C) * sizeof(float));
  float *stream = workspace.as<float>(), *rows = stream + N * C;
  with_alignment<T>(
      C,
      [&](auto aligned) {
        launch(queue, {dim3(N, ceil_div(C, kSumThreads * kVectorWidth<T>)), kSumThreads},
               batch_sum_kernel<T, aligned.value>, stream, p.dtext_position, dout, layout, p.batch,
               C);
      },
      dout, stream, p.dtext_position);
  with_alignment<float>(
      C,
      [&](auto aligned) {
        const int64_t slices = ceil_div(C, kSumThreads * kVectorWidth<float>);
        launch(queue, {dim3(2 * layout.grid + 1, slices), kSumThreads}, lines_kernel<aligned.value>,
               rows, p.drow_position, p.dcolumn_position, p.dmodality, stream, layout, C);
        launch(queue, {slices, kSumThreads}, image_modality_kernel<aligned.value>, p.dmodality,
               rows, stream, layout, C);
      },
      rows, p.drow_position, p.dcolumn_position, p.dmodality, stream);
}

template <typename Params>
void check_ids(const char* op, const Params& p, Queue& queue) {
  check_indices(queue, op,
                {{"text", p.text, p.batch * p.sizes.text_length, 0, p.text_vocab},
                 {"image", p.image, p.batch * p.sizes.image_length(), 0, p.image_vocab}});
}

}  // namespace

void stream_embedding_forward(const StreamEmbeddingForwardParams& p, Queue& queue) {
  check_ids("stream_embedding_forward", p, queue);
  if (p.table_dtype == DType::kFloat32) {
    p.dtype == DType::kFloat32 ? run_forward<float, float>(p, queue)
                               : run_forward<float, bf16>(p, queue);
  } else {
    p.dtype == DType::kFloat32 ? run_forward<bf16, float>(p, queue)
                               : run_forward<bf16, bf16>(p, queue);
  }
}

void stream_embedding_backward(const StreamEmbeddingBackwardParams& p, Queue& queue) {
  check_ids("stream_embedding_backward", p, queue);
  p.dtype == DType::kFloat32 ? run_backward<float>(p, queue) : run_backward<bf16>(p, queue);
}

}  // namespace vilg::cuda
