#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "kernels/backend.h"

namespace vilg {

// One weight of a model. `value` is what ops read: float32 when training; in bfloat16 models
// matrices are bfloat16 and vectors float32. `grad` (float32, same shape) exists from the first
// backward pass that reaches it on, and adds up until zero_grad.
struct Parameter {
  std::string name;
  Tensor value;
  Tensor grad;
  bool frozen = false;  // no gradient is computed

  int64_t num_elements() const { return value.num_elements(); }
};

// A tensor in a computation, and where its gradient adds up.
struct Node {
  Tensor data;
  Tensor grad;  // float32, like data; undefined until something flows back
  bool needs_grad = false;
};
using Value = std::shared_ptr<Node>;

// Records what each op must do to send gradients back, and replays it in reverse. Without recording
// (inference) ops run the same way and their inputs are freed as soon as nobody holds them.
class Tape {
 public:
  Tape(Backend& backend, bool recording, DType compute = DType::kFloat32,
       const StopFlag* stop = nullptr)
      : backend_(&backend),
        context_(backend.context(stop)),
        compute_(compute),
        recording_(recording) {}

  Backend& backend() const { return *backend_; }
  const OpTable& ops() const { return backend_->ops(); }
  OpContext& context() { return context_; }
  bool recording() const { return recording_; }
  // The type in which products are computed (MatmulParams::compute).
  DType compute() const { return compute_; }

  Value value(Tensor data, bool needs_grad = false) const {
    auto node = std::make_shared<Node>();
    node->data = std::move(data);
    node->needs_grad = recording_ && needs_grad;
    return node;
  }
  // An op's result: needs a gradient when one of its inputs does.
  Value result(Tensor data, bool needs_grad) const { return value(std::move(data), needs_grad); }

  void record(std::function<void()> backward) {
    if (recording_) steps_.push_back(std::move(backward));
  }

  // Runs the recorded steps in reverse, freeing each one's inputs after it. Seeds are set by the
  // loss ops, which write their input's gradient themselves.
  void backward();

  // Where an op writes the gradient of `node`: allocated at the first request; `accumulate` is
  // false exactly then.
  Tensor grad_buffer(const Value& node, bool& accumulate) const;
  // Adds a whole gradient to `node`, or hands it over when there is none yet.
  void add_grad(const Value& node, Tensor grad);
  // Where an op adds the gradient of a parameter; zeroed at the first request. Undefined for frozen
  // ones.
  Tensor grad_buffer(Parameter& parameter) const;

 private:
  Backend* backend_;
  OpContext context_;
  DType compute_;
  bool recording_;
  std::vector<std::function<void()>> steps_;
};

}  // namespace vilg
