// The words of CUDA C++ and the wrappers of ptx.h, on the host.
#pragma once

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "core/dtype.h"
#include "cuda/emulation/block.h"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __align__(bytes) alignas(bytes)
#define threadIdx (::vilg::cuda::emulation::Block::current().thread().index)
#define blockIdx (::vilg::cuda::emulation::Block::current().index)
#define blockDim (::vilg::cuda::emulation::Block::current().size)
#define gridDim (::vilg::cuda::emulation::Block::current().grid)
#define __syncthreads() ::vilg::cuda::emulation::Block::current().barrier()
#define __syncwarp() ::vilg::cuda::warp_barrier()
#define VILG_SHARED_MEMORY(name) \
  unsigned char* const name = ::vilg::cuda::emulation::Block::current().shared()

namespace vilg::cuda {

using dim3 = emulation::Dim3;
struct alignas(8) float2 {
  float x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
struct alignas(8) uint2 {
  uint32_t x, y;
};
struct alignas(16) uint4 {
  uint32_t x, y, z, w;
};

using std::max;
using std::min;
inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __fsqrt_rn(float x) { return std::sqrt(x); }
inline int __popc(uint32_t x) { return __builtin_popcount(x); }
inline int __clz(uint32_t x) { return x ? __builtin_clz(x) : 32; }
inline int __ffs(uint32_t x) { return __builtin_ffs(static_cast<int>(x)); }
template <typename T>
inline T __ldg(const T* address) {
  return *address;
}

inline float bits_to_float(uint32_t bits) {
  float x;
  std::memcpy(&x, &bits, 4);
  return x;
}
inline uint32_t float_to_bits(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  return bits;
}
inline unsigned thread_number_again() { return threadIdx.x; }
inline uint32_t pack_bf16(float low, float high) {
  const auto one = [](float x) -> uint32_t { return x != x ? 0x7fffu : float_to_bf16(x); };
  return one(low) | one(high) << 16;
}
// Subnormal arguments and results are zero, as on the GPU.
inline float exp2_fast(float x) {
  const float y = std::exp2(x);
  return y < 0x1p-126f ? 0.0f : y;
}

inline float reciprocal_fast(float x) {
  const float y = 1.0f / (std::fabs(x) < 0x1p-126f ? std::copysign(0.0f, x) : x);
  return std::fabs(y) < 0x1p-126f ? std::copysign(0.0f, y) : y;
}

// --- collective operations ---------------------------------------------------------------------

namespace detail {

template <typename Arguments>
void collective(const char* what, Arguments& mine, void (*operation)(Arguments* const* lanes),
                bool orders_memory = false) {
  struct Call {
    Arguments* arguments;
    void (*operation)(Arguments* const*);
  } call{&mine, operation};
  emulation::Block::current().collective(
      what,
      [](void* const* calls) {
        Arguments* lanes[emulation::kWarpSize];
        for (int i = 0; i < emulation::kWarpSize; ++i) {
          lanes[i] = static_cast<Call*>(calls[i])->arguments;
        }
        static_cast<Call*>(calls[0])->operation(lanes);
      },
      &call, orders_memory);
}

// An address in shared memory, of `size` bytes, `size`-aligned.
inline void check_shared(const void* address, size_t size, const char* what) {
  emulation::Block& block = emulation::Block::current();
  const auto* bytes = static_cast<const unsigned char*>(address);
  if (bytes < block.shared() || bytes + size > block.shared() + block.shared_bytes()) {
    block.fail(std::string(what) + " reaches outside shared memory");
  }
  if (reinterpret_cast<uintptr_t>(address) % size != 0) {
    block.fail(std::string(what) + " of an address that is not aligned");
  }
}

template <typename T>
T shuffle_with(const char* what, T x, int parameter, int (*source)(int lane, int parameter)) {
  struct Arguments {
    T in, out;
    int parameter;
    int (*source)(int, int);
  } mine{x, x, parameter, source};
  collective<Arguments>(what, mine, [](Arguments* const* lanes) {
    for (int i = 0; i < emulation::kWarpSize; ++i) {
      const int from = lanes[i]->source(i, lanes[i]->parameter);
      lanes[i]->out = lanes[from >= 0 && from < emulation::kWarpSize ? from : i]->in;
    }
  });
  return mine.out;
}

}  // namespace detail

inline void warp_barrier() {
  struct Nothing {
  } nothing;
  detail::collective<Nothing>(
      "__syncwarp", nothing, [](Nothing* const*) {}, true);
}
template <typename T>
T shuffle_xor(T x, int lane_mask) {
  return detail::shuffle_with<T>("shuffle_xor", x, lane_mask, [](int i, int m) { return i ^ m; });
}
template <typename T>
T shuffle(T x, int lane) {
  return detail::shuffle_with<T>("shuffle", x, lane, [](int, int l) { return l & 31; });
}
template <typename T>
T shuffle_up(T x, int delta) {
  return detail::shuffle_with<T>("shuffle_up", x, delta, [](int i, int d) { return i - d; });
}
template <typename T>
T shuffle_down(T x, int delta) {
  return detail::shuffle_with<T>("shuffle_down", x, delta, [](int i, int d) { return i + d; });
}
inline uint32_t ballot(bool predicate) {
  struct Arguments {
    bool in;
    uint32_t out;
  } mine{predicate, 0};
  detail::collective<Arguments>("ballot", mine, [](Arguments* const* lanes) {
    uint32_t bits = 0;
    for (int i = 0; i < emulation::kWarpSize; ++i) bits |= uint32_t{lanes[i]->in} << i;
    for (int i = 0; i < emulation::kWarpSize; ++i) lanes[i]->out = bits;
  });
  return mine.out;
}

namespace detail {
inline uint32_t reduce(const char* what, uint32_t x, uint32_t (*combine)(uint32_t, uint32_t)) {
  struct Arguments {
    uint32_t in, out;
    uint32_t (*combine)(uint32_t, uint32_t);
  } mine{x, 0, combine};
  collective<Arguments>(what, mine, [](Arguments* const* lanes) {
    uint32_t all = lanes[0]->in;
    for (int i = 1; i < emulation::kWarpSize; ++i) all = lanes[0]->combine(all, lanes[i]->in);
    for (int i = 0; i < emulation::kWarpSize; ++i) lanes[i]->out = all;
  });
  return mine.out;
}
}  // namespace detail
inline uint32_t reduce_add(uint32_t x) {
  return detail::reduce("reduce_add", x, [](uint32_t a, uint32_t b) { return a + b; });
}
inline uint32_t reduce_min(uint32_t x) {
  return detail::reduce("reduce_min", x, [](uint32_t a, uint32_t b) { return min(a, b); });
}
inline uint32_t reduce_max(uint32_t x) {
  return detail::reduce("reduce_max", x, [](uint32_t a, uint32_t b) { return max(a, b); });
}

namespace detail {

struct MatrixArguments {
  uint32_t* out;
  bf16 row[8];
  bool transposed;
};
inline void load_matrices(MatrixArguments* const* lanes) {
  for (int i = 0; i < emulation::kWarpSize; ++i) {
    for (int matrix = 0; matrix < 4; ++matrix) {
      const auto at = [&](int row, int column) -> uint32_t {
        return lanes[matrix * 8 + row]->row[column];
      };
      const int g = i / 4, p = 2 * (i % 4);
      lanes[i]->out[matrix] =
          lanes[i]->transposed ? at(p, g) | at(p + 1, g) << 16 : at(g, p) | at(g, p + 1) << 16;
    }
  }
}

// Each row is read when its own lane comes: what another lane writes later without a __syncwarp in
// between is not in it.
inline void load_matrices(const char* what, uint32_t (&out)[4], const void* row_in_shared,
                          bool transposed) {
  check_shared(row_in_shared, 16, what);
  MatrixArguments mine{out, {}, transposed};
  std::memcpy(mine.row, row_in_shared, 16);
  collective<MatrixArguments>(what, mine, load_matrices);
}

struct MultiplyArguments {
  float* d;
  const uint32_t* a;
  uint32_t b[2];
};
inline void multiply_bf16(MultiplyArguments* const* lanes) {
  float a[16][16], b[8][16];  // b by column
  for (int i = 0; i < emulation::kWarpSize; ++i) {
    const int g = i / 4, p = 2 * (i % 4);
    for (int half = 0; half < 2; ++half) {
      for (int k = 0; k < 2; ++k) {
        const auto value = [&](uint32_t pair) {
          return bits_to_float(half ? pair & 0xffff0000u : pair << 16);
        };
        a[g][p + half + 8 * k] = value(lanes[i]->a[2 * k]);
        a[g + 8][p + half + 8 * k] = value(lanes[i]->a[2 * k + 1]);
        b[g][p + half + 8 * k] = value(lanes[i]->b[k]);
      }
    }
  }
  for (int i = 0; i < emulation::kWarpSize; ++i) {
    const int g = i / 4, p = 2 * (i % 4);
    for (int e = 0; e < 4; ++e) {
      const int row = g + (e >= 2 ? 8 : 0), column = p + e % 2;
      float sum = 0;
      for (int k = 0; k < 16; ++k) sum += a[row][k] * b[column][k];
      lanes[i]->d[e] += sum;
    }
  }
}

inline void complete(const emulation::AsyncCopy& copy) {
  std::memcpy(copy.to, copy.from, copy.copied_bytes);
  std::memset(static_cast<char*>(copy.to) + copy.copied_bytes, 0,
              copy.size_bytes - copy.copied_bytes);
}

}  // namespace detail

inline void load_matrices(uint32_t (&out)[4], const void* row_in_shared) {
  detail::load_matrices("load_matrices", out, row_in_shared, false);
}
inline void load_matrices_transposed(uint32_t (&out)[4], const void* row_in_shared) {
  detail::load_matrices("load_matrices_transposed", out, row_in_shared, true);
}
inline void multiply_bf16(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  detail::MultiplyArguments mine{d, a, {b0, b1}};
  detail::collective("multiply_bf16", mine, detail::multiply_bf16);
}

// --- asynchronous copies -------------------------------------------------------------------------

inline void copy_async_16(void* to_shared, const void* from_global, int copied = 16) {
  detail::check_shared(to_shared, 16, "copy_async_16");
  emulation::Block& block = emulation::Block::current();
  if (copied < 0 || copied > 16 || reinterpret_cast<uintptr_t>(from_global) % 16 != 0) {
    block.fail("copy_async_16 of an address that is not aligned, or of more than 16 bytes");
  }
  const emulation::AsyncCopy copy{to_shared, from_global, 16, static_cast<uint32_t>(copied)};
  if (emulation::strictness().copies == emulation::CopyTime::kEarliest) {
    detail::complete(copy);
  } else {
    block.thread().uncommitted.push_back(copy);
  }
}
inline void copy_async_commit() {
  emulation::Thread& thread = emulation::Block::current().thread();
  thread.groups.push_back(std::move(thread.uncommitted));
  thread.uncommitted.clear();
}
template <int kPending>
void copy_async_wait() {
  auto& groups = emulation::Block::current().thread().groups;
  while (groups.size() > static_cast<size_t>(kPending)) {
    for (const emulation::AsyncCopy& copy : groups.front()) detail::complete(copy);
    groups.erase(groups.begin());
  }
}

inline uint4 load_streaming(const void* from) { return *static_cast<const uint4*>(from); }

inline void prefetch_to_second_level(const void* from, int size_bytes) {
  if (reinterpret_cast<uintptr_t>(from) % 16 != 0 || size_bytes % 16 != 0) {
    emulation::Block::current().fail("prefetch of an address or a size that is not aligned");
  }
}

// Kernels run one after the other here.
inline void wait_for_previous_kernel() {}
inline void let_next_kernel_begin() {}

// Ordered more strongly than on a GPU, because ThreadSanitizer knows nothing of fences.
template <typename T>
T atomic_add(T* address, T value) {
  static_assert(std::is_integral_v<T>);
  return __atomic_fetch_add(address, value, __ATOMIC_ACQ_REL);
}
template <typename T>
T atomic_min(T* address, T value) {
  std::atomic_ref<T> cell(*address);
  T before = cell.load();
  while (value < before && !cell.compare_exchange_weak(before, value)) {
  }
  return before;
}
template <typename T>
T atomic_max(T* address, T value) {
  std::atomic_ref<T> cell(*address);
  T before = cell.load();
  while (value > before && !cell.compare_exchange_weak(before, value)) {
  }
  return before;
}
inline void thread_fence() {
#if !defined(__SANITIZE_THREAD__)
  std::atomic_thread_fence(std::memory_order_seq_cst);
#endif
}

}  // namespace vilg::cuda
