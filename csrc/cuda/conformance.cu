#include "cuda/conformance.h"

#include <iterator>

#include "core/error.h"
#include "cuda/launch.h"

namespace vilg::cuda {
namespace {

constexpr int kWords = kConformanceWords;
constexpr int kRows = kConformanceThreads;

constexpr bool same(const char* a, const char* b) {
  for (; *a == *b; ++a, ++b) {
    if (*a == 0) return true;
  }
  return false;
}
constexpr int number_of(const char* name) {
  for (int i = 0; i < static_cast<int>(std::size(kConformanceCases)); ++i) {
    if (same(kConformanceCases[i].name, name)) return i;
  }
  return -1;
}

// A finite float of moderate size from any bits.
__device__ float tame(uint32_t bits) {
  return static_cast<float>(static_cast<int32_t>(bits) >> 8) * 0x1p-16f;
}

template <int kCase>
__global__ void __launch_bounds__(kRows) conformance_kernel(const uint32_t* in, uint32_t* out) {
  VILG_SHARED_MEMORY(smem);
  auto* shared = reinterpret_cast<uint32_t*>(smem);
  const int thread = static_cast<int>(threadIdx.x);
  in += thread * kWords;
  out += thread * kWords;
  alignas(16) uint32_t result[kWords] = {};
  if constexpr (kCase == number_of("pack_bf16")) {
    for (int i = 0; i + 1 < kWords; ++i) {
      const float low = bits_to_float(in[i]), high = bits_to_float(in[i + 1]);
      // a NaN's bits are the machine's own affair
      result[i] = pack_bf16(low == low ? low : 1.0f, high == high ? high : -1.0f);
    }
    result[kWords - 1] = from_float<bf16>(tame(in[0]));
  } else if constexpr (kCase == number_of("exp2_fast")) {
    for (int i = 0; i < kWords; ++i) result[i] = float_to_bits(exp2_fast(tame(in[i]) * 0.9f));
  } else if constexpr (kCase == number_of("reciprocal_fast")) {
    // without zeros
    for (int i = 0; i < kWords; ++i) result[i] = float_to_bits(reciprocal_fast(tame(in[i] | 256)));
  } else if constexpr (kCase == number_of("shuffle_xor")) {
    for (int i = 0; i < kWords; ++i) result[i] = shuffle_xor(in[i], i + 1);
  } else if constexpr (kCase == number_of("shuffle")) {
    for (int i = 0; i < kWords; ++i) result[i] = shuffle(in[i], static_cast<int>(in[0] % 32));
  } else if constexpr (kCase == number_of("shuffle_up")) {
    for (int i = 0; i < kWords; ++i) result[i] = shuffle_up(in[i], i);
  } else if constexpr (kCase == number_of("shuffle_down")) {
    for (int i = 0; i < kWords; ++i) result[i] = shuffle_down(in[i], i);
  } else if constexpr (kCase == number_of("ballot")) {
    for (int i = 0; i < kWords; ++i) result[i] = ballot(in[i] & 1);
  } else if constexpr (kCase == number_of("copy_async_16")) {
    for (int i = 0; i < kWords / 4; ++i) {
      copy_async_16(shared + thread * kWords + i * 4, in + i * 4, i == 0 ? 16 : 4 * (i - 1));
      copy_async_commit();
    }
    copy_async_wait<0>();
    __syncthreads();
    const uint32_t* other = shared + (thread + 1) % kRows * kWords;
    for (int i = 0; i < kWords; ++i) result[i] = other[i];
  } else if constexpr (kCase == number_of("load_matrices") ||
                       kCase == number_of("load_matrices_transposed")) {
    for (int i = 0; i < kWords; ++i) shared[thread * kWords + i] = in[i];
    __syncthreads();
    for (int i = 0; i < kWords / 4; ++i) {
      uint32_t part[4];
      const uint32_t* row = shared + ((thread * 7 + i) % kRows) * kWords + 4 * i;
      if constexpr (kCase == number_of("load_matrices")) {
        load_matrices(part, row);
      } else {
        load_matrices_transposed(part, row);
      }
      for (int e = 0; e < 4; ++e) result[4 * i + e] = part[e];
    }
  } else if constexpr (kCase == number_of("multiply_bf16")) {
    float d[4] = {1, 2, 3, 4};
    const uint32_t a[4] = {in[0], in[1], in[2], in[3]};
    multiply_bf16(d, a, in[4], in[5]);
    for (int e = 0; e < 4; ++e) result[e] = float_to_bits(d[e]);
  } else if constexpr (kCase == number_of("load_streaming")) {
    for (int i = 0; i < kWords / 4; ++i) {
      const uint4 x = load_streaming(in + 4 * i);
      result[4 * i] = x.x, result[4 * i + 1] = x.y, result[4 * i + 2] = x.z;
      result[4 * i + 3] = x.w;
    }
  } else if constexpr (kCase == number_of("atomics")) {
    auto* sums = reinterpret_cast<uint64_t*>(smem);
    if (thread == 0) {
      sums[0] = 0;
      shared[2] = 0;
      shared[3] = 0xffffffffu;
      shared[4] = 0;
    }
    __syncthreads();
    atomic_add(sums, static_cast<uint64_t>(in[0]));
    atomic_add(shared + 2, in[1]);
    atomic_min(shared + 3, in[2]);
    atomic_max(shared + 4, in[3]);
    __syncthreads();
    for (int i = 0; i < 5; ++i) result[i] = shared[i];
  } else if constexpr (kCase == number_of("warp_sum")) {
    result[0] = float_to_bits(warp_sum(low_bf16(in[0])));
    result[1] = float_to_bits(warp_max(high_bf16(in[0])));
    result[2] = static_cast<uint32_t>(warp_sum(static_cast<int>(in[1] & 0xffffu)));
  } else if constexpr (kCase == number_of("block_sum")) {
    result[0] = float_to_bits(block_sum(low_bf16(in[0]), reinterpret_cast<float*>(smem)));
    result[1] = float_to_bits(block_max(high_bf16(in[1]), reinterpret_cast<float*>(smem)));
  } else if constexpr (kCase == number_of("reduce")) {
    result[0] = reduce_add(in[0]);
    result[1] = reduce_min(in[1]);
    result[2] = reduce_max(in[2]);
  } else if constexpr (kCase == number_of("vectors")) {
    for (int i = 0; i < kWords / 4; ++i) store_vector(result + 4 * i, load_vector<4>(in + 4 * i));
  }
  for (int i = 0; i < kWords; ++i) out[i] = result[i];
}

template <int kCase>
void run(int number, const uint32_t* in, uint32_t* out, Queue& queue) {
  if constexpr (kCase < static_cast<int>(std::size(kConformanceCases))) {
    if (number != kCase) return run<kCase + 1>(number, in, out, queue);
    constexpr size_t kShared = kRows * kWords * sizeof(uint32_t);
    launch(queue, {dim3(1), kRows, kShared}, conformance_kernel<kCase>, in, out);
  } else {
    VILG_FAIL(kInvalidArgument, "There is no conformance case %d", number);
  }
}

}  // namespace

void conformance(int32_t number, const uint32_t* in, uint32_t* out, Queue& queue) {
  run<0>(number, in, out, queue);
}

}  // namespace vilg::cuda
