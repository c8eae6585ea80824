#pragma once

#include <utility>
#include <vector>

#include "model/parameters.h"

namespace vilg {

// The gradients of a model's weights belong to who computes them (a trainer, or one call of
// gradients()). For the time of a scope they lie in the weights; between scopes with their owner,
// so that several owners never mix theirs. Needs the model for itself.
class GradientScope {
 public:
  // `gradients`: empty, or what an earlier scope over the same model left there.
  GradientScope(ParameterList& parameters, std::vector<Tensor>& gradients)
      : parameters_(parameters), gradients_(gradients) {
    gradients_.resize(parameters.all().size());
    swap();
  }
  ~GradientScope() { swap(); }
  GradientScope(const GradientScope&) = delete;
  GradientScope& operator=(const GradientScope&) = delete;

 private:
  void swap() {
    for (size_t i = 0; i < gradients_.size(); ++i) {
      std::swap(parameters_.all()[i].grad, gradients_[i]);
    }
  }

  ParameterList& parameters_;
  std::vector<Tensor>& gradients_;
};

}  // namespace vilg
