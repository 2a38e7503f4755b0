// Layers whose backward reads their output. What would a wrong layout still pass? An output that nobody overwrites: so messages, free slots
// and transient memory are overwritten as soon as they may be, and several micro-batches are in flight.
#include <cmath>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "parallel/pipeline/layer_stage.h"
#include "parallel/pipeline/stage_memory_for_test.h"
#include "runtime/device/device.h"

namespace lycia {
namespace {

constexpr std::int64_t kRows = 4, kWidth = 3;
constexpr int kMicroBatches = 3;
const TensorSpec kEdge{DType::kF64, {kRows, kWidth}};

// out = w exp(in / 2): of all that a forward makes, its backward reads the output alone.
class Growth final : public Layer {
 public:
  explicit Growth(std::string name) : name_(std::move(name)) {}
  const std::string& name() const override { return name_; }
  StatusOr<std::vector<TensorSpec>> Plan(std::span<const TensorSpec> in, LayerPlan& plan) override {
    w_ = plan.Parameter({.name = name_, .shape = {kWidth}});
    plan.KeepOutput();
    slope_ = plan.Handoff(in[0]);
    return std::vector<TensorSpec>{in[0]};
  }
  void Forward(const LayerContext& context) const override {
    for (std::int64_t i = 0; i < context.in[0].elements(); ++i) {
      context.out[0].as<double>()[i] = context.parameter(w_).as<double>()[i % kWidth] * std::exp(context.in[0].as<double>()[i] / 2);
    }
  }
  void BackwardInput(const LayerContext& context) const override {
    for (std::int64_t i = 0; i < context.dout[0].elements(); ++i) {
      const double dy = context.dout[0].as<double>()[i], y = context.out[0].as<double>()[i];
      context.handoff(slope_).as<double>()[i] = dy * y / context.parameter(w_).as<double>()[i % kWidth];
      context.din[0].as<double>()[i] = dy * y / 2;
    }
  }
  void BackwardWeight(const LayerContext& context) const override {
    for (std::int64_t i = 0; i < context.handoff(slope_).elements(); ++i) {
      context.gradient(w_).as<double>()[i % kWidth] += context.handoff(slope_).as<double>()[i];
    }
  }

 private:
  std::string name_;
  ParameterHandle w_;
  HandoffHandle slope_;
};

// out = v in: reads its input, until its weight gradient, and no output.
class Scale final : public Layer {
 public:
  explicit Scale(std::string name) : name_(std::move(name)) {}
  const std::string& name() const override { return name_; }
  StatusOr<std::vector<TensorSpec>> Plan(std::span<const TensorSpec> in, LayerPlan& plan) override {
    v_ = plan.Parameter({.name = name_, .shape = {kWidth}});
    plan.KeepInput(KeepUntil::kWeight);
    dy_ = plan.Handoff(in[0]);
    return std::vector<TensorSpec>{in[0]};
  }
  void Forward(const LayerContext& context) const override { Times(context, context.in[0], context.out[0]); }
  void BackwardInput(const LayerContext& context) const override {
    context.stream().Copy(context.handoff(dy_).data, context.dout[0].data, context.dout[0].bytes());
    Times(context, context.dout[0], context.din[0]);
  }
  void BackwardWeight(const LayerContext& context) const override {
    for (std::int64_t i = 0; i < context.in[0].elements(); ++i) {
      context.gradient(v_).as<double>()[i % kWidth] += context.handoff(dy_).as<double>()[i] * context.in[0].as<double>()[i];
    }
  }

