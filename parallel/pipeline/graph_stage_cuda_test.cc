// GraphStage on a CUDA runtime without a GPU, whose kernels are host code: replayed calls against closed formulas.
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "parallel/pipeline/graph_stage.h"
#include "runtime/core/check.h"
#include "runtime/device/cuda_stream.h"
#include "runtime/device/testing/fake_cuda.h"

namespace lycia {
namespace {

constexpr std::int64_t kWidth = 3;
const TensorSpec kEdge{DType::kF64, {1, kWidth}};

// out = in * w (+ the step, as dropout would depend on it); dw += dout * in; din = dout * w.
class Scale final : public Layer {
 public:
  explicit Scale(bool varies) : varies_(varies) {}
  const std::string& name() const override { return name_; }
  StatusOr<std::vector<TensorSpec>> Plan(std::span<const TensorSpec> in, LayerPlan& plan) override {
    w_ = plan.Parameter({.name = name_, .shape = {kWidth}, .initial = Initial::kOne});
    plan.KeepInput(KeepUntil::kWeight);
    return std::vector<TensorSpec>{in[0]};
  }
  void Forward(const LayerContext& context) const override {
    const double shift = varies_ ? static_cast<double>(context.stage->random_step()) : 0;
    Enqueue(context, [=, in = context.in[0].as<double>(), out = context.out[0].as<double>(), w = context.parameter(w_).as<double>()] {
      for (std::int64_t i = 0; i < kWidth; ++i) out[i] = in[i] * w[i] + shift;
    });
  }
  void BackwardInput(const LayerContext& context) const override {
    Enqueue(context, [dout = context.dout[0].as<double>(), din = context.din[0].as<double>(), w = context.parameter(w_).as<double>()] {
      for (std::int64_t i = 0; i < kWidth; ++i) din[i] = dout[i] * w[i];
    });
  }
  void BackwardWeight(const LayerContext& context) const override {
    Enqueue(context, [dout = context.dout[0].as<double>(), in = context.in[0].as<double>(), dw = context.gradient(w_).as<double>()] {
      for (std::int64_t i = 0; i < kWidth; ++i) dw[i] += dout[i] * in[i];
    });
  }

 private:
  static void Enqueue(const LayerContext& context, std::function<void()> kernel) {
    LYCIA_CHECK_EQ(fake_cuda::EnqueueHostWork(cuda::TargetOf(context.stream()).stream, std::move(kernel)), cudaSuccess);
  }
  const std::string name_ = "scale";
  const bool varies_;
  ParameterHandle w_;
};

class GraphStageTest : public ::testing::Test {
 protected:
  static constexpr int kSlots = 3;

  ~GraphStageTest() override { fake_cuda::Reset(); }

  void Make(bool varies) {
    device_ = *NewCudaDevice(0);
    stream_ = *device_->NewStream();
    std::vector<std::unique_ptr<Layer>> layers;
    layers.push_back(std::make_unique<Scale>(varies));
    stage_ = *LayerStage::Create(std::move(layers), {kEdge}, {.compute = DType::kF64});
    LayerStage::Memory memory;
    stash_.resize(kSlots, std::vector<double>(static_cast<std::size_t>(stage_->bytes(Area::kStash)) / sizeof(double)));
    for (std::vector<double>& slot : stash_) memory.stash.push_back(slot.data());
    memory.input.assign(kSlots, nullptr);
    memory.handoff.assign(kSlots, nullptr);
    transient_.resize(static_cast<std::size_t>(stage_->bytes(Area::kTransient)) / sizeof(double) + 8);
    memory.transient = transient_.data();
    memory.weight = [this](const std::string&) { return Tensor{w_.data(), DType::kF64, {kWidth}}; };
    memory.gradient = [this](const std::string&, int) { return Tensor{dw_.data(), DType::kF64, {kWidth}}; };
    memory.fresh = [this](const std::string&, int) { return &fresh_; };
    stage_->Bind(memory);
    graphs_ = std::make_unique<GraphStage>(*stage_);
  }

  // One step of kSlots micro-batches, messages in a ring of two; weights and inputs are others in each step, their places are not.
  void Step(std::int64_t step, bool varies) {
    for (std::size_t i = 0; i < kWidth; ++i) w_[i] = 1 + 0.5 * static_cast<double>(step) + static_cast<double>(i);
    fresh_ = true;
    std::vector<double> dw(kWidth, 0.0);
    StageContext context{.stream = stream_.get(), .step = step};
    for (int m = 0; m < kSlots; ++m) {
      std::vector<double>&out = out_[m % 2], &din = din_[m % 2];
      for (std::size_t i = 0; i < kWidth; ++i) in_[i] = static_cast<double>(10 * step + m) + static_cast<double>(i), dout_[i] = in_[i] - 4;
      const StageSlots slots{.stash = m, .input = m, .handoff = m};
      graphs_->TakeInput(*stream_, slots, in_.data());
      graphs_->Forward(context, slots, out.data());
      graphs_->Backward(context, slots, dout_.data(), din.data());
      const Status done = stream_->Synchronize();
      ASSERT_TRUE(done.ok()) << done;
      for (std::size_t i = 0; i < kWidth; ++i) {
        EXPECT_EQ(out[i], in_[i] * w_[i] + (varies ? static_cast<double>(step) : 0)) << "step " << step << ", micro-batch " << m;
        EXPECT_EQ(din[i], dout_[i] * w_[i]) << "step " << step << ", micro-batch " << m;
        dw[i] += dout_[i] * in_[i];
      }
    }
    EXPECT_EQ(dw_, dw) << "step " << step;
    EXPECT_FALSE(fresh_);
  }

