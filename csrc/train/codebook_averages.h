#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "autograd/tape.h"

namespace vilg {

struct CodebookAveragesOptions {
  float decay = 0.99f;    // share of the old averages that an update keeps, below 1
  float epsilon = 1e-5f;  // Laplace smoothing of the counts
  // Throws kInvalidArgument.
  void validate() const;
};

// The codebook as moving averages of the vectors that chose each code, instead of by gradient (van
// den Oord et al. 2017, appendix A.1): with n_i vectors of sum s_i in an update,
//   N_i = decay N_i + (1 - decay) n_i;  m_i = decay m_i + (1 - decay) s_i;  e_i = m_i / N'_i
// where N'_i = (N_i + epsilon) / (N + K epsilon) N, N the sum of all K counts, keeps rare codes
// away from a division by zero.
class CodebookAverages {
 public:
  // Averages that give the codebook as it is, one vector a code.
  CodebookAverages(Backend& backend, const Parameter& codebook,
                   const CodebookAveragesOptions& options);

  // Vectors (rows, D) on the backend, and the codes that they chose.
  void gather(const Tensor& vectors, std::span<const int32_t> indices);
  // One update of the averages and of the codebook from what was gathered since the last one.
  void update(Parameter& codebook);
  // Forgets what was gathered.
  void discard();
  // These codes are as they are in the codebook now: one vector each.
  void reset(const Parameter& codebook, std::span<const int32_t> codes);
  void reset(const Parameter& codebook);  // all

  // All the state there is between two updates: N (K) and m (K * D).
  const std::vector<float>& counts() const { return counts_; }
  const std::vector<float>& sums() const { return sums_; }
  void restore(std::vector<float> counts, std::vector<float> sums);

 private:
  std::vector<float> read(const Parameter& codebook) const;

  Backend* backend_;
  CodebookAveragesOptions options_;
  int64_t size_, dim_;
  std::vector<float> counts_, sums_;
  std::vector<int64_t> new_counts_;
  Tensor new_sums_;  // (K, D)
};

}  // namespace vilg
