#include "model/lpips.h"

#include <cmath>
#include <set>

#include "io/safetensors.h"
#include "tests/harness.h"
#include "tests/temporary_folder.h"
#include "train/vqgan_trainer.h"

namespace vilg::test {

// Random weights: the public ones are not part of the repository.
VILG_TEST(lpips_gradient_against_finite_differences) {
  const TemporaryFolder folder;
  const std::string path = folder.file("lpips.safetensors");
  {
    std::vector<std::vector<float>> held;
    std::vector<io::TensorToWrite> tensors;
    const auto add = [&](std::string name, std::vector<int64_t> shape, float scale) {
      int64_t count = 1;
      for (const int64_t dim : shape) count *= dim;
      std::vector<float>& values = held.emplace_back(
          random_floats(static_cast<size_t>(count), static_cast<uint32_t>(held.size()), scale));
      if (name.starts_with("lin")) {
        for (float& v : values) v = std::abs(v);
      }
      tensors.push_back(
          {.name = std::move(name), .shape = std::move(shape), .data = values.data()});
    };
    int64_t ins = 3;
    int block = 0;
    // torchvision's numbers of VGG16's convolutions, and the channels that they give
    for (const auto& [number, outs] : {std::pair<int, int64_t>{0, 64},
                                       {2, 64},
                                       {5, 128},
                                       {7, 128},
                                       {10, 256},
                                       {12, 256},
                                       {14, 256},
                                       {17, 512},
                                       {19, 512},
                                       {21, 512},
                                       {24, 512},
                                       {26, 512},
                                       {28, 512}}) {
      const std::string name = "features." + std::to_string(number);
      add(name + ".weight", {outs, ins, 3, 3},
          std::sqrt(2.0f / static_cast<float>(ins * 9)) * 1.7f);
      add(name + ".bias", {outs}, 0.1f);
      if (std::set{2, 7, 14, 21, 28}.contains(number)) {
        add("lin" + std::to_string(block++) + ".model.1.weight", {1, outs, 1, 1}, 1);
      }
      ins = outs;
    }
    add("classifier.0.bias", {7}, 1);  // the rest of VGG16 does not matter
    io::write_safetensors(path, std::move(tensors));
  }
  Lpips::check(path, 16);
  EXPECT_ERROR(kInvalidArgument, Lpips::check(path, 8));
  Lpips lpips(cpu_backend(), path, nullptr);
  std::vector<float> x = random_floats(2 * 16 * 16 * 3, 30);
  const std::vector<float> y = random_floats(x.size(), 31);
  const Shape shape{2, 16, 16, 3};
  const Tensor target = cpu_backend().upload(y.data(), DType::kFloat32, shape);
  const auto distance = [&](const std::vector<float>& values, Tensor* gradient,
                            bool recompute = false) {
    const GradientMode mode(DType::kFloat32, recompute);
    Tape tape(cpu_backend(), mode, nullptr);
    const Value leaf =
        tape.value(cpu_backend().upload(values.data(), DType::kFloat32, shape), true);
    const double value = lpips.distance(cpu_backend(), mode, leaf, target, 1, nullptr);
    if (gradient) *gradient = leaf->grad;
    return value;
  };
  EXPECT(distance(y, nullptr) < 1e-12, "of a picture to itself");  // rounding, squared
  Tensor gradient;
  const double value = distance(x, &gradient);
  EXPECT(value > 0.05 && value < 20, "distance %g", value);
  Tensor again;
  EXPECT(distance(x, &again, /*recompute=*/true) == value &&
             std::equal(again.f32(), again.f32() + x.size(), gradient.f32()),
         "recomputed, it differs");
  // along the gradient: the sum of its squares, in which rounding averages out
  double squares = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    squares += static_cast<double>(gradient.f32()[i]) * gradient.f32()[i];
  }
  const double step = 2e-3 / std::sqrt(squares);
  const auto along = [&](double sign) {
    std::vector<float> moved = x;
    for (size_t i = 0; i < x.size(); ++i) {
      moved[i] += static_cast<float>(sign * step * gradient.f32()[i]);
    }
    return distance(moved, nullptr);
  };
  const double slope = (along(1) - along(-1)) / (2 * step);
  // ReLUs and poolings have corners
  EXPECT(std::abs(slope / squares - 1) < 0.03, "%g, expected %g", slope, squares);

  // in training: what it adds to the total, and its gradient to the decoder's
  VqganTrainingOptions options;
  options.adversary.perceptual_weights = path;
  VqganConfig config;
  config.resolution = 16;
  config.channels = 32;
  config.multipliers = {1, 1};
  config.residual_blocks = 1;
  config.attention_resolutions = {};
  config.latent_channels = 6;
  config.codebook_size = 12;
  config.codebook_dim = 5;
  auto model = std::make_shared<Vqgan>(cpu_backend(), config, DType::kFloat32);
  model->parameters().initialize(2);
  VqganTrainer trainer(model, {}, DType::kFloat32, options);
  const std::vector<float> images = random_floats(2 * 3 * 16 * 16, 5);
  const auto plain = trainer.accumulate(images, 2, {}, 1, nullptr);
  const auto with = trainer.accumulate(
      images, 2, {.tokenizer = {}, .adversary = {.perceptual = 0.5f}}, 1, nullptr);
  EXPECT(std::abs(trainer.measure(images, images, 2, nullptr).perceptual) < 1e-12, "measured");
  EXPECT(with.adversary.perceptual > 0 && std::abs(with.losses.total - plain.losses.total -
                                                   0.5 * with.adversary.perceptual) < 1e-9,
         "%g, %g", with.losses.total, plain.losses.total);
}

}  // namespace vilg::test
