// What matrix products leave to passes over memory: sums of a K that was cut, and operands that are
// not as the tensor core kernel wants them.
#include <type_traits>

#include "cuda/gemm.h"
#include "cuda/launch.h"

namespace vilg::cuda {
namespace {

constexpr int kThreads = 256;

// A row of blocks for each row of c.
template <int kWidth>
__global__ void __launch_bounds__(kThreads)
    finish_kernel(const Sums sums, const Output out, int m, int n, int blocks_per_row) {
  wait_for_previous_kernel();
  let_next_kernel_begin();
  const auto per_row = static_cast<uint32_t>(blocks_per_row);
  const uint32_t line = blockIdx.x / per_row;  // of all matrices
  const int64_t batch = line / static_cast<uint32_t>(m);
  const int64_t row = line % static_cast<uint32_t>(m);
  const auto part = static_cast<int>(blockIdx.x % per_row);
  const int column = (part * kThreads + static_cast<int>(threadIdx.x)) * kWidth;
  if (column >= n) return;
  const float* from = sums.data + batch * sums.batch_stride + row * sums.ld + column;
  float x[kWidth], other[kWidth];
#pragma unroll
  for (int e = 0; e < kWidth; ++e) x[e] = -0.0f;  // which changes nothing
#pragma unroll 4
  for (int split = 0; split < sums.splits; ++split) {
    load_elements<kWidth>(other, from, false, split * sums.split_stride);
#pragma unroll
    for (int e = 0; e < kWidth; ++e) x[e] = __fadd_rn(x[e], other[e]);
  }
  finish_elements<kWidth>(out, x, batch * out.batch_stride + row * out.ldc + column, column);
}

// Eight elements a thread, zeros after the last of a line. Index: 32 bits where they suffice,
// because two divisions of 64 bits would take as long as the memory.
template <typename Index, typename To>
__global__ void __launch_bounds__(kThreads)
    pack_kernel(To* to, const Operand from, int64_t ld, int64_t lines, int length, int64_t chunks) {
  const int64_t stride = int64_t{gridDim.x} * kThreads;
  const auto per_line = static_cast<Index>(ld / 8);
  for (int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x; i < chunks; i += stride) {
    const Index line = static_cast<Index>(i) / per_line;
    const int element = static_cast<int>(static_cast<Index>(i) - line * per_line) * 8;
    const Index batch = line / static_cast<Index>(lines);
    const int64_t in_batch = line - batch * static_cast<Index>(lines);
    const int64_t at = int64_t{batch} * from.batch_stride + in_batch * from.ld + element;
    const RawChunk raw = load_chunk(from.data, from.half, from.vector, at, length - element);
    if constexpr (std::is_same_v<To, bf16>) {
      *reinterpret_cast<uint4*>(to + i * 8) = chunk_to_bf16(raw, from.half);
    } else {
      float x[8];
      chunk_to_floats(x, raw, from.half);
      store_vector<4>(to + i * 8, Vector<float, 4>{{x[0], x[1], x[2], x[3]}});
      store_vector<4>(to + i * 8 + 4, Vector<float, 4>{{x[4], x[5], x[6], x[7]}});
    }
  }
}

}  // namespace

void finish(const Sums& sums, const Output& out, int64_t m, int64_t n, int64_t batch,
            Queue& queue) {
  const bool wide = out.vector && n % kOutputWidth == 0 && sums.ld % kOutputWidth == 0 &&
                    sums.batch_stride % kOutputWidth == 0 &&
                    sums.split_stride % kOutputWidth == 0 && aligned_to_16(sums.data);
  const int64_t per_row = ceil_div(n, kThreads * (wide ? kOutputWidth : 1));
  Grid grid{dim3(batch * m * per_row), kThreads};
  grid.overlaps = true;
  launch(queue, grid, wide ? finish_kernel<kOutputWidth> : finish_kernel<1>, sums, out,
         static_cast<int>(m), static_cast<int>(n), static_cast<int>(per_row));
}

Operand pack_operand(const Operand& from, bool half, int64_t rows, int64_t k, int64_t batch,
                     std::optional<Workspace>& memory, Queue& queue) {
  const int64_t lines = from.along_k ? rows : k, length = from.along_k ? k : rows;
  if (from.batch_stride == 0) batch = 1;  // shared by all
  const int64_t ld = round_up(length, 8), chunks = batch * lines * (ld / 8);
  memory.emplace(queue.allocator(), static_cast<size_t>(chunks) * (half ? 16 : 32));
  const auto run = [&]<typename To>(To* to) {
    const auto kernel =
        chunks < int64_t{1} << 31 ? pack_kernel<uint32_t, To> : pack_kernel<int64_t, To>;
    launch(queue, {dim3(min(ceil_div(chunks, kThreads), int64_t{16384})), kThreads}, kernel, to,
           from, ld, lines, static_cast<int>(length), chunks);
  };
  half ? run(memory->as<bf16>()) : run(memory->as<float>());
  Operand to = from;
  to.data = memory->data();
  to.ld = ld, to.batch_stride = from.batch_stride == 0 ? 0 : lines * ld;
  to.half = half, to.vector = true;
  return to;
}

}  // namespace vilg::cuda