  std::unique_ptr<Device> device_;
  std::unique_ptr<Stream> stream_;
  std::unique_ptr<LayerStage> stage_;
  std::unique_ptr<GraphStage> graphs_;
  std::vector<std::vector<double>> stash_;
  std::vector<double> transient_, w_ = std::vector<double>(kWidth), dw_ = std::vector<double>(kWidth, 7.0),
                                  in_ = std::vector<double>(kWidth), dout_ = std::vector<double>(kWidth);
  std::vector<double> out_[2] = {std::vector<double>(kWidth), std::vector<double>(kWidth)},
                      din_[2] = {std::vector<double>(kWidth), std::vector<double>(kWidth)};
  bool fresh_ = false;
};

// The ring of messages and the slots have a period of one step here: calls are seen, captured, then replayed, with what memory holds then.
TEST_F(GraphStageTest, CallsAreReplayedWithTheSameNumbers) {
  Make(/*varies=*/false);
  constexpr std::int64_t kCalls = 2 * kSlots;
  const std::int64_t launches = fake_cuda::GraphLaunches();
  for (std::int64_t step = 0; step < 6; ++step) {
    graphs_->Replay(step > 0);
    Step(step, false);
  }
  EXPECT_EQ(graphs_->counts().plain, kCalls);
  EXPECT_EQ(graphs_->counts().captured, kCalls);
  EXPECT_EQ(graphs_->counts().replayed, 4 * kCalls);
  EXPECT_EQ(fake_cuda::GraphLaunches() - launches, 5 * kCalls);
  graphs_->Replay(false);
  Step(6, false);
  EXPECT_EQ(graphs_->counts().plain, 2 * kCalls);
}

TEST_F(GraphStageTest, WhatDependsOnTheStepIsNeverCaptured) {
  Make(/*varies=*/true);
  graphs_->Replay(true);
  for (std::int64_t step = 0; step < 4; ++step) Step(step, true);
  EXPECT_EQ(graphs_->counts().captured, 0);
  EXPECT_EQ(graphs_->counts().plain, 4 * 2 * kSlots);
}

TEST_F(GraphStageTest, AnEvaluationIsNotCaptured) {
  Make(/*varies=*/false);
  graphs_->Replay(true);
  StageContext context{.stream = stream_.get(), .training = false};
  for (int i = 0; i < 4; ++i) graphs_->Forward(context, {.stash = 0, .input = 0, .handoff = 0}, out_[0].data());
  EXPECT_EQ(graphs_->counts().plain, 4);
  EXPECT_TRUE(stream_->Synchronize().ok());
}

// Of more arguments than graphs are kept, the oldest make way: nothing grows, and what comes back often enough is replayed.
TEST_F(GraphStageTest, GraphsThatAreNotUsedMakeWay) {
  Make(/*varies=*/false);
  graphs_->Replay(true);
  const int live = fake_cuda::LiveObjects();
  std::vector<std::vector<double>> outs(300, std::vector<double>(kWidth));
  StageContext context{.stream = stream_.get()};
  in_.assign(kWidth, 2);
  w_.assign(kWidth, 3);
  const StageSlots slots{.stash = 0, .input = 0, .handoff = 0};
  const auto call = [&](std::size_t out) {
    graphs_->TakeInput(*stream_, slots, in_.data());
    graphs_->Forward(context, slots, outs[out].data());
    ASSERT_TRUE(stream_->Synchronize().ok());
    ASSERT_THAT(outs[out], ::testing::Each(6.0));
    outs[out].assign(kWidth, 0);
  };
  for (int round = 0; round < 2; ++round) {
    for (std::size_t out = 0; out < outs.size(); ++out) call(out);
  }
  EXPECT_EQ(graphs_->counts().captured, 0);
  for (int round = 0; round < 3; ++round) {
    for (std::size_t out = 0; out < 100; ++out) call(out);
  }
  EXPECT_EQ(graphs_->counts().captured, 100);
  EXPECT_EQ(graphs_->counts().replayed, 100);
  for (std::size_t out = 0; out < outs.size(); ++out) call(out);
  EXPECT_LE(fake_cuda::LiveObjects() - live, 128);
}

}  // namespace
}  // namespace lycia
