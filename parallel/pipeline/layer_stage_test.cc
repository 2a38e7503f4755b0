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

// out = in * w + sin(in). Reads its input in both backwards (wave 1), in the input gradient (3), or only what it keeps (0, 2).
class Wave final : public Layer {
 public:
  explicit Wave(int index)
      : name_(StrCat("wave", index)), keeps_input_(index % 2 == 1), until_(index == 1 ? KeepUntil::kWeight : KeepUntil::kInput) {}
  const std::string& name() const override { return name_; }

  StatusOr<std::vector<TensorSpec>> Plan(std::span<const TensorSpec> in, LayerPlan& plan) override {
    if (in[0].shape.dim(1) != kWidth) return InvalidArgument("width ", in[0].shape.dim(1), " is not ", kWidth);
    w_ = plan.Parameter({.name = name_, .shape = {kWidth}, .initial = Initial::kOne});
    if (keeps_input_) plan.KeepInput(until_);
    sine_ = plan.Keep(in[0], KeepUntil::kInput);
    input_ = plan.Keep(in[0], KeepUntil::kWeight);  // a copy, to check the edge against
    slope_ = plan.Handoff(in[0]);
    scratch_ = plan.Scratch(in[0]);
    workspace_ = plan.Workspace(56);
    plan.CountFlops(10, 5);
    return std::vector<TensorSpec>{in[0]};
  }
  void Forward(const LayerContext& context) const override {
    Poison(context.temporary(scratch_));
    const double* in = context.in[0].as<double>();
    for (std::int64_t i = 0; i < context.in[0].elements(); ++i) {
      const double x = in[i];
      context.keep(input_).as<double>()[i] = x;
      context.keep(sine_).as<double>()[i] = std::sin(x);
      context.out[0].as<double>()[i] = x * context.parameter(w_).as<double>()[i % kWidth] + std::sin(x);
    }
  }
  void BackwardInput(const LayerContext& context) const override {
    Poison(context.temporary(scratch_));
    for (std::int64_t i = 0; i < context.keep(input_).elements(); ++i) {
      const double x = Input(context, i, KeepUntil::kInput), dy = context.dout[0].as<double>()[i];
      EXPECT_EQ(context.keep(sine_).as<double>()[i], std::sin(x)) << name_;
      context.handoff(slope_).as<double>()[i] = dy;
      context.din[0].as<double>()[i] = dy * (context.parameter(w_).as<double>()[i % kWidth] + std::cos(x));
    }
  }
  void BackwardWeight(const LayerContext& context) const override {
    Poison(context.temporary(scratch_));
    for (std::int64_t i = 0; i < context.keep(input_).elements(); ++i) {
      const double x = Input(context, i, KeepUntil::kWeight);
      context.gradient(w_).as<double>()[i % kWidth] += context.handoff(slope_).as<double>()[i] * x;
    }
  }

 private:
  double Input(const LayerContext& context, std::int64_t i, KeepUntil now) const {
    const double kept = context.keep(input_).as<double>()[i];
    EXPECT_TRUE(!keeps_input_ || (now == KeepUntil::kWeight && until_ == KeepUntil::kInput) || context.in[0].as<double>()[i] == kept)
        << name_ << "[" << i << "]";
    return kept;
  }
  std::string name_;
  bool keeps_input_;
  KeepUntil until_;
  ParameterHandle w_;
  KeptHandle sine_, input_;
  HandoffHandle slope_;
  ScratchHandle scratch_, workspace_;
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
    for (std::int64_t i = 0; loss != nullptr && i < context.labels.elements(); ++i) {
      loss[i / kWidth] += context.in[0].as<double>()[i] * context.labels.as<std::int32_t>()[i];
    }
  }
  void BackwardInput(const LayerContext& context) const override {
    for (std::int64_t i = 0; i < context.labels.elements(); ++i)
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
  for (int i = 0; i < kWaves; ++i) layers.push_back(std::make_unique<Wave>(i));
  if (with_sum) layers.push_back(std::make_unique<Sum>());
  return layers;
}

std::unique_ptr<LayerStage> MakeStage(bool with_sum, Recompute recompute, bool full, bool split) {
  return *LayerStage::Create(
      Layers(with_sum), {kEdge},
      {.compute = DType::kF64, .recompute = recompute, .full_backward = full, .split_backward = split, .parts = {1, 3}});
}

