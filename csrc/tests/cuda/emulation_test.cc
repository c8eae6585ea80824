// The wrappers of cuda/emulation/device.h against values worked out by hand from the PTX manual.
// On a GPU, the same wrappers of cuda/ptx.h are compared with these.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "tests/cuda/emulation.h"

namespace vilg::test {
namespace {

using namespace vilg::cuda;

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

// --- lanes of a warp exchange
// ---------------------------------------------------------------------

struct Exchanged {
  int xor_, from, up, down;
  uint32_t even, sum, least, most;
  double wide;
  float all, largest;
};

__global__ void exchange_kernel(Exchanged* out) {
  const int lane = lane_id();
  Exchanged& mine = out[threadIdx.x];
  mine.xor_ = shuffle_xor(10 * lane, 5);
  mine.from = shuffle(10 * lane, (lane + 3) % 32);
  mine.up = shuffle_up(10 * lane, 4);
  mine.down = shuffle_down(10 * lane, 4);
  mine.even = ballot(lane % 2 == 0);
  mine.sum = reduce_add(static_cast<uint32_t>(lane) + 0x80000000u * (lane < 2));
  mine.least = reduce_min(static_cast<uint32_t>(100 - lane));
  mine.most = reduce_max(static_cast<uint32_t>(100 - lane));
  mine.wide = shuffle_xor(1e300 * lane, 1);
  mine.all = warp_sum(static_cast<float>(lane));
  mine.largest = warp_max(-static_cast<float>(lane) - 1);
}

VILG_TEST(emulation_exchange) {
  const auto results = results_of<Exchanged>(64, {1, 64}, exchange_kernel);
  for (int i = 0; i < 64; ++i) {
    const Exchanged& r = results[static_cast<size_t>(i)];
    const int lane = i % 32;
    EXPECT(r.xor_ == 10 * (lane ^ 5), "lane %d", i);
    EXPECT(r.from == 10 * ((lane + 3) % 32), "lane %d", i);
    EXPECT(r.up == 10 * (lane < 4 ? lane : lane - 4), "lane %d", i);
    EXPECT(r.down == 10 * (lane >= 28 ? lane : lane + 4), "lane %d", i);
    EXPECT(r.even == 0x55555555u, "lane %d: %x", i, r.even);
    EXPECT(r.sum == 31 * 16 && r.least == 69 && r.most == 100, "lane %d", i);  // modulo 2^32
    EXPECT(r.wide == 1e300 * (lane ^ 1), "lane %d", i);
    EXPECT(r.all == 31 * 16 && r.largest == -1, "lane %d", i);
  }
}

__global__ void block_reduction_kernel(double* out) {
  VILG_SHARED_MEMORY(smem);
  auto* doubles = reinterpret_cast<double*>(smem);
  auto* floats = reinterpret_cast<float*>(smem);
  const auto thread = static_cast<int>(threadIdx.x);
  double total = 0;
  for (int i = 0; i < 3; ++i) {  // the scratch memory is free again
    total += block_sum(static_cast<double>(thread + i), doubles);
    total += 1e6 * static_cast<double>(block_max(static_cast<float>(-thread - i), floats));
  }
  out[thread] = total;
}

VILG_TEST(emulation_block_reductions) {
  for (int threads : {32, 64, 96, 256, 1024}) {
    const auto results = results_of<double>(
        static_cast<size_t>(threads), {1, threads, 32 * sizeof(double)}, block_reduction_kernel);
    const double sum = threads * (threads - 1) / 2.0;
    const double expected = 3 * sum + threads * 3.0 - 1e6 * 3;
    for (double value : results) EXPECT(value == expected, "%d: %g", threads, value);
  }
}

// --- conversions
// ----------------------------------------------------------------------------------

__global__ void conversion_kernel(uint32_t* out, const float* x) {
  const auto i = threadIdx.x;
  out[2 * i] = pack_bf16(x[i], x[31 - i]);
  out[2 * i + 1] = float_to_bits(exp2_fast(x[i]));
}

VILG_TEST(emulation_conversions) {
  std::vector<float> x(32, 0.0f);
  const float first[] = {1,    -2.5f, 0x1.01p0f, 0x1.03p0f, 0x1.010002p0f, 3.4e38f, kInf, -kInf,
                         kNan, -0.0f, 1e-40f,    10,        -126,          -126.5f, -150, 0.5f,
                         128};
  std::copy(std::begin(first), std::end(first), x.begin());
  const auto results = results_of<uint32_t>(64, {1, 32}, conversion_kernel, x.data());
  const auto low = [&](size_t i) { return results[2 * i] & 0xffffu; };
  // ties to even, up beyond the tie, to infinity beyond the largest; NaN has one pattern
  const uint32_t expected[] = {0x3f80, 0xc020, 0x3f80, 0x3f82, 0x3f81, 0x7f80,
                               0x7f80, 0xff80, 0x7fff, 0x8000, 0x0001};
  for (size_t i = 0; i < std::size(expected); ++i) {
    EXPECT(low(i) == expected[i], "bf16 of %g: %x", static_cast<double>(x[i]), low(i));
    EXPECT(results[2 * (31 - i)] >> 16 == expected[i], "the upper half");
  }
  const auto power = [&](size_t i) {
    float value;
    std::memcpy(&value, &results[2 * i + 1], 4);
    return value;
  };
  EXPECT(power(0) == 2 && power(6) == kInf && power(7) == 0 && std::isnan(power(8)), "extremes");
  EXPECT(power(9) == 1 && power(10) == 1, "2^0 of zeros and subnormals");
  EXPECT(power(11) == 1024 && power(12) == 0x1p-126f, "powers of two");
  EXPECT(power(13) == 0 && power(14) == 0, "subnormal results are zero");
  EXPECT(std::abs(power(15) - std::sqrt(2.0f)) < 3e-7f && power(16) == kInf, "others");
}

__global__ void vector_kernel(float* out, const bf16* half, const float* full) {
  const auto i = threadIdx.x;
  const Vector<bf16, 8> a = load_vector<8>(half + 8 * i);
  const Vector<float, 4> b = load_vector<4>(full + 4 * i);
  const uint4 streamed = load_streaming(full + 4 * i);
  Vector<float, 4> sum;
  for (int e = 0; e < 4; ++e) sum[e] = cuda::to_float(a[e]) + cuda::to_float(a[4 + e]) + b[e];
  sum[3] += bits_to_float(streamed.w) + low_bf16(0x3f804000u) + 10 * high_bf16(0x3f804000u);
  store_vector<4>(out + 4 * i, sum);
}

VILG_TEST(emulation_vectors) {
  alignas(16) bf16 half[256];
  alignas(16) float full[128];
  for (int i = 0; i < 256; ++i) half[i] = float_to_bf16(static_cast<float>(i % 64));
  for (int i = 0; i < 128; ++i) full[i] = static_cast<float>(1000 * i);
  const auto results = results_of<float>(128, {1, 32}, vector_kernel, half, full);
  for (int i = 0; i < 128; ++i) {
    const int thread = i / 4, e = i % 4;
    const int expected = 1000 * i + (8 * thread + e) % 64 + (8 * thread + 4 + e) % 64 +
                         (e == 3 ? 1000 * i + 2 + 10 : 0);
    EXPECT(results[static_cast<size_t>(i)] == static_cast<float>(expected), "%d", i);
  }
}

__global__ void words_kernel(int64_t* out) {
  const int64_t values[] = {__popc(0xf0f00001u),
                            __clz(1),
                            __clz(0),
                            __ffs(0),
                            __ffs(8),
                            min(3, 4),
                            max(int64_t{3}, int64_t{4}),
                            static_cast<int64_t>(4 * rsqrtf(4.0f)),
                            static_cast<int64_t>(fmaf(2.0f, 3.0f, 4.0f)),
                            static_cast<int64_t>(__fadd_rn(__fmul_rn(2.0f, 3.0f), 4.0f)),
                            static_cast<int64_t>(__fdiv_rn(9.0f, 3.0f)),
                            static_cast<int64_t>(__fsqrt_rn(49.0f))};
  if (threadIdx.x == 0) std::memcpy(out, values, sizeof values);
}

VILG_TEST(emulation_words) {
  const int64_t expected[] = {9, 31, 32, 0, 4, 3, 4, 2, 10, 10, 3, 7};
  const auto results = results_of<int64_t>(std::size(expected), {1, 32}, words_kernel);
  for (size_t i = 0; i < std::size(expected); ++i) {
    EXPECT(results[i] == expected[i], "%zu: %lld", i, static_cast<long long>(results[i]));
  }
}

// --- matrices
// -------------------------------------------------------------------------------------

__global__ void matrices_kernel(uint32_t* out, bool transposed) {
  VILG_SHARED_MEMORY(smem);
  auto* rows = reinterpret_cast<bf16*>(smem);  // 32 rows of 8, stored last first
  const int lane = lane_id();
  for (int column = 0; column < 8; ++column) {
    rows[(31 - lane) * 8 + column] = static_cast<bf16>(lane / 8 * 100 + lane % 8 * 10 + column);
  }
  __syncwarp();
  uint32_t matrices[4];
  if (transposed) {
    load_matrices_transposed(matrices, rows + (31 - lane) * 8);
  } else {
    load_matrices(matrices, rows + (31 - lane) * 8);
  }
  for (int i = 0; i < 4; ++i) out[4 * lane + i] = matrices[i];
}

VILG_TEST(emulation_load_matrices) {
  for (bool transposed : {false, true}) {
    const auto results = results_of<uint32_t>(128, {1, 32, 512}, matrices_kernel, transposed);
    for (uint32_t lane = 0; lane < 32; ++lane) {
      for (uint32_t i = 0; i < 4; ++i) {
        // thread 0 holds elements 0 and 1 of row 0, thread 1 elements 2 and 3, thread 4 row 1
        const uint32_t row = lane / 4, column = 2 * (lane % 4);
        const uint32_t first = i * 100 + (transposed ? column * 10 + row : row * 10 + column);
        const uint32_t expected = first | (first + (transposed ? 10 : 1)) << 16;
        EXPECT(results[4 * lane + i] == expected, "lane %u, matrix %u: %x", lane, i,
               results[4 * lane + i]);
      }
    }
  }
}

__global__ void multiply_kernel(float* out, const uint32_t* a, const uint32_t* b) {
  const int lane = lane_id();
  uint32_t mine[4];
  float d[4];
  for (int i = 0; i < 4; ++i) mine[i] = a[4 * lane + i], d[i] = static_cast<float>(lane + 100 * i);
  multiply_bf16(d, mine, b[2 * lane], b[2 * lane + 1]);
  for (int i = 0; i < 4; ++i) out[4 * lane + i] = d[i];
}

VILG_TEST(emulation_multiply) {
  // small integers, exact in bf16 and in any order of summation
  int a[16][16], b[16][8];
  for (int i = 0; i < 16; ++i) {
    for (int k = 0; k < 16; ++k) a[i][k] = (i * 7 + k * 3) % 11 - 5;
    for (int j = 0; j < 8; ++j) b[i][j] = (i * 5 + j * 2) % 13 - 6;
  }
  const auto pair = [](int first, int second) {
    return uint32_t{float_to_bf16(static_cast<float>(first))} |
           uint32_t{float_to_bf16(static_cast<float>(second))} << 16;
  };
  // by the manual: groupID = lane >> 2, threadID_in_group = lane % 4;
  // a_i: row groupID for i < 2 or 4 <= i < 6, else groupID + 8;
  //      column threadID_in_group * 2 + (i & 1), + 8 for i >= 4
  std::vector<uint32_t> fragments_a, fragments_b;
  for (int lane = 0; lane < 32; ++lane) {
    const int group = lane >> 2, thread = lane % 4;
    for (int i = 0; i < 8; i += 2) {
      const int row = i < 2 || (i >= 4 && i < 6) ? group : group + 8;
      const int column = thread * 2 + (i >= 4 ? 8 : 0);
      fragments_a.push_back(pair(a[row][column], a[row][column + 1]));
    }
    for (int i = 0; i < 4; i += 2) {
      const int row = thread * 2 + (i >= 2 ? 8 : 0);
      fragments_b.push_back(pair(b[row][group], b[row + 1][group]));
    }
  }
  const auto results =
      results_of<float>(128, {1, 32}, multiply_kernel, fragments_a.data(), fragments_b.data());
  for (int lane = 0; lane < 32; ++lane) {
    for (int i = 0; i < 4; ++i) {
      const int row = (lane >> 2) + (i < 2 ? 0 : 8), column = lane % 4 * 2 + (i & 1);
      int expected = lane + 100 * i;
      for (int k = 0; k < 16; ++k) expected += a[row][k] * b[k][column];
      EXPECT(results[static_cast<size_t>(4 * lane + i)] == static_cast<float>(expected),
             "lane %d, %d", lane, i);
    }
  }
}

// --- asynchronous copies
// ----------------------------------------------------------------------------

__global__ void copy_kernel(float* out, const float* from) {
  VILG_SHARED_MEMORY(smem);
  auto* tiles = reinterpret_cast<float*>(smem);  // two of 32 x 4
  const int lane = lane_id();
  copy_async_16(tiles + 4 * lane, from + 4 * lane, lane % 17);
  copy_async_commit();
  copy_async_16(tiles + 128 + 4 * lane, from + 128 + 4 * lane);
  copy_async_commit();
  copy_async_commit();  // of nothing, which may be left pending
  copy_async_wait<2>();
  __syncwarp();
  for (int e = 0; e < 4; ++e) out[4 * lane + e] = tiles[4 * (31 - lane) + e];
  copy_async_wait<1>();
  __syncwarp();
  for (int e = 0; e < 4; ++e) out[128 + 4 * lane + e] = tiles[128 + 4 * (31 - lane) + e];
}

VILG_TEST(emulation_copies) {
  alignas(16) float from[256];
  for (int i = 0; i < 256; ++i) from[i] = static_cast<float>(i + 1);
  for (auto copies : {emulation::CopyTime::kLatest, emulation::CopyTime::kEarliest}) {
    const Strict strict(copies);
    const auto results = results_of<float>(256, {1, 32, 1024}, copy_kernel, from);
    for (int i = 0; i < 128; ++i) {
      const int lane = 31 - i / 4, e = i % 4;
      unsigned char partial[16] = {};  // `copied` bytes, then zeros
      std::memcpy(partial, from + 4 * lane, static_cast<size_t>(lane % 17));
      float expected;
      std::memcpy(&expected, partial + 4 * e, 4);
      EXPECT(results[static_cast<size_t>(i)] == expected, "part of a copy, %d", i);
      EXPECT(results[static_cast<size_t>(128 + i)] == from[128 + 4 * lane + e], "%d", i);
    }
  }
}

// --- atomics, grids
// ---------------------------------------------------------------------------------

__global__ void atomics_kernel(int32_t* out) {
  const auto thread = static_cast<int32_t>(blockIdx.x * blockDim.x + threadIdx.x);
  atomic_add(out, thread);
  atomic_min(out + 1, -thread);
  atomic_max(out + 2, thread);
  auto* wide = reinterpret_cast<uint64_t*>(out + 4);
  atomic_add(wide, uint64_t{1} << 33);
  thread_fence();
  if (atomic_add(out + 3, 1) == 511) out[6] = out[0];  // the last of all
}

VILG_TEST(emulation_atomics) {
  Queue& queue = emulated_queue();
  Workspace memory(queue.allocator(), 32);
  queue.fill(memory.data(), 0, 32);
  launch(queue, {8, 64}, atomics_kernel, memory.as<int32_t>());
  int32_t results[8];
  queue.copy_out(results, memory.data(), 32);
  uint64_t wide;
  std::memcpy(&wide, results + 4, 8);
  EXPECT(results[0] == 511 * 256 && results[1] == -511 && results[2] == 511, "%d %d %d", results[0],
         results[1], results[2]);
  EXPECT(wide == uint64_t{512} << 33 && results[3] == 512 && results[6] == results[0], "the last");
}

__global__ void grid_kernel(uint32_t* out) {
  const uint32_t block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
  const uint32_t block_of_index = blockIdx.x + 10 * blockIdx.y + 100 * blockIdx.z;
  out[block * blockDim.x + threadIdx.x] =
      block_of_index + 1000 * threadIdx.x + 100000 * (gridDim.x + gridDim.y + gridDim.z);
}

VILG_TEST(emulation_grids) {
  for (uint32_t seed : {0u, 1u, 5u}) {
    const Strict strict(emulation::CopyTime::kLatest, seed);
    const auto results = results_of<uint32_t>(2 * 3 * 4 * 64, {dim3(4, 3, 2), 64}, grid_kernel);
    size_t i = 0;
    for (uint32_t z = 0; z < 2; ++z) {
      for (uint32_t y = 0; y < 3; ++y) {
        for (uint32_t x = 0; x < 4; ++x) {
          for (uint32_t thread = 0; thread < 64; ++thread, ++i) {
            const uint32_t expected = x + 10 * y + 100 * z + 1000 * thread + 100000 * 9;
            EXPECT(results[i] == expected, "%zu: %u", i, results[i]);
          }
        }
      }
    }
  }
}

// --- the queue
// --------------------------------------------------------------------------------------

__global__ void increment_kernel(float* out, const float* x) {
  out[threadIdx.x] = x[threadIdx.x] + 1;
}

VILG_TEST(emulation_recordings) {
  const auto queue = open_queue(0);
  Workspace x(queue->allocator(), 128), y(queue->allocator(), 128), z(queue->allocator(), 128);
  const auto first = [&](const Workspace& memory) {
    float value;
    queue->copy_out(&value, memory.data(), 4);
    return value;
  };
  const std::vector<float> ones(32, 1.0f), tens(32, 10.0f);
  queue->copy_in(x.data(), ones.data(), 128);

  queue->begin_recording();
  EXPECT(queue->recording(), "begun");
  {
    Workspace between(queue->allocator(), 128);
    launch(*queue, {1, 32}, increment_kernel, between.as<float>(), x.as<float>());
    launch(*queue, {1, 32}, increment_kernel, y.as<float>(), between.as<float>());
  }
  queue->copy(z.data(), y.data(), 64);
  queue->fill(z.as<char>() + 64, 0, 64);
  EXPECT_ERROR(kInternal, queue->begin_recording());
  EXPECT_ERROR(kInternal, queue->copy_in(x.data(), tens.data(), 128));
  EXPECT_ERROR(kInternal, first(y));
  EXPECT_ERROR(kInternal, queue->synchronize());
  std::unique_ptr<Recording> recording = queue->end_recording();
  EXPECT(!queue->recording() && std::isnan(first(y)), "recorded work has not run");

  // what comes after does not get the workspace that the recording uses
  Workspace after(queue->allocator(), 128);
  queue->copy_in(after.data(), tens.data(), 128);
  queue->replay(*recording);
  EXPECT(first(y) == 3 && first(z) == 3 && first(after) == 10, "%g %g", first(y), first(z));
  queue->copy_in(x.data(), tens.data(), 128);
  queue->replay(*recording);
  EXPECT(first(y) == 12 && first(z) == 12, "read anew: %g", first(y));
  float last;
  queue->copy_out(&last, z.as<char>() + 124, 4);
  EXPECT(last == 0, "fill");

  queue->begin_recording();
  launch(*queue, {1, 32}, increment_kernel, y.as<float>(), x.as<float>());
  EXPECT_ERROR(kInternal, queue->replay(*recording));
  queue->abandon_recording();
  EXPECT(!queue->recording() && first(y) == 12, "abandoned");
  EXPECT_ERROR(kInternal, queue->end_recording());
  recording.reset();
  Workspace again(queue->allocator(), 128);  // which the recording had
  EXPECT(std::isnan(first(again)), "fresh memory");
}

VILG_TEST(emulation_memory) {
  const auto queue = open_queue(0);
  Allocator& allocator = queue->allocator();
  for (size_t size : {1, 100, 4096}) {
    Workspace memory(allocator, size);
    EXPECT(reinterpret_cast<uintptr_t>(memory.data()) % 256 == 0, "alignment");
    std::vector<unsigned char> bytes(size);
    queue->copy_out(bytes.data(), memory.data(), size);
    EXPECT(std::count(bytes.begin(), bytes.end(), 0xff) == static_cast<std::ptrdiff_t>(size),
           "fresh memory is poisoned, though it was used before");
    queue->fill(memory.data(), 0, size);
    EXPECT(allocator.bytes_in_use() >= size, "in use");
  }
  EXPECT(allocator.bytes_in_use() == 0 && allocator.peak_bytes() >= 4096, "peak");
  allocator.reset_peak();
  EXPECT(allocator.peak_bytes() == 0, "peak");
  EXPECT_ERROR(kOutOfMemory, allocator.allocate(size_t{1} << 46));
  EXPECT_ERROR(kInvalidArgument, open_queue(1));
  queue->start_timer();
  EXPECT(queue->stop_timer() >= 0, "time");
  EXPECT(queue->properties().emulated, "emulated");
}

}  // namespace
}  // namespace vilg::test
