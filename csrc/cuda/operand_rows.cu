#include "cuda/operand_rows.h"

#include "cuda/launch.h"
#include "cuda/operand_tile.h"

namespace vilg::cuda {
namespace {

constexpr int kThreads = 256;

// A thread makes 16 bytes.
template <typename To, typename From>
__global__ void __launch_bounds__(kThreads)
    pad_kernel(To* to, const From* from, int64_t columns, int64_t pitch, int64_t chunks,
               bool vectors) {
  constexpr int kElements = kChunkElements<To>;
  constexpr int kVector = kElements * sizeof(From) > 16 ? 16 / sizeof(From) : kElements;
  wait_for_previous_kernel();
  let_next_kernel_begin();
  const int64_t chunk = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (chunk >= chunks) return;
  const int64_t row = chunk * kElements / pitch, column = chunk * kElements - row * pitch;
  from += row * columns + column;
  Vector<To, kElements> values;
  if (vectors) {
#pragma unroll
    for (int v = 0; v < kElements; v += kVector) {
      const auto some = load_vector<kVector>(from + v);
#pragma unroll
      for (int e = 0; e < kVector; ++e) values[v + e] = from_float<To>(to_float(some[e]));
    }
  } else {
#pragma unroll
    for (int e = 0; e < kElements; ++e) {
      values[e] = from_float<To>(column + e < columns ? to_float(from[e]) : 0.0f);
    }
  }
  store_vector<kElements>(to + chunk * kElements, values);
}

template <typename To, typename From>
void pad(To* to, const void* rows, int64_t count, int64_t columns, int64_t pitch, Queue& queue) {
  const int64_t chunks = count * pitch / kChunkElements<To>;
  launch(queue, {dim3(ceil_div(chunks, kThreads)), kThreads, 0, /*overlaps=*/true},
         pad_kernel<To, From>, to, static_cast<const From*>(rows), columns, pitch, chunks,
         pitch == columns && aligned_to_16(rows));
}

}  // namespace

int64_t padded_columns(int64_t columns, DType dtype) {
  return round_up(columns, 16 / static_cast<int64_t>(dtype_size(dtype)));
}

OperandRows::OperandRows(const void* rows, DType from, DType to, int64_t count, int64_t columns,
                         Queue& queue)
    : pitch_(padded_columns(columns, to)),
      in_place_(from == to && pitch_ == columns && aligned_to_16(rows)),
      memory_(queue.allocator(),
              in_place_ ? 0 : static_cast<size_t>(count * pitch_) * dtype_size(to)),
      data_(in_place_ ? rows : memory_.data()) {
  if (in_place_) return;
  if (to == DType::kFloat32) {
    auto* data = memory_.as<float>();
    from == DType::kFloat32 ? pad<float, float>(data, rows, count, columns, pitch_, queue)
                            : pad<float, bf16>(data, rows, count, columns, pitch_, queue);
  } else {
    auto* data = memory_.as<bf16>();
    from == DType::kFloat32 ? pad<bf16, float>(data, rows, count, columns, pitch_, queue)
                            : pad<bf16, bf16>(data, rows, count, columns, pitch_, queue);
  }
}

}  // namespace vilg::cuda
