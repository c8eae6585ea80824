// For ThreadSanitizer (scripts/racecheck.sh): kernels with a race on purpose, each of which must be
// reported, and all others at small sizes, which must not. In other builds the races go unnoticed,
// because threads of the emulation take turns. Races between blocks are seen where the blocks run
// on different threads of the system, which a few blocks do on any machine with two cores.
#include "tests/codebook_problem.h"
#include "tests/convolution_problem.h"
#include "tests/cuda/cuda_backend.h"
#include "tests/cuda/emulation.h"
#include "tests/draw_problem.h"
#include "tests/embedding_problem.h"
#include "tests/group_norm_problem.h"
#include "tests/layer_norm_problem.h"
#include "tests/loss_problem.h"
#include "tests/optimizer_problem.h"

namespace vilg::test {
namespace {

using namespace vilg::cuda;

// --- races
// -----------------------------------------------------------------------------------------

__global__ void no_barrier_kernel(float* out) {
  VILG_SHARED_MEMORY(smem);
  auto* values = reinterpret_cast<float*>(smem);
  values[threadIdx.x] = 1;
  out[threadIdx.x] = values[threadIdx.x ^ 32u];
}
VILG_TEST(race_planted_no_barrier) { results_of<float>(64, {1, 64, 256}, no_barrier_kernel); }

__global__ void one_barrier_kernel(float* out) {
  VILG_SHARED_MEMORY(smem);
  auto* values = reinterpret_cast<float*>(smem);
  float sum = 0;
  for (int i = 0; i < 3; ++i) {
    values[threadIdx.x] = static_cast<float>(i);
    __syncthreads();
    sum += values[threadIdx.x ^ 32u];  // and another before the next turn writes
  }
  out[threadIdx.x] = sum;
}
VILG_TEST(race_planted_one_barrier) { results_of<float>(64, {1, 64, 256}, one_barrier_kernel); }

__global__ void shuffle_is_no_barrier_kernel(float* out) {
  VILG_SHARED_MEMORY(smem);
  auto* values = reinterpret_cast<float*>(smem);
  values[threadIdx.x] = 1;
  const float other = shuffle_xor(2.0f, 1);
  out[threadIdx.x] = other + values[threadIdx.x ^ 1u];
}
VILG_TEST(race_planted_shuffle) {
  results_of<float>(32, {1, 32, 128}, shuffle_is_no_barrier_kernel);
}

__global__ void early_copy_kernel(float* out, const float* from) {
  VILG_SHARED_MEMORY(smem);
  auto* tile = reinterpret_cast<float*>(smem);
  for (int i = 0; i < 2; ++i) {
    copy_async_16(tile + 4 * threadIdx.x, from);
    copy_async_commit();
    copy_async_wait<0>();
    __syncthreads();
    out[threadIdx.x] = tile[4 * (63 - threadIdx.x)];
  }
}
VILG_TEST(race_planted_copy) {
  alignas(16) const float from[4] = {1, 2, 3, 4};
  results_of<float>(64, {1, 64, 1024}, early_copy_kernel, from);
}

// --- none
// ------------------------------------------------------------------------------------------

__global__ void correct_kernel(float* out, const float* from) {
  VILG_SHARED_MEMORY(smem);
  auto* tile = reinterpret_cast<float*>(smem);
  float sum = 0;
  for (int i = 0; i < 3; ++i) {
    copy_async_16(tile + 4 * threadIdx.x, from);
    copy_async_commit();
    copy_async_wait<0>();
    __syncthreads();
    sum += tile[4 * (63 - threadIdx.x)];
    __syncthreads();
    tile[threadIdx.x] = sum;
    __syncwarp();
    sum += tile[threadIdx.x ^ 7u];
    sum += block_sum(sum, tile + 64);
  }
  out[blockIdx.x * blockDim.x + threadIdx.x] = sum;
}
VILG_TEST(race_free_primitives) {
  alignas(16) const float from[4] = {1, 2, 3, 4};
  for (uint32_t seed : {0u, 3u}) {
    const Strict strict(emulation::CopyTime::kLatest, seed);
    results_of<float>(128, {2, 64, 1024}, correct_kernel, from);
  }
}

VILG_TEST(race_free_layer_norm) {
  for (int64_t channels : {40, 600}) {
    const LayerNormCase c(20, channels, DType::kFloat32, 1);
    backward(cuda_ops(), c, forward(cuda_ops(), c), true);
  }
}

VILG_TEST(race_free_embedding) {
  const EmbeddingCase c(3, 5, {40, 4, 3}, Direction::kTextToImage);
  forward(cuda_ops(), c, DType::kFloat32, DType::kFloat32);
  backward(cuda_ops(), c, DType::kFloat32, 0);
}

VILG_TEST(race_free_loss) {
  CrossEntropyCase c(4, 700, 1);
  c.label_smoothing = 0.1f;
  run(cuda_ops(), c);
  const auto x = random_floats(20000, 1);
  double sum;
  cuda_ops().squared_norm({&sum, x.data(), 20000}, context());
}

// Of every tile, and with two slices of channels.
VILG_TEST(race_free_convolution) {
  const ConvolutionCase prologue{1, 9, 9, 72, 20, 3, 3, 1, 1, 1, 1, 1, 8, 1, true, true};
  ForwardConvolution(prologue, {kF, kF, kH}).run(cuda_ops().conv2d_forward);
  const ConvolutionCase strided{1, 9, 10, 36, 5, 3, 3, 2, 0, 0, 1, 1};
  for (DType compute : {kF, kH}) {
    ForwardConvolution(strided, {kF, kF, compute}).run(cuda_ops().conv2d_forward);
    BackwardConvolution(strided, {kF, kF, compute}, true).run(cuda_ops().conv2d_backward);
  }
  const ConvolutionCase large{1, 9, 40, 8, 70, 1, 2, 1, 0, 0, 0, 0};
  ForwardConvolution(large, {kH, kH, kH}).run(cuda_ops().conv2d_forward);
}

VILG_TEST(race_free_group_norm) {
  const GroupNormProblem problem({2, 300, 12, 3}, kF, true);
  problem.forward(cuda_ops().group_norm_forward);
  problem.backward(cuda_ops().group_norm_backward);
}

VILG_TEST(race_free_image) {
  const auto x = random_floats(2 * 40 * 300, 1);
  std::vector<float> out(x.size());
  cuda_ops().transpose({out.data(), x.data(), kF, kF, 2, 40, 300}, context());
  cuda_ops().softmax_forward({out.data(), x.data(), 80, 300, 1.0f}, context());
  cuda_ops().softmax_backward({out.data(), x.data(), x.data(), 80, 300, 1.0f}, context());
}

// Behind the filter, partly or wholly, and by the exact search alone.
VILG_TEST(race_free_codebook) {
  const CodebookProblem problem = near_codes("near codes", 0.3f);
  find_codes(cuda_ops().codebook_lookup, problem, kCodebookRows);
  find_codes(cuda_ops().codebook_lookup, problem, 20);
  std::vector<int32_t> indices(3);
  cuda_ops().argmax({indices.data(), problem.codes.data(), 3, 1000}, context());
}

VILG_TEST(race_free_optimizer) { train(cuda_ops(), 1030, 1, 0.1f); }

VILG_TEST(race_free_draw) {
  const auto logits = random_floats(2 * 1100, 1, 5);
  DrawParams p;
  p.logits = logits.data();
  p.rows = 2, p.vocab = 1100;
  for (float temperature : {0.0f, 0.7f}) {
    p.temperature = temperature, p.top_k = 100, p.top_p = 0.9f;
    run(cuda_ops(), p);
  }
}

}  // namespace
}  // namespace vilg::test
