#pragma once

#include <optional>
#include <string>
#include <vector>

#include "model/parameters.h"

namespace vilg {

// Weights that learn otherwise than the rest.
struct ParameterGroup {
  std::vector<std::string> weights;  // names, in which * stands for any characters
  float learning_rate_scale = 1.0f;  // 0: frozen
  std::optional<float> weight_decay = {};
};

struct OptimizerOptions {
  float beta1 = 0.9f, beta2 = 0.95f, epsilon = 1e-8f;
  float weight_decay = 0.0f;  // on the weights whose ParameterSpec says so: matrices of layers, not
                              // norms and embeddings
  float clip_norm = 1.0f;     // of the whole gradient; 0: off
  std::vector<ParameterGroup> groups = {};  // the first that names a weight decides
};

// AdamW over the weights of a model, with clipping by the global norm. States are float32; frozen
// weights have none.
class Optimizer {
 public:
  Optimizer(ParameterList& parameters, const OptimizerOptions& options);
  // Throws what the constructor would, without taking memory.
  static void check(ParameterList& parameters, const OptimizerOptions& options);

  struct Result {
    double gradient_norm = 0;  // before clipping
    bool applied = false;      // false: the gradient was not finite and nothing was changed
  };
  // One update from the gradients gathered so far, which are zero afterwards.
  Result step(float learning_rate, const StopFlag* stop);
  // Of the gradients gathered so far.
  double gradient_norm() const;

  int64_t steps() const { return steps_; }
  void set_steps(int64_t steps) { steps_ = steps; }
  ParameterList& parameters() const { return *parameters_; }
  // By the weights' order; a weight that is frozen in training has no gradient.
  const std::vector<bool>& frozen() const { return frozen_; }
  // By the weights' order, in memory layout; undefined for frozen ones.
  Tensor& first_moment(size_t index) { return m_[index]; }
  Tensor& second_moment(size_t index) { return v_[index]; }

 private:
  ParameterList* parameters_;
  OptimizerOptions options_;
  int64_t steps_ = 0;
  std::vector<Tensor> m_, v_;
  std::vector<bool> frozen_;
};

// Whether `pattern`, in which * stands for any characters, also none, is the whole of `name`.
bool matches_name(std::string_view pattern, std::string_view name);

}  // namespace vilg
