// The serial truth against PyTorch's recorded numbers (tests/golden) and against the complex step, so that everything compared with it
// later rests on two foreign legs.
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
#include "tests/truth/serial_trainer.h"

namespace lycia::truth {
namespace {

using Json = nlohmann::json;

// One recorded file and the model, options and batches it was recorded with.
struct Golden {
  Json json;
  GptSizes sizes;
  TrainingOptions options;

  explicit Golden(const std::string& name) {
    std::ifstream file("tests/golden/" + name + ".json");
    json = Json::parse(file);
    const Json& c = json["config"];
    sizes = {.blocks = c["blocks"], .width = c["width"], .heads = c["heads"], .kv_heads = c.value("kv_heads", 0), .ffn = c["ffn"],
             .context = c["context"], .vocabulary = c["vocabulary"], .tied = c["tied"], .rope_base = c.value("rope_base", 0.0),
             .llama = name.starts_with("llama"), .norm_eps = c.value("norm_eps", 1e-5)};
    options = {.seed = c["seed"], .std = c["std"], .dropout = c["dropout"], .clip = c["clip"], .lr = c["lr"], .min_lr = c["min_lr"],
               .warmup = c["warmup"], .steps = static_cast<int>(json["lr"].size()), .weight_decay = c["weight_decay"],
               .beta1 = c["beta1"], .beta2 = c["beta2"], .eps = c["eps"]};
  }
  int steps() const { return options.steps; }

