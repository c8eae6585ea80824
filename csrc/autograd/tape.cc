#include "autograd/tape.h"

namespace vilg {

void Tape::backward() {
  while (!steps_.empty()) {
    context_.check_stop();
    // moved out first: the closure's inputs are freed when it goes, before the next step allocates
    const std::function<void()> step = std::move(steps_.back());
    steps_.pop_back();
    step();
  }
}

Tensor Tape::grad_buffer(const Value& node, bool& accumulate) const {
  accumulate = node->grad.defined();
  if (!accumulate) node->grad = backend_->empty(DType::kFloat32, node->data.shape());
  return node->grad;
}

void Tape::add_grad(const Value& node, Tensor grad) {
  if (!node->needs_grad) return;
  if (!node->grad.defined()) {
    node->grad = std::move(grad);
    return;
  }
  AddParams params;
  params.out = node->grad.data();
  params.x = node->grad.data();
  params.y = grad.data();
  params.num_elements = grad.num_elements();
  ops().add(params, context_);
}

Tensor Tape::grad_buffer(Parameter& parameter) const {
  if (parameter.frozen) return {};
  if (!parameter.grad.defined()) {
    parameter.grad = backend_->zeros(DType::kFloat32, parameter.value.shape());
  }
  return parameter.grad;
}

Value run_section(Tape& tape, Value x, Section section) {
  if (!tape.recomputes()) return section(tape, std::move(x));
  const StopFlag* stop = tape.context().stop;
  Tape forward(tape.backend(), tape.compute(), stop);
  const Value result = tape.result(section(forward, x)->data, /*needs_grad=*/true);
  tape.record([&tape, x, section = std::move(section), result, stop] {
    if (!result->grad) return;
    Tape again(tape.backend(), GradientMode(tape.compute()), stop);
    const Value input = again.value(x->data, x->needs_grad);
    const Value output = section(again, input);
    output->grad = std::move(result->grad);
    result->grad = Tensor();
    again.backward();
    if (input->grad) tape.add_grad(x, std::move(input->grad));
  });
  return result;
}

}  // namespace vilg
