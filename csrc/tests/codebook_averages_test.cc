#include "train/codebook_averages.h"

#include <cmath>

#include "tests/fixtures.h"
#include "tests/harness.h"

namespace vilg::test {

VILG_TEST(codebook_averages_by_hand) {
  for (Backend* backend : backends()) {
    const std::vector<float> codes = {1, 2, 3, 4, 5, 6};
    Parameter codebook{.name = "codebook",
                       .value = backend->upload(codes.data(), DType::kFloat32, {3, 2}),
                       .grad = {}};
    CodebookAverages averages(*backend, codebook, {.decay = 0.75f, .epsilon = 0.5f});
    const std::vector<float> vectors = {10, 20, 30, 40, -1, -2};
    // two micro-batches: code 0 twice, code 2 once
    const Tensor rows = backend->upload(vectors.data(), DType::kFloat32, {3, 2});
    averages.gather(rows, std::vector<int32_t>{0, 0, 2});
    averages.update(codebook);
    const double n[] = {0.75 + 0.25 * 2, 0.75, 0.75 + 0.25};
    const double smoothing = 3 / (3 + 3 * 0.5);
    const double expected[] = {0.75 * 1 + 0.25 * 40,   0.75 * 2 + 0.25 * 60,  0.75 * 3, 0.75 * 4,
                               0.75 * 5 + 0.25 * -1.0, 0.75 * 6 + 0.25 * -2.0};
    std::vector<float> actual(6);
    backend->copy_out(actual.data(), codebook.value.data(), codebook.value.size_bytes());
    for (size_t i = 0; i < 6; ++i) {
      const double code = expected[i] / ((n[i / 2] + 0.5) * smoothing);
      EXPECT(std::abs(actual[i] - code) < 1e-5, "%s: %zu: %g, %g", backend->device(), i,
             static_cast<double>(actual[i]), code);
    }
    // what was discarded does not count: every count falls alike
    averages.gather(rows, std::vector<int32_t>{1, 1, 1});
    averages.discard();
    averages.update(codebook);
    EXPECT(std::abs(averages.counts()[1] - 0.75f * 0.75f) < 1e-6f, "%s", backend->device());
    averages.reset(codebook, std::vector<int32_t>{1});
    EXPECT(averages.counts()[1] == 1 && averages.counts()[0] < 1, "%s", backend->device());
  }
}

}  // namespace vilg::test
