// The serial truth of image models against PyTorch's recorded numbers (tests/golden) and against the complex step.
#include <cmath>
#include <complex>
#include <cstdint>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "runtime/core/philox.h"
#include "tests/truth/serial_images.h"

namespace lycia::truth {
namespace {

using Json = nlohmann::json;

struct Golden {
  Json json;
  ImageSizes sizes;
  TrainingOptions options;
  int samples;

  explicit Golden(const std::string& name) {
    std::ifstream file("tests/golden/images_" + name + ".json");
    json = Json::parse(file);
    const Json& c = json["config"];
    sizes = {.kind = c["kind"],
             .height = c["height"],
             .width = c["width"],
             .channels = c["channels"],
             .classes = c["classes"],
             .filters = c["filters"],
             .norm_samples = c["norm_samples"],
             .momentum = c["momentum"]};
    for (std::size_t i = 0; i < c["mean"].size(); ++i) sizes.mean[i] = c["mean"][i], sizes.deviation[i] = c["deviation"][i];
    options = {.seed = c["seed"],
               .clip = c["clip"],
               .lr = c["lr"],
               .min_lr = c["min_lr"],
               .warmup = c["warmup"],
               .steps = static_cast<int>(json["lr"].size()),
               .weight_decay = c["weight_decay"],
               .beta1 = c["beta1"],
               .beta2 = c["beta2"],
               .eps = c["eps"]};
    samples = c["batch"];
  }

  // batch_of() of record_images.py.
  ImageBatch Batch(int step) const {
    ImageBatch batch;
    const bool masked = json["config"]["masked"];
    const RandomStream images(options.seed, "layouts/images", step), labels(options.seed, "layouts/labels", step),
        mask(options.seed, "layouts/mask", step);
    for (int i = 0; i < samples * sizes.height * sizes.width * sizes.channels; ++i) {
      batch.images.push_back(static_cast<std::uint8_t>(images.Bits(i) % 256));
    }
    for (int i = 0; i < samples; ++i) {
      batch.labels.push_back(masked && mask.Bits(i) % 5 == 0 ? -1 : static_cast<std::int32_t>(labels.Bits(i) % sizes.classes));
    }
    return batch;
  }
};

double Norm(const auto& values) {
  double squares = 0;
  for (const auto& value : values) squares += static_cast<double>(value) * static_cast<double>(value);
  return std::sqrt(squares);
}

// Every recorded number of every tensor, within `relative` of the tensor's norm.
void ExpectTensors(const Json& expected, const auto& actual, const std::string& what, double relative) {
  ASSERT_EQ(expected.size(), actual.size());
  for (const auto& [name, values] : actual) {
    ASSERT_TRUE(expected.contains(name)) << name;
    const Json& tensor = expected[name];
    std::size_t count = 1;
    for (const std::size_t extent : tensor["shape"]) count *= extent;
    ASSERT_EQ(values.size(), count) << name;
    const double norm = tensor["norm"], limit = relative * norm, of_sum = limit * std::sqrt(static_cast<double>(count));
    double sum = 0, abs_sum = 0;
    for (const auto& value : values) sum += value, abs_sum += std::abs(value);
    EXPECT_NEAR(Norm(values), norm, limit) << what << " " << name;
    EXPECT_NEAR(sum, tensor["sum"].get<double>(), of_sum) << what << " " << name;
    EXPECT_NEAR(abs_sum, tensor["abs_sum"].get<double>(), of_sum) << what << " " << name;
    for (std::size_t i = 0; i < tensor["index"].size(); ++i) {
      const std::size_t index = tensor["index"][i];
      EXPECT_NEAR(values[index], tensor["value"][i].get<double>(), limit) << what << " " << name << " element " << index;
    }
  }
}

// What rounding alone may change, relative to the size of each number: of the first step and of all that follow, where Adam turns it into
// other weights.
struct Limits {
  double first, later;
};

template <typename Number>
SerialImages<Number> Train(const Golden& golden, const std::string& precision, const Limits& limits) {
  SerialImages<Number> model(golden.sizes, golden.options);
  const Json& expected = golden.json[precision];
  for (int step = 0; step < golden.options.steps; ++step) {
    const StepResult result = model.Step(golden.Batch(step));
    const double loss = expected["losses"][step], norm = expected["grad_norms"][step], limit = step == 0 ? limits.first : limits.later;
    EXPECT_NEAR(result.loss, loss, limit * loss) << precision << " step " << step;
    EXPECT_NEAR(result.grad_norm, norm, limit * norm) << precision << " step " << step;
    EXPECT_NEAR(result.lr, golden.json["lr"][step].get<double>(), 1e-15) << "step " << step;
    if (step == 0) ExpectTensors(golden.json["f64"]["gradients"], model.gradients(), precision + " gradient", limits.first);
  }
  ExpectTensors(expected["states"], model.states(), precision + " state", limits.later);
  const auto evaluation = model.Evaluate(golden.Batch(golden.options.steps));
  EXPECT_NEAR(evaluation.loss, expected["evaluation"].get<double>(), limits.later * expected["evaluation"].get<double>()) << precision;
  EXPECT_EQ(evaluation.hits, expected["hits"].get<int>());
  return model;
}

class ImageTruth : public testing::TestWithParam<const char*> {};

TEST_P(ImageTruth, EqualsPyTorchInF64) {
  const Golden golden(GetParam());
  const SerialImages<double> model = Train<double>(golden, "f64", {1e-12, 1e-10});
  ExpectTensors(golden.json["f64"]["weights"], model.weights(), "weight", 1e-10);
}

TEST(ImageTruthTest, EqualsPyTorchInF32) {
  Train<float>(Golden("cnn"), "f32", {1e-6, 1e-5});
  Train<float>(Golden("resnet18"), "f32", {1e-4, 3e-2});  // its rounding is amplified by statistics over few pixels
}

// d loss / d w = Im(loss(w + ih)) / h: first, middle and last element of each tensor.
TEST_P(ImageTruth, GradientsEqualTheComplexStep) {
  constexpr double kStep = 1e-30;
  const Golden golden(GetParam());
  if (golden.sizes.height > 90) return;  // they add only the stem, which PyTorch's numbers cover
  const ImageBatch batch = golden.Batch(0);
  SerialImages<double> model(golden.sizes, golden.options);
  model.Step(batch);
  SerialImages<std::complex<double>> moved(golden.sizes, golden.options);
  std::size_t tensor = 0;
  for (auto& [name, weight] : moved.weights()) {
    // Every tensor of the cnn, every fifth of the deep networks.
    if (golden.sizes.kind != "cnn" && tensor++ % 5 != 0) continue;
    const double limit = 1e-11 * Norm(model.gradients().at(name));
    for (const std::size_t i : {std::size_t{0}, weight.size() / 2, weight.size() - 1}) {
      weight[i] += std::complex<double>(0, kStep);
      EXPECT_NEAR(model.gradients().at(name)[i], moved.TrainingLoss(batch).imag() / kStep, limit) << name << " element " << i;
      weight[i] = weight[i].real();
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Golden, ImageTruth, testing::Values("cnn", "resnet18", "resnet50", "large"),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace lycia::truth
