// What would a wrong memory layout still pass? One micro-batch at a time. So several are in flight, every tensor that may be overwritten is
// poisoned, and layers check in the backward that what they kept is what they wrote.
#include "parallel/pipeline/layer_stage.h"

#include <cmath>
#include <cstdint>
#include <limits>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "parallel/pipeline/stage_memory_for_test.h"
#include "runtime/device/device.h"

namespace lycia {
namespace {

constexpr std::int64_t kRows = 3, kWidth = 5;

void Poison(const Tensor& tensor) {
  for (std::int64_t i = 0; i < tensor.elements(); ++i) tensor.as<double>()[i] = std::numeric_limits<double>::quiet_NaN();
}

// out = in * w + step * kept, with kept = sin(in). Reads its input in the backward, or only what it keeps.
class Wave final : public Layer {
 public:
  Wave(int index, bool keeps_input) : name_(StrCat("wave", index)), keeps_input_(keeps_input) {}
  const std::string& name() const override { return name_; }

  StatusOr<std::vector<TensorSpec>> Plan(std::span<const TensorSpec> in, LayerPlan& plan) override {
    if (in[0].shape.dim(1) != kWidth) return InvalidArgument("width ", in[0].shape.dim(1), " is not ", kWidth);
    w_ = plan.Parameter({.name = name_, .shape = {kWidth}, .initial = Initial::kOne});
    if (keeps_input_) plan.KeepInput(KeepUntil::kWeight);
    sine_ = plan.Keep(in[0], KeepUntil::kWeight);
    input_ = plan.Keep(in[0], KeepUntil::kWeight);  // a copy, to check the edge against
    slope_ = plan.Handoff(in[0]);
    scratch_ = plan.Scratch({DType::kF64, {7}});
    plan.CountFlops(10);
    return std::vector<TensorSpec>{in[0]};
  }
  void Forward(const LayerContext& context) const override {
    Poison(context.temporary(scratch_));
    const double* in = context.in[0].as<double>();
    for (std::int64_t i = 0; i < kRows * kWidth; ++i) {
      const double x = in[i];
      context.keep(input_).as<double>()[i] = x;
      context.keep(sine_).as<double>()[i] = std::sin(x);
      context.out[0].as<double>()[i] = x * context.parameter(w_).as<double>()[i % kWidth] + std::sin(x);
    }
  }
  void BackwardInput(const LayerContext& context) const override {
    Poison(context.temporary(scratch_));
    for (std::int64_t i = 0; i < kRows * kWidth; ++i) {
      const double x = Input(context, i), dy = context.dout[0].as<double>()[i];
      EXPECT_EQ(context.keep(sine_).as<double>()[i], std::sin(x)) << name_;
      context.handoff(slope_).as<double>()[i] = dy;
      context.din[0].as<double>()[i] = dy * (context.parameter(w_).as<double>()[i % kWidth] + std::cos(x));
    }
  }
  void BackwardWeight(const LayerContext& context) const override {
    Poison(context.temporary(scratch_));
    for (std::int64_t i = 0; i < kRows * kWidth; ++i) {
      const double x = Input(context, i);
      EXPECT_EQ(context.keep(sine_).as<double>()[i], std::sin(x)) << name_;
      context.gradient(w_).as<double>()[i % kWidth] += context.handoff(slope_).as<double>()[i] * x;
    }
  }

 private:
  double Input(const LayerContext& context, std::int64_t i) const {
    const double kept = context.keep(input_).as<double>()[i];
    EXPECT_TRUE(!keeps_input_ || context.in[0].as<double>()[i] == kept) << name_ << "[" << i << "]";
    return kept;
  }
  std::string name_;
  bool keeps_input_;
  ParameterHandle w_;
  KeptHandle sine_, input_;
  HandoffHandle slope_;
  ScratchHandle scratch_;
};

// loss = sum(in * label); no output.
class Sum final : public Layer {
 public:
  const std::string& name() const override { return name_; }
  StatusOr<std::vector<TensorSpec>> Plan(std::span<const TensorSpec>, LayerPlan& plan) override {
    plan.ReadLabels({DType::kI32, {kRows, kWidth}});
    plan.KeepInput(KeepUntil::kInput);
    return std::vector<TensorSpec>{};
  }
  void Forward(const LayerContext& context) const override {
    double* loss = context.stage->sample_losses;
    for (std::int64_t i = 0; loss != nullptr && i < kRows * kWidth; ++i) {
      loss[i / kWidth] += context.in[0].as<double>()[i] * context.labels.as<std::int32_t>()[i];
    }
  }
  void BackwardInput(const LayerContext& context) const override {
    for (std::int64_t i = 0; i < kRows * kWidth; ++i)
      context.din[0].as<double>()[i] = context.stage->gradient_scale * context.labels.as<std::int32_t>()[i];
  }
  void BackwardWeight(const LayerContext&) const override {}

