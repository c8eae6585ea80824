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

// How gradients are computed.
struct GradientMode {
  GradientMode(DType type = DType::kFloat32, bool again = false)
      : compute(type), recompute(again) {}

  DType compute;  // the type of products (MatmulParams::compute)
  // Sections (see below) keep their input alone and run again when gradients arrive: the same bits,
  // a third more work, and the memory of one section instead of all.
  bool recompute;
};

// Records what each op must do to send gradients back, and replays it in reverse. Without recording
// (inference) ops run the same way and their inputs are freed as soon as nobody holds them.
class Tape {
 public:
  // Records nothing.
  explicit Tape(Backend& backend, DType compute = DType::kFloat32, const StopFlag* stop = nullptr)
      : backend_(&backend), context_(backend.context(stop)), mode_(compute) {}
  // Records.
  Tape(Backend& backend, const GradientMode& mode, const StopFlag* stop)
      : backend_(&backend), context_(backend.context(stop)), mode_(mode), recording_(true) {}

  Backend& backend() const { return *backend_; }
  const OpTable& ops() const { return backend_->ops(); }
  OpContext& context() { return context_; }
  bool recording() const { return recording_; }
  DType compute() const { return mode_.compute; }
  // Whether sections run again backward.
  bool recomputes() const { return recording_ && mode_.recompute; }

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
  GradientMode mode_;
  bool recording_ = false;
  std::vector<std::function<void()>> steps_;
};

// A part of a network between two activations, which depends on x and on parameters alone; what it
// captures has to live as long as the tape. Where the tape recomputes, x is all that is kept of it
// for the way back (Chen et al. 2016, the paper's [44]).
using Section = std::function<Value(Tape& tape, Value x)>;
Value run_section(Tape& tape, Value x, Section section);

}  // namespace vilg