double InputOf(int micro_batch, std::int64_t i) { return std::cos(1.0 + micro_batch * 17 + static_cast<double>(i)); }
double GradientOf(int micro_batch, std::int64_t i) { return std::sin(2.0 + micro_batch * 13 + static_cast<double>(i)); }

struct Result {
  std::vector<double> out, din, losses;  // of all micro-batches
  std::map<std::string, std::vector<double>> gradients;
  bool operator==(const Result&) const = default;
};

struct Plan {
  bool split = false;
  int forward_parts = 1, backward_parts = 1;
};

// Slots of the three kinds are numbered differently.
StageSlots SlotsOf(int micro_batch, int part, int parts) {
  return {.stash = (micro_batch + 1) % kMicroBatches,
          .input = micro_batch,
          .handoff = kMicroBatches - 1 - micro_batch,
          .part = part,
          .parts = parts};
}

// All forwards, then all backwards in the same order; other work dirties the transient memory in between, and slots as soon as they are
// free.
Result Train(LayerStage& stage, const Plan& plan) {
  StageMemoryForTest memory(stage, kMicroBatches);
  for (const ParameterSpec& spec : stage.parameters()) {
    for (std::int64_t c = 0; c < kWidth; ++c)
      memory.weights().at(spec.name)[static_cast<std::size_t>(c)] = 0.5 + 0.1 * static_cast<double>(c);
  }
  const std::unique_ptr<Device> device = NewCpuDevice();
  const std::unique_ptr<Stream> stream = *device->NewStream();
  StageContext context{.stream = stream.get(), .gradient_scale = 0.25};
  Result result;
  const bool last = stage.reads_labels();
  std::vector<double> edge(kRows * kWidth), din(kRows * kWidth);
  for (int m = 0; m < kMicroBatches; ++m) {
    const std::int64_t elements = kRows * kWidth / plan.forward_parts;
    std::vector<double> losses(kRows, 0);
    for (int part = 0; part < plan.forward_parts; ++part) {
      const StageSlots slots = SlotsOf(m, part, plan.forward_parts);
      for (std::int64_t i = 0; i < elements; ++i) {
        edge[static_cast<std::size_t>(i)] = InputOf(m, part * elements + i);
        if (last) static_cast<std::int32_t*>(stage.labels(slots))[i] = static_cast<std::int32_t>((part * elements + i) % 3 + m);
      }
      stage.TakeInput(*stream, slots, edge.data());
      context.sample_losses = last ? losses.data() + part * kRows / plan.forward_parts : nullptr;
      stage.Forward(context, slots, last ? nullptr : edge.data());
      if (!last) result.out.insert(result.out.end(), edge.begin(), edge.begin() + elements);
      memory.Poison(Area::kTransient);
    }
    result.losses.insert(result.losses.end(), losses.begin(), losses.end());
  }
  context.sample_losses = nullptr;
  const std::int64_t elements = kRows * kWidth / plan.backward_parts;
  for (int m = 0; m < kMicroBatches; ++m) {
    for (int part = 0; part < plan.backward_parts; ++part) {
      const StageSlots slots = SlotsOf(m, part, plan.backward_parts);
      for (std::int64_t i = 0; i < elements; ++i) edge[static_cast<std::size_t>(i)] = GradientOf(m, part * elements + i);
      const void* dout = last ? nullptr : edge.data();
      plan.split ? stage.BackwardInput(context, slots, dout, din.data()) : stage.Backward(context, slots, dout, din.data());
      memory.Poison(Area::kTransient);
      result.din.insert(result.din.end(), din.begin(), din.begin() + elements);
    }
    memory.Poison(Area::kInput, m);
  }
  for (int m = 0; plan.split && m < kMicroBatches; ++m) {
    for (int part = 0; part < plan.backward_parts; ++part) {
      StageSlots slots = SlotsOf(m, part, plan.backward_parts);
      slots.input = -1;
      stage.BackwardWeight(context, slots);
      memory.Poison(Area::kTransient);
    }
    memory.Poison(Area::kStash, SlotsOf(m, 0, 1).stash);
    memory.Poison(Area::kHandoff, SlotsOf(m, 0, 1).handoff);
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

TEST(LayerStage, EveryPolicySplitAndPartGivesTheSameBits) {
  for (const bool with_sum : {false, true}) {
    const Result expected = Expected(with_sum), plain = Train(*MakeStage(with_sum, Recompute::kNone, true, false), {});
    ExpectNear(plain.out, expected.out, "out");
    ExpectNear(plain.din, expected.din, "din");
    ExpectNear(plain.losses, expected.losses, "loss");
    for (const auto& [name, values] : expected.gradients) ExpectNear(plain.gradients.at(name), values, name);
    for (const Recompute recompute : kPolicies) {
      for (const auto& [full, split] : {std::pair{true, false}, {false, true}, {true, true}}) {
        for (const Plan& plan :
             {Plan{false, 1, 1}, Plan{false, 1, 3}, Plan{false, 3, 1}, Plan{false, 3, 3}, Plan{true, 1, 1}, Plan{true, 1, 3}}) {
          if (plan.split ? !split : !full) continue;
          const std::unique_ptr<LayerStage> stage = MakeStage(with_sum, recompute, full, split);
          EXPECT_TRUE(Train(*stage, plan) == plain)
              << "policy " << static_cast<int>(recompute) << " planned full " << full << ", split " << split << "; split " << plan.split
              << ", parts " << plan.forward_parts << " and " << plan.backward_parts;
        }
      }
    }
  }
}

// A slot holds what the policy says and no more: e is the size of an edge. Each wave keeps a copy of its input for the weight gradient, its
// sine for the input gradient, and hands over one tensor; wave 1 reads its input in both gradients, wave 3 and Sum in the input gradient.
TEST(LayerStage, SlotsHoldWhatThePolicyKeeps) {
  const std::int64_t e = PackedBytes(std::vector<TensorSpec>{kEdge});
  EXPECT_EQ(e, 128);  // 15 f64 padded to 64 bytes
  auto slots = [&](Recompute recompute, bool split) {
    const std::unique_ptr<LayerStage> stage = MakeStage(false, recompute, !split, split);
    return std::vector<std::int64_t>{stage->bytes(Area::kStash) / e, stage->bytes(Area::kInput) / e, stage->bytes(Area::kHandoff) / e};
  };
  using Edges = std::vector<std::int64_t>;
  // Inputs of the stage and of waves 1 and 3, two kept tensors of each wave.
  EXPECT_EQ(slots(Recompute::kNone, false), (Edges{3 + 2 * kWaves, 0, 0}));
  EXPECT_EQ(slots(Recompute::kLayers, false), (Edges{kWaves, 0, 0}));
  EXPECT_EQ(slots(Recompute::kStage, false), (Edges{1, 0, 0}));
  // Until the weight gradient: wave 1's input and the copies. Until the input gradient: the stage's input, wave 3's, the sines.
  EXPECT_EQ(slots(Recompute::kNone, true), (Edges{1 + kWaves, 2 + kWaves, kWaves}));
  // What is computed again for the weight gradient is handed over: the copies; with the whole stage, wave 1's input too.
  EXPECT_EQ(slots(Recompute::kLayers, true), (Edges{1, kWaves - 1, 2 * kWaves}));
  EXPECT_EQ(slots(Recompute::kStage, true), (Edges{0, 1, 2 * kWaves + 1}));
}

TEST(LayerStage, AddsUpItsLayersAndNamesThemInErrors) {
  const std::unique_ptr<LayerStage> stage = MakeStage(true, Recompute::kNone, true, false);
  EXPECT_EQ(stage->forward_flops(), 15.0 * kWaves);
  EXPECT_EQ(stage->input_flops(), 20.0 * kWaves);
  EXPECT_EQ(stage->weight_flops(), 10.0 * kWaves);
  EXPECT_TRUE(stage->reads_labels());
  EXPECT_TRUE(stage->outputs().empty());
  ASSERT_EQ(stage->parameters().size(), static_cast<std::size_t>(kWaves));
  EXPECT_EQ(stage->parameters()[2].name, "wave2");
  const Status status = LayerStage::Create(Layers(false), {{DType::kF64, {kRows, 6}}}, {.compute = DType::kF64}).status();
  EXPECT_EQ(status.message(), "wave0: width 6 is not 5");
}

TEST(LayerStageDeathTest, ASplitBackwardAndPartsMustBePlanned) {
  const std::unique_ptr<LayerStage> full = MakeStage(false, Recompute::kNone, true, false),
                                    split = MakeStage(false, Recompute::kNone, false, true);
  StageContext context;
  EXPECT_DEATH(full->BackwardWeight(context, {}), "planned for full backwards only");
  EXPECT_DEATH(split->Backward(context, {}, nullptr, nullptr), "planned for split backwards only");
  EXPECT_DEATH(full->Forward(context, {.part = 0, .parts = 2}, nullptr), "not planned for micro-batches in 2 parts");
}

}  // namespace
}  // namespace lycia