 private:
  void Times(const LayerContext& context, const Tensor& x, const Tensor& y) const {
    for (std::int64_t i = 0; i < x.elements(); ++i) y.as<double>()[i] = context.parameter(v_).as<double>()[i % kWidth] * x.as<double>()[i];
  }
  std::string name_;
  ParameterHandle v_;
  HandoffHandle dy_;
};

// g: Growth, s: Scale, in order.
std::vector<std::unique_ptr<Layer>> Layers(const std::string& kinds) {
  std::vector<std::unique_ptr<Layer>> layers;
  for (std::size_t i = 0; i < kinds.size(); ++i) {
    const std::string name = StrCat("layer", i);
    if (kinds[i] == 'g') layers.push_back(std::make_unique<Growth>(name));
    if (kinds[i] == 's') layers.push_back(std::make_unique<Scale>(name));
  }
  return layers;
}

double InputOf(int m, std::int64_t i) { return std::sin(1.0 + 7 * m + static_cast<double>(i)); }
double GradientOf(int m, std::int64_t i) { return std::cos(2.0 + 3 * m + static_cast<double>(i)); }
double WeightOf(std::size_t layer, std::int64_t c) { return 0.3 + 0.1 * static_cast<double>(layer) - 0.05 * static_cast<double>(c); }

struct Result {
  std::vector<double> out, din;
  std::map<std::string, std::vector<double>> gradients;
};

Result Expected(const std::string& kinds) {
  Result result;
  for (std::size_t l = 0; l < kinds.size(); ++l) result.gradients[StrCat("layer", l)].resize(kWidth);
  for (int m = 0; m < kMicroBatches; ++m) {
    for (std::int64_t i = 0; i < kRows * kWidth; ++i) {
      std::vector<double> x = {InputOf(m, i)};
      for (std::size_t l = 0; l < kinds.size(); ++l) x.push_back(WeightOf(l, i % kWidth) * (kinds[l] == 'g' ? std::exp(x[l] / 2) : x[l]));
      result.out.push_back(x.back());
      double dy = GradientOf(m, i);
      for (std::size_t l = kinds.size(); l-- > 0;) {
        const double w = WeightOf(l, i % kWidth);
        result.gradients[StrCat("layer", l)][static_cast<std::size_t>(i % kWidth)] += dy * (kinds[l] == 'g' ? std::exp(x[l] / 2) : x[l]);
        dy *= kinds[l] == 'g' ? w * std::exp(x[l] / 2) / 2 : w;
      }
      result.din.push_back(dy);
    }
  }
  return result;
}

Result Train(const std::string& kinds, Recompute recompute, bool split, int parts) {
  const std::unique_ptr<LayerStage> stage = *LayerStage::Create(
      Layers(kinds), {kEdge},
      {.compute = DType::kF64, .recompute = recompute, .full_backward = !split, .split_backward = split, .parts = {1, parts}});
  StageMemoryForTest memory(*stage, kMicroBatches);
  for (std::size_t l = 0; l < kinds.size(); ++l) {
    for (std::int64_t c = 0; c < kWidth; ++c) memory.weights().at(StrCat("layer", l))[static_cast<std::size_t>(c)] = WeightOf(l, c);
  }
  const std::unique_ptr<Device> device = NewCpuDevice();
  const std::unique_ptr<Stream> stream = *device->NewStream();
  StageContext context{.stream = stream.get()};
  Result result;
  const std::int64_t elements = kRows * kWidth / parts;
  const auto slots_of = [&](int m, int part) { return StageSlots{m, kMicroBatches - 1 - m, (m + 1) % kMicroBatches, part, parts}; };
  for (int m = 0; m < kMicroBatches; ++m) {
    for (int part = 0; part < parts; ++part) {
      std::vector<double> in(16), out(16);
      for (std::int64_t i = 0; i < elements; ++i) in[static_cast<std::size_t>(i)] = InputOf(m, part * elements + i);
      stage->TakeInput(*stream, slots_of(m, part), in.data());
      stage->Forward(context, slots_of(m, part), out.data());
      memory.Poison(Area::kTransient);
      result.out.insert(result.out.end(), out.begin(), out.begin() + elements);
    }
  }
  for (int m = 0; m < kMicroBatches; ++m) {
    for (int part = 0; part < parts; ++part) {
      std::vector<double> dout(16), din(16);
      for (std::int64_t i = 0; i < elements; ++i) dout[static_cast<std::size_t>(i)] = GradientOf(m, part * elements + i);
      split ? stage->BackwardInput(context, slots_of(m, part), dout.data(), din.data())
            : stage->Backward(context, slots_of(m, part), dout.data(), din.data());
      memory.Poison(Area::kTransient);
      result.din.insert(result.din.end(), din.begin(), din.begin() + elements);
    }
    memory.Poison(Area::kInput, slots_of(m, 0).input);
    if (!split) memory.Poison(Area::kStash, slots_of(m, 0).stash);
  }
  for (int m = 0; split && m < kMicroBatches; ++m) {
    for (int part = 0; part < parts; ++part) {
      StageSlots slots = slots_of(m, part);
      slots.input = -1;
      stage->BackwardWeight(context, slots);
      memory.Poison(Area::kTransient);
    }
  }
  result.gradients = memory.gradients();
  EXPECT_TRUE(memory.BordersAreIntact());
  return result;
}

void ExpectNear(const std::vector<double>& actual, const std::vector<double>& expected, const std::string& what) {
  ASSERT_EQ(actual.size(), expected.size()) << what;
  for (std::size_t i = 0; i < actual.size(); ++i) EXPECT_NEAR(actual[i], expected[i], 1e-13) << what << "[" << i << "]";
}

TEST(KeptOutput, StandsUntilTheBackwardWhateverIsComputedAgain) {
  for (const std::string kinds : {"g", "gg", "sg", "gs", "gsg", "ggsgg", "sggs"}) {
    const Result expected = Expected(kinds);
    for (const Recompute recompute : {Recompute::kNone, Recompute::kLayers, Recompute::kStage}) {
      for (const bool split : {false, true}) {
        for (const int parts : {1, 2}) {
          const std::string what = StrCat(kinds, " recompute ", static_cast<int>(recompute), " split ", split, " parts ", parts, " ");
          const Result actual = Train(kinds, recompute, split, parts);
          ExpectNear(actual.out, expected.out, what + "out");
          ExpectNear(actual.din, expected.din, what + "din");
          for (const auto& [name, values] : expected.gradients) ExpectNear(actual.gradients.at(name), values, what + name);
        }
      }
    }
  }
}

// Slots hold the outputs once, also where the next layer keeps the same tensor as its input.
TEST(KeptOutput, TakesOnePlace) {
  const std::int64_t e = PackedBytes(std::vector<TensorSpec>{kEdge});
  using Edges = std::vector<std::int64_t>;
  const auto slots = [&](const std::string& kinds, Recompute recompute, bool split) {
    const auto stage = *LayerStage::Create(
        Layers(kinds), {kEdge}, {.compute = DType::kF64, .recompute = recompute, .full_backward = !split, .split_backward = split});
    return Edges{stage->bytes(Area::kStash) / e, stage->bytes(Area::kInput) / e, stage->bytes(Area::kHandoff) / e};
  };
  EXPECT_EQ(slots("ggg", Recompute::kNone, false), (Edges{4, 0, 0}));  // the input and three outputs
  EXPECT_EQ(slots("gss", Recompute::kNone, false), (Edges{3, 0, 0}));  // the last layer keeps no output
  EXPECT_EQ(slots("ggg", Recompute::kLayers, false), (Edges{3, 0, 0}));
  EXPECT_EQ(slots("ggg", Recompute::kStage, false), (Edges{1, 0, 0}));
  EXPECT_EQ(slots("ggg", Recompute::kNone, true), (Edges{0, 4, 3}));
  EXPECT_EQ(slots("gsg", Recompute::kNone, true), (Edges{1, 2, 3}));  // Scale reads its input until its weight gradient, nobody its output
  EXPECT_EQ(slots("gsg", Recompute::kStage, true), (Edges{0, 1, 4}));
}

}  // namespace
}  // namespace lycia