  // batch_of() of record_gpt2.py.
  TokenBatch Batch(int step) const {
    TokenBatch batch{json["config"]["batch"], json["config"]["sequence"], {}, {}};
    const bool masked = json["config"]["masked"];
    const RandomStream tokens(7, "golden/tokens", step), mask(7, "golden/mask", step);
    const auto token = [&](int sample, int t) {
      return static_cast<std::int32_t>(tokens.Bits(sample * (batch.sequence + 1) + t) % sizes.vocabulary);
    };
    for (int i = 0; i < batch.samples * batch.sequence; ++i) {
      batch.tokens.push_back(token(i / batch.sequence, i % batch.sequence));
      batch.labels.push_back(masked && mask.Bits(i) % 5 == 0 ? -1 : token(i / batch.sequence, i % batch.sequence + 1));
    }
    return batch;
  }
};

double Norm(const auto& values) {
  double squares = 0;
  for (const auto& value : values) squares += static_cast<double>(value) * static_cast<double>(value);
  return std::sqrt(squares);
}

// Every recorded number of every tensor; tolerance(name, index) is absolute, and sums may be off by it for each element.
void ExpectTensors(const Json& expected, const auto& actual, const std::string& what, const auto& tolerance) {
  ASSERT_EQ(expected.size(), actual.size());
  for (const auto& [name, values] : actual) {
    ASSERT_TRUE(expected.contains(name)) << name;
    const Json& tensor = expected[name];
    std::size_t count = 1;
    for (const std::size_t extent : tensor["shape"]) count *= extent;
    ASSERT_EQ(values.size(), count) << name;
    double sum = 0, abs_sum = 0, limit_of_sum = 0;
    for (std::size_t i = 0; i < count; ++i) sum += values[i], abs_sum += std::abs(values[i]), limit_of_sum += tolerance(name, i);
    EXPECT_NEAR(sum, tensor["sum"].get<double>(), limit_of_sum) << what << " " << name;
    EXPECT_NEAR(abs_sum, tensor["abs_sum"].get<double>(), limit_of_sum) << what << " " << name;
    EXPECT_NEAR(Norm(values), tensor["norm"].get<double>(), limit_of_sum) << what << " " << name;
    for (std::size_t i = 0; i < tensor["index"].size(); ++i) {
      const std::size_t index = tensor["index"][i];
      EXPECT_NEAR(values[index], tensor["value"][i].get<double>(), tolerance(name, index)) << what << " " << name << " element " << index;
    }
  }
}

// 2-norm of all gradients of the layer that holds `name`: a block, or a tensor outside the blocks.
double LayerGradientNorm(const Json& gradients, const std::string& name) {
  if (!name.starts_with("h.")) return gradients[name]["norm"];
  double squares = 0;
  for (const auto& [other, tensor] : gradients.items()) {
    if (other.starts_with(name.substr(0, name.find('.', 2) + 1))) squares += std::pow(tensor["norm"].get<double>(), 2);
  }
  return std::sqrt(squares);
}

// A key's bias moves all scores of a query alike, so its gradient is zero but for rounding; Adam makes lr noise / eps of it at each step.
// Not so with rotary positions, where each key turns it by another angle.
bool IsKeyBias(const GptSizes& sizes, const std::string& name, std::size_t index) {
  return sizes.rope_base == 0 && name.ends_with("c_attn.bias") && index / sizes.width == 1;
}

class TruthTest : public testing::TestWithParam<const char*> {
 protected:
  // Losses, norms and learning rates of all steps and the gradients of the first, relative to their size.
  template <typename Number>
  static SerialGpt<Number> Train(const Golden& golden, const std::string& precision, double of_loss, double of_gradient) {
    SerialGpt<Number> gpt(golden.sizes, golden.options);
    const Json& expected = golden.json[precision];
    for (int step = 0; step < golden.steps(); ++step) {
      const StepResult result = gpt.Step(golden.Batch(step));
      const double loss = expected["losses"][step], norm = expected["grad_norms"][step], lr = golden.json["lr"][step];
      EXPECT_NEAR(result.loss, loss, of_loss * loss) << precision << " step " << step;
      EXPECT_NEAR(result.grad_norm, norm, of_gradient * norm) << precision << " step " << step;
      EXPECT_NEAR(result.lr, lr, 1e-15) << "step " << step;
      // Gradients are held against f64's: the contract's limit is an error, not a difference between two f32 runs.
      const Json& gradients = golden.json["f64"]["gradients"];
      if (step > 0) continue;
      ExpectTensors(gradients, gpt.gradients(), precision + " gradient", [&](const std::string& name, std::size_t) {
        return of_gradient * LayerGradientNorm(gradients, name);
      });
    }
    return gpt;
  }
};

TEST_P(TruthTest, EqualsPyTorchInF64) {
  const Golden golden(GetParam());
  const SerialGpt<double> gpt = Train<double>(golden, "f64", 1e-12, 1e-12);
  const Json& gradients = golden.json["f64"]["gradients"];
  const auto noise = [&](const std::string& name) { return 0x1p-52 * LayerGradientNorm(gradients, name); };
  ExpectTensors(golden.json["f64"]["weights"], gpt.weights(), "weight", [&](const std::string& name, std::size_t index) {
    if (!IsKeyBias(golden.sizes, name, index)) return 1e-11;
    return golden.options.lr * golden.steps() * noise(name) / golden.options.eps;
  });
  for (const auto& [name, gradient] : gpt.gradients()) {
    for (std::size_t i = 0; i < gradient.size(); ++i) {
      if (!IsKeyBias(golden.sizes, name, i)) continue;
      EXPECT_LT(std::abs(gradient[i]), 10 * noise(name)) << name << " element " << i;
    }
  }
}

TEST_P(TruthTest, EqualsPyTorchInF32) { Train<float>(Golden(GetParam()), "f32", 3e-6, 1e-5); }

// d loss / d w = Im(loss(w + ih)) / h, without cancellation. Dropout, label masks and the tied weight are part of it. First, middle and
// last element of each tensor; every element in the smallest model.
TEST_P(TruthTest, GradientsEqualTheComplexStep) {
  constexpr double kStep = 1e-30;
  const Golden golden(GetParam());
  const TokenBatch batch = golden.Batch(0);
  SerialGpt<double> gpt(golden.sizes, golden.options);
  gpt.Step(batch);
  SerialGpt<std::complex<double>> moved(golden.sizes, golden.options);
  for (auto& [name, weight] : moved.weights()) {
    const std::size_t count = weight.size(), stride = golden.json["config"].contains("full") ? 1 : (count - 1) / 2;
    const double limit = 1e-13 + 1e-11 * Norm(gpt.gradients().at(name));
    for (std::size_t i = 0; i < count; i += stride) {
      weight[i] += std::complex<double>(0, kStep);
      EXPECT_NEAR(gpt.gradients().at(name)[i], moved.Loss(batch, true).imag() / kStep, limit) << name << " element " << i;
      weight[i] = weight[i].real();
    }
  }
}

// Dropout off is the model without dropout; Loss is what the next Step reports; neither leaves a trace.
TEST_P(TruthTest, LossAgreesWithStepAndEvaluationHasNoDropout) {
  const Golden golden(GetParam());
  SerialGpt<double> gpt(golden.sizes, golden.options);
  TrainingOptions without = golden.options;
  without.dropout = 0;
  const SerialGpt<double> plain(golden.sizes, without);
  EXPECT_EQ(gpt.Loss(golden.Batch(1), false), plain.Loss(golden.Batch(1), true));
  const double loss = gpt.Loss(golden.Batch(0), true);
  EXPECT_EQ(gpt.Step(golden.Batch(0)).loss, loss);
  EXPECT_EQ(loss == plain.Loss(golden.Batch(0), false), golden.options.dropout == 0);
  const double next = gpt.Loss(golden.Batch(0), true);  // other weights, other masks
  EXPECT_NE(next, loss);
  EXPECT_EQ(gpt.steps_done(), 1);
}

INSTANTIATE_TEST_SUITE_P(Golden, TruthTest, testing::Values("gpt2_tied", "gpt2_untied", "gpt2_short", "gpt2_full", "gpt2_rotary", "gpt2_rotary_full",
                                                           "llama_grouped", "llama_tied", "llama_full"),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace lycia::truth
