#include "tests/image_ops_problem.h"

#include "tests/cuda/cuda_backend.h"

namespace vilg::test {

VILG_TEST(cuda_leaky_relu) { check_leaky_relu(cuda_ops(), "cuda"); }
VILG_TEST(cuda_max_pool) { check_max_pool(cuda_ops(), "cuda"); }
VILG_TEST(cuda_gumbel_noise) { check_gumbel_noise(cuda_ops(), "cuda"); }
VILG_TEST(cuda_uniform_divergence) { check_uniform_divergence(cuda_ops(), "cuda"); }
VILG_TEST(cuda_logit_laplace) { check_logit_laplace(cuda_ops(), "cuda"); }
VILG_TEST(cuda_feature_distance) { check_feature_distance(cuda_ops(), "cuda"); }

}  // namespace vilg::test
