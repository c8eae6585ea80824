#include "model/lpips.h"

#include "autograd/convolutional_ops.h"
#include "autograd/image_losses.h"
#include "autograd/image_ops.h"
#include "autograd/ops.h"
#include "model/checkpoint.h"

namespace vilg {
namespace {

constexpr int64_t kChannels[] = {64, 128, 256, 512, 512};
constexpr int kConvolutions[] = {2, 2, 3, 3, 3};
constexpr int64_t kMinSide = 16;  // halved four times

// Number of each convolution in torchvision's list, where every one is followed by a ReLU, and
// every block by a pooling.
int number_of(int block, int convolution) {
  int number = 0;
  for (int b = 0; b < block; ++b) number += 2 * kConvolutions[b] + 1;
  return number + 2 * convolution;
}
std::string convolution_name(int block, int convolution) {
  return "features." + std::to_string(number_of(block, convolution));
}
std::string head_name(int block) { return "lin" + std::to_string(block) + ".model.1.weight"; }

std::vector<ParameterSpec> lpips_parameters() {
  std::vector<ParameterSpec> specs;
  int64_t ins = 3;
  for (int block = 0; block < 5; ++block) {
    const int64_t outs = kChannels[block];
    for (int i = 0; i < kConvolutions[block]; ++i) {
      const std::string name = convolution_name(block, i);
      specs.push_back({name + ".weight", {outs, ins, 3, 3}, {}, /*convolution=*/true});
      specs.push_back({name + ".bias", {outs}, {}});
      ins = outs;
    }
    specs.push_back({head_name(block), {1, outs, 1, 1}, {}, /*convolution=*/true});
  }
  return specs;
}

// The rest of VGG16, its classifier, may be in the file too.
void require_all(const LoadReport& report, const std::string& path) {
  VILG_CHECK(report.missing.empty(), kCheckpointIncompatible,
             "%s: expected the weights of LPIPS (VGG16 as features.0.weight and so on, the linear "
             "heads as lin0.model.1.weight and so on), %zu are missing, the first is %s",
             path.c_str(), report.missing.size(), report.missing[0].c_str());
}

}  // namespace

void Lpips::check(const std::string& path, int64_t side) {
  VILG_CHECK(side >= kMinSide, kInvalidArgument,
             "Expected pictures of at least %lld x %lld for the perceptual loss, received %lld x "
             "%lld",
             static_cast<long long>(kMinSide), static_cast<long long>(kMinSide),
             static_cast<long long>(side), static_cast<long long>(side));
  const auto file = io::SafetensorsFile::open(path);
  LoadReport report;
  for (const ParameterSpec& spec : lpips_parameters()) {
    if (!file->find(spec.name)) {
      report.missing.push_back(spec.name);
    } else {
      file->get(spec.name, spec.shape);  // throws where the shape is another
    }
  }
  require_all(report, path);
}

Lpips::Lpips(Backend& backend, const std::string& path, const StopFlag* stop)
    : parameters_(backend, lpips_parameters(), DType::kFloat32) {
  const auto file = io::SafetensorsFile::open(path);
  require_all(load_parameters(parameters_, *file, {.strict = false, .stop = stop}), path);
  for (Parameter& parameter : parameters_.all()) parameter.frozen = true;

  // (x - shift) / scale with the constants of lpips' ScalingLayer
  constexpr double kShift[] = {-.030, -.088, -.188}, kScale[] = {.458, .448, .450};
  float scale[9] = {}, shift[3];
  for (int c = 0; c < 3; ++c) {
    scale[4 * c] = static_cast<float>(1 / kScale[c]);
    shift[c] = static_cast<float>(-kShift[c] / kScale[c]);
  }
  scale_ = {.name = "scaling.weight",
            .value = backend.upload(scale, DType::kFloat32, {3, 3}),
            .grad = {},
            .frozen = true};
  shift_ = {.name = "scaling.bias",
            .value = backend.upload(shift, DType::kFloat32, {3}),
            .grad = {},
            .frozen = true};
  for (int block = 0; block < kBlocks; ++block) {
    for (int i = 0; i < kConvolutions[block]; ++i) {
      const std::string name = convolution_name(block, i);
      blocks_[static_cast<size_t>(block)].push_back(
          {&parameters_[name + ".weight"], &parameters_[name + ".bias"]});
    }
    heads_[static_cast<size_t>(block)] = &parameters_[head_name(block)];
  }
}

std::array<Value, Lpips::kBlocks> Lpips::features(Tape& tape, const Value& images) {
  std::array<Value, kBlocks> found;
  Value x = linear(tape, images, scale_, shift_);
  for (size_t block = 0; block < found.size(); ++block) {
    if (block > 0) x = max_pool(tape, x);
    x = run_section(tape, std::move(x), [this, block](Tape& part, Value x) {
      for (const Convolution& convolution : blocks_[block]) {
        part.context().check_stop();
        x = leaky_relu(part, conv2d(part, x, *convolution.weight, convolution.bias), 0);
      }
      return x;
    });
    found[block] = x;
  }
  return found;
}

double Lpips::distance(Backend& backend, const GradientMode& mode, const Value& x,
                       const Tensor& target, float weight, const StopFlag* stop) {
  std::array<Tensor, kBlocks> expected;
  {
    Tape tape(backend, mode.compute, stop);
    const auto of_target = features(tape, tape.value(target));
    for (size_t block = 0; block < expected.size(); ++block) {
      expected[block] = of_target[block]->data;
    }
  }
  Tape tape(backend, mode, stop);
  double sum = 0;
  {
    const auto found = features(tape, x);
    for (size_t block = 0; block < found.size(); ++block) {
      sum += feature_distance(tape, found[block], expected[block], *heads_[block], weight);
    }
  }
  tape.backward();
  return sum;
}

}  // namespace vilg
