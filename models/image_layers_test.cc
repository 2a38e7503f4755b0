// The layers of image models one by one, where a layout's equality with the truth would not say which of them is wrong.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "models/image_part_for_test.h"
#include "models/layers/conv_layer.h"
#include "models/layers/dense_layer.h"
#include "models/layers/image_head.h"
#include "models/layers/pool_layer.h"
#include "models/layers/residual_block.h"

namespace lycia {
namespace {

constexpr std::int64_t kN = ImagePart::kSamples;

struct Case {
  std::string name;
  NewLayers layers;
  TensorSpec in;
};

template <typename L, typename... Args>
NewLayers One(Args... args) {
  return [=] {
    std::vector<std::unique_ptr<Layer>> layers;
    layers.push_back(std::make_unique<L>(args...));
    return layers;
  };
}

NewLayers Conv(const ConvUnit::Options& options) {
  return One<ConvLayer>(ImageModelConfig{.mean = {0.4, 0.5, 0.6}, .deviation = {0.3, 0.2, 0.4, 1}}, options);
}

NewLayers Block(std::int64_t width, std::int64_t stride, bool bottleneck, const std::string& name = "b") {
  return One<ResidualBlock>(
      ResidualBlock::Options{.name = name, .width = width, .stride = stride, .bottleneck = bottleneck, .norm_samples = 2});
}

NewLayers Together(std::vector<NewLayers> lists) {
  return [=] {
    std::vector<std::unique_ptr<Layer>> layers;
    for (const NewLayers& list : lists) {
      for (std::unique_ptr<Layer>& layer : list()) layers.push_back(std::move(layer));
    }
    return layers;
  };
}

const PoolLayer::Window kHalves{.size = 2, .stride = 2}, kStem{.size = 3, .stride = 2, .pad = 1};

std::vector<Case> Cases() {
  const TensorSpec image{DType::kF64, {kN, 5, 6, 3}}, wide{DType::kF64, {kN, 5, 4, 8}}, bytes{DType::kU8, {kN, 6, 5, 3}};
  const ConvUnit::Options bias{.name = "c", .filters = 5, .filter = 3, .bias = true};
  const ConvUnit::Options norm{.name = "c", .norm = "n", .filters = 5, .filter = 3, .norm_samples = 2};
  ConvUnit::Options linear = norm, bare = bias, strided = norm, grouped = norm, alone = norm;
  linear.relu = false;
  bare.bias = bare.relu = false;
  strided.stride = 2, strided.filter = 7;
  grouped.groups = 2, grouped.filters = 6;
  alone.norm_samples = 1;
  const NewLayers pool = One<PoolLayer>(std::string("p"), kHalves), head = One<ImageHead>(std::string("h"), ImagePart::kClasses, false);
  const NewLayers dense = One<DenseLayer>(DenseLayer::Options{.name = "d", .units = 7, .dropout = 0.3});
  return {{"ConvNorm", Conv(norm), image},
          {"ConvNormWithoutRelu", Conv(linear), image},
          {"ConvNormOfOneSample", Conv(alone), image},
          {"ConvNormStrided", Conv(strided), image},
          {"ConvNormGrouped", Conv(grouped), wide},
          {"ConvNormOfBytes", Conv(norm), bytes},
          {"ConvBias", Conv(bias), image},
          {"ConvBiasOfBytes", Conv(bias), bytes},
          {"ConvAlone", Conv(bare), image},
          {"Basic", Block(8, 1, false), wide},
          {"BasicStrided", Block(5, 2, false), wide},
          {"Bottleneck", Block(2, 1, true), wide},
          {"BottleneckWider", Block(3, 1, true), wide},
          {"BottleneckStrided", Block(2, 2, true), wide},
          {"Pool", pool, image},
          {"PaddedPool", One<PoolLayer>(std::string("p"), kStem), image},
          {"Dense", One<DenseLayer>(DenseLayer::Options{.name = "d", .units = 7}), image},
          {"DenseDropout", dense, image},
          {"Head", head, image},
          {"AverageHead", One<ImageHead>(std::string("h"), ImagePart::kClasses, true), image},
          {"Cnn", Together({Conv(norm), pool, dense, head}), bytes},
          {"Residual", Together({Conv(norm), Block(5, 1, false), Block(3, 2, true, "e")}), image}};
}

void PrintTo(const Case& c, std::ostream* to) { *to << c.name; }

void ExpectNear(const std::vector<double>& actual, const std::vector<double>& expected, const std::string& what) {
  ASSERT_EQ(actual.size(), expected.size()) << what;
  for (std::size_t i = 0; i < actual.size(); ++i) {
    EXPECT_NEAR(actual[i], expected[i], 1e-12 * std::max(1.0, std::abs(expected[i]))) << what << "[" << i << "]";
  }
}

class ImageLayer : public ::testing::TestWithParam<Case> {};

// ReLUs and pools have kinks: the steps are small, so that hardly any lies between.
double Derivative(ImagePart& part, double& variable) {
  constexpr double kStep = 1e-6;
  const double at = variable;
  variable = at + kStep;
  const double above = part.Forward();
  variable = at - kStep;
  const double below = part.Forward();
  variable = at;
  return (above - below) / (2 * kStep);
}

TEST_P(ImageLayer, BackwardIsTheDerivativeOfForward) {
  const Case& c = GetParam();
  ImagePart part(c.layers, c.in, {});
  part.Forward();
  part.Backward();
  const std::map<std::string, std::vector<double>> gradients = part.memory->gradients();
  double largest = 0;
  for (auto& [name, weights] : part.memory->weights()) {
    for (std::size_t i = 0; i < weights.size(); i += 1 + weights.size() / 30) {
      const double gradient = gradients.at(name)[i];
      EXPECT_NEAR(gradient, Derivative(part, weights[i]), 2e-7 * std::max(1.0, std::abs(gradient))) << name << "[" << i << "]";
      largest = std::max(largest, std::abs(gradient));
    }
  }
  EXPECT_TRUE(gradients.empty() || largest > 0.01);
  const std::vector<double> din = part.din;
  for (std::size_t i = 0; i < din.size(); i += 1 + din.size() / 40) {
    const double derivative = Derivative(part, static_cast<double*>(part.stage->input(ImagePart::kSlots))[i]);
    EXPECT_NEAR(din[i], derivative, 2e-7 * std::max(1.0, std::abs(din[i]))) << "din[" << i << "]";
  }
  EXPECT_TRUE(part.memory->BordersAreIntact());
}

// Recompute, a split backward and packed weights change no bit; gradients are added to.
TEST_P(ImageLayer, EveryWayToRunItHasTheSameBits) {
  const Case& c = GetParam();
  ImagePart plain(c.layers, c.in, {});
  const double objective = plain.Forward();
  plain.Backward();
  const auto once = plain.memory->gradients();
  for (const Recompute recompute : {Recompute::kNone, Recompute::kLayers, Recompute::kStage}) {
    for (const bool split : {false, true}) {
      for (const bool packed : {false, true}) {
        ImagePart part(c.layers, c.in, {.recompute = recompute, .split = split, .packed = packed});
        SCOPED_TRACE(StrCat("recompute ", static_cast<int>(recompute), ", split ", split, ", packed ", packed));
        const double again = part.Forward();
        part.Backward();
        EXPECT_TRUE(part.memory->BordersAreIntact());
        EXPECT_EQ(again, objective);
        EXPECT_TRUE(part.din == plain.din && part.memory->gradients() == once);
      }
    }
  }
  plain.Backward();
  for (const auto& [name, values] : once) {
    for (std::size_t i = 0; i < values.size(); ++i) {
      EXPECT_NEAR(plain.memory->gradients().at(name)[i], 2 * values[i], 1e-12 * std::abs(values[i]) + 1e-13) << name << "[" << i << "]";
    }
  }
}

// A micro-batch in parts, where there is no statistic over its samples: the same numbers, dropout by the global sample too, but for the
// order of sums. Where there is one, it is refused.
TEST_P(ImageLayer, PartsOfAMicroBatch) {
  const Case& c = GetParam();
  ImagePart whole(c.layers, c.in, {});
  if (!whole.stage->states().empty()) {
    const Status status = LayerStage::Create(c.layers(), {c.in}, {.compute = DType::kF64, .parts = {1, 2}}).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_NE(status.message().find("micro-batches cannot be divided"), absl::string_view::npos) << status;
    return;
  }
  whole.Forward();
  whole.Backward();
  for (const int parts : {2, 4}) {
    for (const bool packed : {false, true}) {
      for (const Recompute recompute : {Recompute::kNone, Recompute::kLayers, Recompute::kStage}) {
        for (const bool split : {false, true}) {
          ImagePart part(c.layers, c.in, {.recompute = recompute, .split = split, .packed = packed, .parts = parts});
          part.Forward();
          part.Backward();
          ExpectNear(part.out, whole.out, "out");
          ExpectNear(part.din, whole.din, "din");
          for (const auto& [name, values] : whole.memory->gradients()) ExpectNear(part.memory->gradients().at(name), values, name);
        }
      }
    }
  }
}

// Each training forward observes the rows of its own samples and no others; merged, they are the running statistics by hand. With the
// statistics of the very samples an evaluation computes what the training does.
TEST_P(ImageLayer, StatisticsAreObservedMergedAndUsed) {
  const Case& c = GetParam();
  ImagePart part(c.layers, c.in, {});
  const std::vector<StateSpec> states = part.stage->states();
  if (states.empty()) return;
  part.Forward();
  auto& observations = part.memory->observations();
  const auto initial = part.memory->states();
  for (const StateSpec& spec : states) {
    const std::size_t K = initial.at(spec.name).size(), first = static_cast<std::size_t>(ImagePart::kFirstSample / spec.samples) * K,
                      last = first + static_cast<std::size_t>(kN / spec.samples) * K;
    std::vector<double>& rows = observations.at(spec.name);
    for (std::size_t i = 0; i < rows.size(); ++i) EXPECT_EQ(std::isnan(rows[i]), i < first || i >= last) << spec.name << " " << i;
    // The rest of the global batch.
    for (std::size_t i = 0; i < rows.size(); ++i) rows[i] = std::isnan(rows[i]) ? 0.5 + 0.1 * static_cast<double>(i % 7) : rows[i];
  }
  // An evaluation neither observes nor merges.
  const auto observed = observations;
  part.context.training = false;
  part.Forward();
  EXPECT_EQ(observations, observed);
  EXPECT_EQ(part.memory->states(), initial);
  part.context.training = true;
  part.stage->MergeStates(part.context);
  // Of the case "ConvNormStrided" a group has 2 samples of 3 x 3 pixels, and so on.
  for (const StateSpec& spec : states) {
    const std::size_t K = initial.at(spec.name).size(), groups = observed.at(spec.name).size() / K;
    for (std::size_t k = 0; k < K; ++k) {
      double expected = initial.at(spec.name)[k], factor = 1;
      if (spec.name.ends_with("var")) {
        ASSERT_EQ(expected, 1);
        // rows / (rows - 1), from what was merged into the first channel.
        double biased = 1, plain = 0;
        for (std::size_t g = 0; g < groups; ++g) biased *= 0.9, plain = 0.9 * plain + 0.1 * observed.at(spec.name)[g * K];
        factor = (part.memory->states().at(spec.name)[0] - biased) / plain;
        const double rows = factor / (factor - 1);
        EXPECT_NEAR(rows, std::round(rows), 1e-6) << spec.name;
        EXPECT_EQ(std::lround(rows) % spec.samples, 0) << spec.name;
      }
      for (std::size_t g = 0; g < groups; ++g) expected = 0.9 * expected + 0.1 * factor * observed.at(spec.name)[g * K + k];
      EXPECT_NEAR(part.memory->states().at(spec.name)[k], expected, 1e-12) << spec.name << "[" << k << "]";
    }
  }
}

// One statistic for all samples, put into the running ones: the folded evaluation is the training's forward.
TEST(ImageLayers, EvaluationFoldsTheRunningStatistics) {
  const TensorSpec in{DType::kF64, {kN, 5, 4, 8}};
  const NewLayers conv = Conv({.name = "c", .norm = "n", .filters = 8, .filter = 3, .norm_samples = kN});
  const auto block = [](std::int64_t width, std::int64_t stride, bool bottleneck) {
    return One<ResidualBlock>(
        ResidualBlock::Options{.name = "b", .width = width, .stride = stride, .bottleneck = bottleneck, .norm_samples = kN});
  };
  for (const NewLayers& layers : {conv, block(8, 1, false), block(5, 2, false), block(2, 1, true), block(3, 2, true)}) {
    ImagePart part(layers, in, {});
    part.Forward();
    const std::vector<double> trained = part.out;
    for (auto& [name, state] : part.memory->states()) {
      const std::vector<double>& rows = part.memory->observations().at(name);
      const auto first = rows.begin() + ImagePart::kFirstSample / kN * static_cast<std::int64_t>(state.size());
      std::copy(first, first + static_cast<std::int64_t>(state.size()), state.begin());
    }
    part.context.training = false;
    part.Forward();
    for (std::size_t i = 0; i < trained.size(); ++i) ASSERT_NEAR(part.out[i], trained[i], 1e-12) << i;
  }
}

// A hit is a label whose logit is the largest; labels of -1 are none.
TEST(ImageLayers, TheHeadCountsHits) {
  for (const bool average : {false, true}) {
    ImagePart part(One<ImageHead>(std::string("h"), ImagePart::kClasses, average), {DType::kF64, {kN, 2, 3, 4}}, {});
    std::vector<double> hits(kN, -1), logits(static_cast<std::size_t>(kN * ImagePart::kClasses));
    part.context.sample_hits = hits.data();
    part.context.logits = {logits.data(), DType::kF64, {kN, 1, ImagePart::kClasses}};
    part.context.training = false;
    auto* labels = static_cast<std::int32_t*>(part.stage->labels(ImagePart::kSlots));
    part.Forward();
    for (std::size_t s = 0; s < hits.size(); ++s) {
      const auto row = logits.begin() + static_cast<std::int64_t>(s) * ImagePart::kClasses;
      labels[s] = s == 1 ? -1 : static_cast<std::int32_t>(std::max_element(row, row + ImagePart::kClasses) - row);
      if (s == 3) labels[s] = (labels[s] + 1) % ImagePart::kClasses;
    }
    part.Forward();
    EXPECT_EQ(hits, (std::vector<double>{1, 0, 1, 0})) << average;
  }
}

INSTANTIATE_TEST_SUITE_P(Kinds, ImageLayer, ::testing::ValuesIn(Cases()), [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace lycia