 private:
  std::string name_ = "sum";
};

constexpr int kWaves = 4, kMicroBatches = 3;
const TensorSpec kEdge{DType::kF64, {kRows, kWidth}};

std::vector<std::unique_ptr<Layer>> Layers(bool with_sum) {
  std::vector<std::unique_ptr<Layer>> layers;
  for (int i = 0; i < kWaves; ++i) layers.push_back(std::make_unique<Wave>(i, i % 2 == 1));
  if (with_sum) layers.push_back(std::make_unique<Sum>());
  return layers;
}

std::unique_ptr<LayerStage> MakeStage(bool with_sum, Recompute recompute, bool split) {
  return *LayerStage::Create(Layers(with_sum), {kEdge}, {.compute = DType::kF64, .recompute = recompute, .split_backward = split});
}

double InputOf(int micro_batch, std::int64_t i) { return std::cos(1.0 + micro_batch * 17 + static_cast<double>(i)); }
double GradientOf(int micro_batch, std::int64_t i) { return std::sin(2.0 + micro_batch * 13 + static_cast<double>(i)); }

struct Result {
  std::vector<double> out, din, losses;  // of all micro-batches
  std::map<std::string, std::vector<double>> gradients;
  bool operator==(const Result&) const = default;
};

// All forwards, then all backwards in the same order; other work dirties the transient memory in between.
Result Train(LayerStage& stage, bool split) {
  StageMemoryForTest memory(stage, kMicroBatches);
  for (const ParameterSpec& spec : stage.parameters()) {
    for (std::int64_t c = 0; c < kWidth; ++c)
      memory.weights().at(spec.name)[static_cast<std::size_t>(c)] = 0.5 + 0.1 * static_cast<double>(c);
  }
  const std::unique_ptr<Device> device = NewCpuDevice();
  const std::unique_ptr<Stream> stream = *device->NewStream();
  StageContext context{.stream = stream.get(), .gradient_scale = 0.25};
  Result result;
  std::vector<double> edge(kRows * kWidth), din(kRows * kWidth);
  for (int m = 0; m < kMicroBatches; ++m) {
    for (std::int64_t i = 0; i < kRows * kWidth; ++i) {
      static_cast<double*>(stage.input(m))[i] = InputOf(m, i);
      if (stage.reads_labels()) static_cast<std::int32_t*>(stage.labels(m))[i] = static_cast<std::int32_t>(i % 3 + m);
    }
    std::vector<double> losses(kRows, 0);
    context.sample_losses = stage.reads_labels() ? losses.data() : nullptr;
    stage.Forward(context, m, stage.reads_labels() ? nullptr : edge.data());
    if (!stage.reads_labels()) result.out.insert(result.out.end(), edge.begin(), edge.end());
    result.losses.insert(result.losses.end(), losses.begin(), losses.end());
    memory.PoisonTransient();
  }
  context.sample_losses = nullptr;
  for (int m = 0; m < kMicroBatches; ++m) {
    for (std::int64_t i = 0; i < kRows * kWidth; ++i) edge[static_cast<std::size_t>(i)] = GradientOf(m, i);
    const void* dout = stage.reads_labels() ? nullptr : edge.data();
    if (split) {
      stage.BackwardInput(context, m, dout, din.data());
      memory.PoisonTransient();
    } else {
      stage.Backward(context, m, dout, din.data());
      memory.PoisonTransient();
    }
    result.din.insert(result.din.end(), din.begin(), din.end());
  }
  for (int m = 0; split && m < kMicroBatches; ++m) {
    stage.BackwardWeight(context, m);
    memory.PoisonTransient();
  }
  result.gradients = memory.gradients();
  EXPECT_TRUE(memory.BordersAreIntact());
  return result;
}

// The same numbers without stages, slots or layers.
Result Expected(bool with_sum) {
  Result result;
  for (int i = 0; i < kWaves; ++i) result.gradients[StrCat("wave", i)].assign(kWidth, 0.0);
  auto w = [](std::int64_t i) { return 0.5 + 0.1 * static_cast<double>(i % kWidth); };
  for (int m = 0; m < kMicroBatches; ++m) {
    std::vector<double> losses(kRows, 0), din(kRows * kWidth);
    for (std::int64_t i = 0; i < kRows * kWidth; ++i) {
      std::vector<double> x = {InputOf(m, i)};
      for (int layer = 0; layer < kWaves; ++layer) x.push_back(x.back() * w(i) + std::sin(x.back()));
      double dy = GradientOf(m, i);
      if (with_sum) {
        const auto label = static_cast<double>(i % 3 + m);
        losses[static_cast<std::size_t>(i / kWidth)] += x.back() * label;
        dy = 0.25 * label;
      } else {
        result.out.push_back(x.back());
      }
      for (int layer = kWaves; layer-- > 0;) {
        const double at = x[static_cast<std::size_t>(layer)];
        result.gradients[StrCat("wave", layer)][static_cast<std::size_t>(i % kWidth)] += dy * at;
        dy *= w(i) + std::cos(at);
      }
      din[static_cast<std::size_t>(i)] = dy;
    }
    result.losses.insert(result.losses.end(), losses.begin(), losses.end());
    result.din.insert(result.din.end(), din.begin(), din.end());
  }
  return result;
}

void ExpectNear(const std::vector<double>& actual, const std::vector<double>& expected, const std::string& what) {
  ASSERT_EQ(actual.size(), expected.size()) << what;
  for (std::size_t i = 0; i < actual.size(); ++i) EXPECT_NEAR(actual[i], expected[i], 1e-13) << what << "[" << i << "]";
}

constexpr Recompute kPolicies[] = {Recompute::kNone, Recompute::kLayers, Recompute::kStage};

TEST(LayerStage, EveryPolicyAndSplitGivesTheSameBits) {
  for (const bool with_sum : {false, true}) {
    const Result expected = Expected(with_sum), plain = Train(*MakeStage(with_sum, Recompute::kNone, false), false);
    ExpectNear(plain.out, expected.out, "out");
    ExpectNear(plain.din, expected.din, "din");
    ExpectNear(plain.losses, expected.losses, "loss");
    for (const auto& [name, values] : expected.gradients) ExpectNear(plain.gradients.at(name), values, name);
    for (const Recompute recompute : kPolicies) {
      for (const bool planned_split : {false, true}) {
        for (const bool split : {false, true}) {
          if (split && !planned_split) continue;
          const std::unique_ptr<LayerStage> stage = MakeStage(with_sum, recompute, planned_split);
          EXPECT_TRUE(Train(*stage, split) == plain)
              << "policy " << static_cast<int>(recompute) << " planned split " << planned_split << " split " << split;
        }
      }
    }
  }
}

// A slot holds what the policy says and no more.
TEST(LayerStage, StashIsWhatThePolicyKeeps) {
  const std::int64_t edge = PackedBytes(std::vector<TensorSpec>{kEdge}), kept = 2 * edge;
  auto stash = [](Recompute recompute, bool split) { return MakeStage(false, recompute, split)->stash_bytes(); };
  EXPECT_EQ(edge, 128);  // 15 f64 padded to 64 bytes
  EXPECT_EQ(stash(Recompute::kNone, false),
            edge + 2 * edge + kWaves * kept);  // the inputs of waves 1 and 3 are read again, that of 2 is not
  EXPECT_EQ(stash(Recompute::kLayers, false), kWaves * edge);
  EXPECT_EQ(stash(Recompute::kStage, false), edge);
  for (const Recompute recompute : kPolicies) EXPECT_EQ(stash(recompute, true), stash(recompute, false) + kWaves * edge);  // handoffs
}

TEST(LayerStage, AddsUpItsLayersAndNamesThemInErrors) {
  const std::unique_ptr<LayerStage> stage = MakeStage(true, Recompute::kNone, false);
  EXPECT_EQ(stage->forward_flops(), 10.0 * kWaves);
  EXPECT_TRUE(stage->reads_labels());
  EXPECT_TRUE(stage->outputs().empty());
  ASSERT_EQ(stage->parameters().size(), static_cast<std::size_t>(kWaves));
  EXPECT_EQ(stage->parameters()[2].name, "wave2");
  const Status status = LayerStage::Create(Layers(false), {{DType::kF64, {kRows, 6}}}, {.compute = DType::kF64}).status();
  EXPECT_EQ(status.message(), "wave0: width 6 is not 5");
}

TEST(LayerStageDeathTest, ASplitBackwardMustBePlanned) {
  const std::unique_ptr<LayerStage> stage = MakeStage(false, Recompute::kNone, false);
  StageContext context;
  EXPECT_DEATH(stage->BackwardWeight(context, 0), "planned for full backwards only");
}

}  // namespace
}  // namespace lycia
