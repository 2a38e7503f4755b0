// The trainer on a GPU, all ranks on the first one: what it computes there against the independent serial truth, and that it computes it
// again to the bit. Compiled twice: for CUDA's kernels run on the CPU, thread by thread (kernels/cuda/testing), and for a GPU, where it
// skips itself if there is none.
#include <array>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <memory>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "launch/trainer.h"
#include "runtime/device/device.h"
#include "runtime/io/temp_directory.h"
#include "tests/layouts/checkpoint_run.h"
#include "tests/layouts/reuse_run.h"
#include "tests/layouts/truth_run.h"

namespace lycia::layouts {
namespace {

class CudaLayouts : public testing::Test {
 protected:
  void SetUp() override {
    const StatusOr<std::unique_ptr<Device>> device = NewCudaDevice(0);
    if (!device.ok()) GTEST_SKIP() << device.status().message();
  }

  static Layout OnCuda(Layout layout) {
    layout.device = DeviceKind::kCuda;
    return layout;
  }
  static Record Run(const Layout& layout) {
    StatusOr<Record> record = RunOnThreads(layout);
    EXPECT_TRUE(record.ok()) << layout.Name() << ": " << record.status();
    return record.ok() ? *std::move(record) : Record();
  }
  // In f64 as near as any layout of the CPU must be.
  static void ExpectTruth(const Layout& layout) {
    const Record record = Run(OnCuda(layout));
    if (HasFailure()) return;
    const Status equal = CompareWithTruth(record, TruthOf(layout));
    EXPECT_TRUE(equal.ok()) << layout.Name() << ": " << equal;
  }
};

TEST_F(CudaLayouts, OneRankEqualsTheTruth) { ExpectTruth({.schedule = "gpipe", .micro_batches = 2, .samples = 2, .masked = true}); }

TEST_F(CudaLayouts, PipelinesEqualTheTruth) {
  ExpectTruth({.schedule = "1f1b", .stages = 2, .micro_batches = 3, .samples = 1});
  ExpectTruth({.schedule = "chimera", .stages = 2, .micro_batches = 4, .samples = 1});
  ExpectTruth({.schedule = "chimera-zb", .stages = 2, .micro_batches = 4, .samples = 1, .tied = false});
  ExpectTruth({.schedule = "1f1b", .stages = 4, .micro_batches = 4, .samples = 1, .recompute = Recompute::kLayers});
}

TEST_F(CudaLayouts, ReplicasEqualTheTruth) {
  ExpectTruth({.schedule = "gpipe", .data = 2, .micro_batches = 1, .samples = 2});
  ExpectTruth({.schedule = "chimera", .stages = 2, .data = 2, .micro_batches = 2, .samples = 1, .masked = true});
}

TEST_F(CudaLayouts, RotaryPositionsAndGroupedQueriesEqualTheTruth) {
  ExpectTruth({.schedule = "1f1b", .stages = 2, .micro_batches = 2, .samples = 1, .rotary = true, .heads = 4, .kv_heads = 2});
}

TEST_F(CudaLayouts, LlamaEqualsTheTruth) {
  Layout layout{.schedule = "chimera",
                .stages = 2,
                .micro_batches = 2,
                .samples = 2,
                .llama = true,
                .masked = true,
                .heads = 4,
                .kv_heads = 2,
                .width = 16};
  ExpectTruth(layout);
  layout.stages = 1, layout.schedule = "gpipe", layout.x = 2, layout.y = 2;  // norms of parts
  ExpectTruth(layout);
}

TEST_F(CudaLayouts, EagerUpdatesEqualTheTruth) {
  ExpectTruth({.schedule = "1f1b",
               .stages = 2,
               .data = 2,
               .micro_batches = 2,
               .samples = 1,
               .sync = schedule::GradientSyncMode::kEager,
               .update = schedule::UpdateMode::kEager,
               .clip = false});
}

TEST_F(CudaLayouts, TensorGridsEqualTheTruth) {
  for (Layout layout : GridLayouts()) {
    if (layout.schedule != "chimera" || layout.ranks() != 4) continue;  // two workers, twice: along x, y, z, and of replicas
    layout.micro_batches = 2;
    ExpectTruth(layout);
  }
}

// The contract of f32 and bf16 (docs/numerics.md), beside a serial run on the CPU.
TEST_F(CudaLayouts, F32AndBF16AreAsNearAsTheCpu) {
  for (const DType precision : {DType::kF32, DType::kBF16}) {
    const Layout layout{.schedule = "chimera", .stages = 2, .micro_batches = 2, .samples = 2, .precision = precision};
    const Layout serial{.schedule = "gpipe", .micro_batches = 2, .samples = 2, .precision = precision};
    const Record record = Run(OnCuda(layout)), of_cpu = Run(serial);
    if (HasFailure()) return;
    const Status near = CompareInLowPrecision(record, of_cpu, TruthOf(layout), precision == DType::kF32 ? kF32Tolerance : kBF16Tolerance);
    EXPECT_TRUE(near.ok()) << layout.Name() << ": " << near;
  }
}

// Products of f32 with operands of as many bits as f16: beside f16's contract, and not the bits of f32.
TEST_F(CudaLayouts, Tf32RoundsAsF16DoesAndF32DoesNot) {
  Layout layout{.schedule = "chimera", .stages = 2, .micro_batches = 2, .samples = 2, .precision = DType::kF32};
  const Record f32 = Run(OnCuda(layout));
  layout.tf32 = true;
  const Record tf32 = Run(OnCuda(layout));
  if (HasFailure()) return;
  EXPECT_FALSE(CompareBitwise(tf32, f32).ok());
  const Status near = CompareInLowPrecision(tf32, tf32, TruthOf(layout), kF16Tolerance);
  EXPECT_TRUE(near.ok()) << near;
  EXPECT_FALSE(CompareInLowPrecision(tf32, tf32, TruthOf(layout), kF32Tolerance).ok());
}

// f16 beside one rank of the same device: there is none on the CPU. A loss scale that lets gradients vanish is found out.
TEST_F(CudaLayouts, F16IsAsNearAsOneRank) {
  const Layout serial{.schedule = "gpipe", .micro_batches = 2, .samples = 2, .precision = DType::kF16};
  const Record of_one = Run(OnCuda(serial));
  if (HasFailure()) return;
  std::vector<Layout> layouts = {{.schedule = "chimera", .stages = 2, .micro_batches = 2, .samples = 2, .precision = DType::kF16},
                                 {.schedule = "1f1b", .stages = 2, .data = 2, .micro_batches = 2, .samples = 1, .precision = DType::kF16}};
  for (const Layout& layout : layouts) {
    const Record record = Run(OnCuda(layout));
    if (HasFailure()) return;
    const Status near = CompareInLowPrecision(record, of_one, TruthOf(layout), kF16Tolerance);
    EXPECT_TRUE(near.ok()) << layout.Name() << ": " << near;
  }
  Layout unscaled = serial;
  unscaled.loss_scale = 0x1p-12;
  const Record record = Run(OnCuda(unscaled));
  EXPECT_FALSE(CompareInLowPrecision(record, of_one, TruthOf(unscaled), kF16Tolerance).ok()) << "nothing has vanished";
}

TEST_F(CudaLayouts, TensorGridsInF16AreAsNearAsOneRank) {
  const Layout serial{
      .schedule = "gpipe", .micro_batches = 2, .samples = 2, .masked = true, .precision = DType::kF16, .heads = 12, .width = 24};
  const Record of_one = Run(OnCuda(serial));
  if (HasFailure()) return;
  for (const auto& [x, y, z] : {std::array{2, 2, 1}, {1, 2, 2}}) {
    Layout layout = serial;
    layout.x = x, layout.y = y, layout.z = z;
    const Record record = Run(OnCuda(layout));
    if (HasFailure()) return;
    const Status near = CompareInLowPrecision(record, of_one, TruthOf(layout), kF16Tolerance);
    EXPECT_TRUE(near.ok()) << layout.Name() << ": " << near;
  }
}

// Of a rank: everything that a step may change.
std::string WeightsAndStates(Trainer& trainer) {
  std::string bytes;
  for (const int g : trainer.store().local_groups()) {
    const ShardedAdamW::Shard shard = trainer.optimizer().shard(g);
    for (const Tensor& tensor : {trainer.store().flat_weights(g), shard.weight, shard.m, shard.v}) {
      const Status read = trainer.host().Read(tensor, [&](const Tensor& host) {
        bytes.append(static_cast<const char*>(host.data), static_cast<std::size_t>(host.bytes()));
        return OkStatus();
      });
      EXPECT_TRUE(read.ok()) << read;
    }
  }
  return bytes;
}

// A scale far too high is halved step by step, on all ranks alike, and nothing is updated until gradients are finite.
TEST_F(CudaLayouts, StepsThatOverflowUpdateNothingOnAnyRank) {
  constexpr double kScale = 0x1p22;  // over 24 loss tokens: above 65504 already in the loss's own gradient
  const Layout layout = OnCuda(
      {.schedule = "chimera", .stages = 2, .data = 2, .micro_batches = 2, .samples = 1, .precision = DType::kF16, .loss_scale = kScale});
  std::vector<int> skipped(static_cast<std::size_t>(layout.ranks()));
  const Status ran = OnRanks(layout, [&](Communicator& world) -> Status {
    LYCIA_ASSIGN_OR_RETURN(const std::unique_ptr<Trainer> trainer, Trainer::Create(OptionsOf(layout), world));
    const RandomBatches batches(/*masked=*/false);
    int& mine = skipped[static_cast<std::size_t>(world.rank())];
    for (int step = 0; step < 16; ++step) {
      const std::string before = WeightsAndStates(*trainer);
      LYCIA_RETURN_IF_ERROR(trainer->TrainStep(step, batches, kLearningRate, /*stop=*/false));
      LYCIA_RETURN_IF_ERROR(trainer->CompareReplicas());
      const Decision& decision = trainer->decision();
      EXPECT_EQ(decision.loss_scale, std::ldexp(kScale, -mine));
      EXPECT_EQ(decision.skipped, !decision.finite);
      EXPECT_EQ(WeightsAndStates(*trainer) == before, decision.skipped) << "step " << step << " rank " << world.rank();
      if (!decision.skipped) break;
      EXPECT_EQ(trainer->optimizer().loss_scale(), std::ldexp(kScale, -++mine));
    }
    return OkStatus();
  });
  ASSERT_TRUE(ran.ok()) << ran;
  EXPECT_TRUE(skipped[0] > 0 && skipped[0] < 16) << skipped[0];
  for (const int of_rank : skipped) EXPECT_EQ(of_rank, skipped[0]);
}

TEST_F(CudaLayouts, F16OnTheCpuAndWithEagerUpdatesIsRefused) {
  const Layout on_cpu{.schedule = "gpipe", .precision = DType::kF16};
  EXPECT_EQ(RunOnThreads(on_cpu).status().code(), absl::StatusCode::kInvalidArgument);
  const Layout eager = OnCuda({.schedule = "gpipe", .update = schedule::UpdateMode::kEager, .clip = false, .precision = DType::kF16});
  const Status refused = RunOnThreads(eager).status();
  EXPECT_EQ(refused.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_NE(refused.message().find("overflowed"), std::string::npos) << refused;
}

// Rows that repeat are computed once: the numbers of a run without that.
TEST_F(CudaLayouts, ExactReuseEqualsTheTruth) {
  for (const auto& [schedule, stages, data] : {std::tuple("1f1b", 1, 1), {"chimera", 2, 2}}) {
    const Layout layout = OnCuda(ReuseGpt(schedule, stages, data, /*reuse=*/true));
    ReuseSeen seen;
    const Record record = TrainAndLook(layout, &seen);
    if (HasFailure()) return;
    const Status equal = CompareWithTruth(record, TruthOf(layout));
    EXPECT_TRUE(equal.ok()) << layout.Name() << ": " << equal;
    EXPECT_GE(seen.reused, layout.ranks()) << layout.Name();
    EXPECT_LT(seen.least_ratio, 0.8) << layout.Name();
  }
}

// f16 beside one dense rank of the same type. Sums over the rows of a cluster are rounded to f16.
TEST_F(CudaLayouts, ExactReuseInF16IsAsNearAsOneRank) {
  Layout serial = OnCuda(ReuseGpt("gpipe", 1, 1, /*reuse=*/false));
  serial.precision = DType::kF16;
  const Record of_one = Run(serial);
  if (HasFailure()) return;
  Layout layout = OnCuda(ReuseGpt("chimera", 2, 1, /*reuse=*/true));
  layout.precision = DType::kF16;
  ReuseSeen seen;
  const Record record = TrainAndLook(layout, &seen);
  if (HasFailure()) return;
  const Status near = CompareInLowPrecision(record, of_one, TruthOf(layout), kF16Tolerance);
  EXPECT_TRUE(near.ok()) << layout.Name() << ": " << near;
  EXPECT_GE(seen.reused, layout.ranks());
  EXPECT_LT(seen.least_ratio, 0.8);
}

// Gradients of a step that overflows are no numbers: comparing them must not make clusters narrower.
TEST_F(CudaLayouts, ProbesOfStepsThatOverflowDoNotCount) {
  Layout layout = OnCuda(ReuseGpt("1f1b", 1, 1, /*reuse=*/false));
  layout.micro_batches = 2;
  layout.precision = DType::kF16;
  layout.loss_scale = 0x1p24;
  layout.reuse = ReuseTrainingOf(ReusePolicy::kQuantized, /*always=*/true);
  layout.reuse->controller.budget = 1;
  layout.reuse->controller.probe_every = 1;
  const double width = layout.reuse->controller.first_width;
  int skipped = 0, probed = 0;
  const Status ran = OnRanks(layout, [&](Communicator& world) -> Status {
    LYCIA_ASSIGN_OR_RETURN(const std::unique_ptr<Trainer> trainer, Trainer::Create(OptionsOf(layout), world));
    const RandomBatches batches(layout.masked);
    for (int step = 0; step < 16; ++step) {
      LYCIA_RETURN_IF_ERROR(trainer->TrainStep(step, batches, kLearningRate, /*stop=*/false));
      for (const ReuseControl::Row& row : trainer->reuse()->rows()) EXPECT_EQ(row.width, width) << row.layer << " step " << step;
      if (!trainer->decision().skipped) break;
      ++skipped;
      for (const ReuseControl::Row& row : trainer->reuse()->rows()) probed += trainer->reuse()->slot(row.layer)->probe;
    }
    return OkStatus();
  });
  ASSERT_TRUE(ran.ok()) << ran;
  EXPECT_TRUE(skipped > 1 && skipped < 16) << skipped;
  EXPECT_GT(probed, 0);
}

// Clusters of alike rows, probes and the controller's decisions: the same again, to the bit.
TEST_F(CudaLayouts, ReusedRunsHaveTheSameBits) {
  for (const auto& [policy, precision] :
       {std::pair(ReusePolicy::kExact, DType::kBF16), {ReusePolicy::kQuantized, DType::kF32}, {ReusePolicy::kLsh, DType::kF16}}) {
    Layout layout = OnCuda(ReuseGpt("chimera", 2, 1, /*reuse=*/false));
    layout.micro_batches = 2;
    layout.precision = precision;
    layout.reuse = ReuseTrainingOf(policy, /*always=*/true);
    layout.reuse->controller.budget = 1;
    ReuseSeen seen, again;
    const Record first = TrainAndLook(layout, &seen);
    if (HasFailure()) return;
    const Status same = CompareBitwise(first, TrainAndLook(layout, &again));
    EXPECT_TRUE(same.ok()) << layout.Name() << ": " << same;
    EXPECT_GT(seen.reused, 0) << layout.Name();
    EXPECT_LT(seen.least_ratio, 1) << layout.Name();
    EXPECT_EQ(seen.states, again.states) << layout.Name();
  }
}

TEST_F(CudaLayouts, CheckpointsGoFromDeviceToDevice) {
  const Layout on_cpu{.schedule = "gpipe", .micro_batches = 2, .samples = 2, .precision = DType::kF32};
  const Layout on_cuda = OnCuda({.schedule = "chimera", .stages = 2, .data = 2, .micro_batches = 2, .precision = DType::kF32});
  Layout half = on_cuda, half_alone = OnCuda(on_cpu);
  half.precision = half_alone.precision = DType::kF16;
  for (const auto& [from, to] : {std::pair{on_cuda, on_cpu}, {on_cpu, on_cuda}, {on_cuda, on_cuda}, {half, half_alone}}) {
    const TempDirectory folder;
    const Status trained = TrainAndSave(from, folder / "first");
    ASSERT_TRUE(trained.ok()) << from.Name() << ": " << trained;
    const Status loaded = LoadAndSave(folder / "first", to, folder / "second");
    ASSERT_TRUE(loaded.ok()) << from.Name() << " to " << to.Name() << ": " << loaded;
    const StatusOr<CheckpointBytes> first = ReadAll(folder / "first"), second = ReadAll(folder / "second");
    ASSERT_TRUE(first.ok() && second.ok()) << first.status() << second.status();
    EXPECT_GT(first->size(), 10u);
    EXPECT_EQ(Differences(*first, *second), std::vector<std::string>()) << from.Name() << " to " << to.Name();
  }
}

TEST_F(CudaLayouts, RunsHaveTheSameBits) {
  for (const DType precision : {DType::kF32, DType::kBF16, DType::kF16}) {
    const Layout layout = OnCuda({.schedule = "chimera", .stages = 2, .data = 2, .micro_batches = 2, .samples = 1, .precision = precision});
    const Record first = Run(layout);
    if (HasFailure()) return;
    const Status same = CompareBitwise(first, Run(layout));
    EXPECT_TRUE(same.ok()) << layout.Name() << ": " << same;
  }
}

// The most calls that a rank has replayed as graphs.
class CountReplays final : public RankWatch {
 public:
  explicit CountReplays(std::atomic<std::int64_t>* most) : most_(most) {}
  StepObserver* observer() override { return nullptr; }
  void Start(const Trainer&, bool) override {}
  Status Finish(const Trainer& trainer, bool) override {
    const std::int64_t replayed = trainer.graph_counts().replayed;
    std::int64_t before = most_->load();
    while (before < replayed && !most_->compare_exchange_weak(before, replayed)) {
    }
    return OkStatus();
  }

 private:
  std::atomic<std::int64_t>* const most_;
};

// Whole and halved calls, split backwards, gradients that are written first and added to later, several dtypes: replayed as enqueued.
TEST_F(CudaLayouts, GraphsHaveTheSameBits) {
  const Layout layouts[] = {
      {.schedule = "gpipe", .micro_batches = 2, .samples = 2, .dropout = 0},
      {.schedule = "1f1b", .stages = 2, .data = 2, .micro_batches = 3, .recompute = Recompute::kLayers, .dropout = 0},
      {.schedule = "chimera", .stages = 2, .micro_batches = 4, .precision = DType::kBF16, .dropout = 0},
      {.schedule = "chimera-zb", .stages = 2, .micro_batches = 4, .tied = false, .precision = DType::kF32, .dropout = 0}};
  for (Layout layout : layouts) {
    layout = OnCuda(layout);
    layout.graphs = CudaGraphs::kOff;
    const Record off = Run(layout);
    layout.graphs = CudaGraphs::kOn;
    std::atomic<std::int64_t> replayed = 0;
    const StatusOr<Record> on = RunOnThreads(layout, [&] { return std::make_unique<CountReplays>(&replayed); });
    ASSERT_TRUE(on.ok()) << layout.Name() << ": " << on.status();
    const Status same = CompareBitwise(off, *on);
    EXPECT_TRUE(same.ok()) << layout.Name() << ": " << same;
    EXPECT_GT(replayed.load(), 0) << layout.Name();
  }
}

// Masks of dropout differ from step to step: nothing may be replayed, and what is asked for is right all the same.
TEST_F(CudaLayouts, CallsWithDropoutAreNotReplayed) {
  Layout layout = OnCuda({.schedule = "1f1b", .stages = 2, .micro_batches = 2});
  ASSERT_GT(layout.dropout, 0);
  layout.graphs = CudaGraphs::kOn;
  std::atomic<std::int64_t> replayed = 0;
  const StatusOr<Record> record = RunOnThreads(layout, [&] { return std::make_unique<CountReplays>(&replayed); });
  ASSERT_TRUE(record.ok()) << record.status();
  EXPECT_EQ(replayed.load(), 0);
  const Status equal = CompareWithTruth(*record, TruthOf(layout));
  EXPECT_TRUE(equal.ok()) << equal;
}

}  // namespace
}  // namespace lycia::layouts
