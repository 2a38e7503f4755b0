// What holds bit for bit between layouts, and what a step must not do. Small enough for the sanitizers: a dozen layouts of up to 8 ranks.
#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "gtest/gtest.h"
#include "runtime/comm/transports.h"
#include "runtime/device/testing/count_allocations.h"
#include "tests/layouts/truth_run.h"

namespace lycia::layouts {
namespace {

Record RunOrFail(const Layout& layout) {
  StatusOr<Record> record = RunOnThreads(layout);
  EXPECT_TRUE(record.ok()) << layout.Name() << ": " << record.status();
  return record.ok() ? *std::move(record) : Record{std::vector<StepRecord>(kSteps), 0};
}

void ExpectSameBits(const Layout& a, const Layout& b) {
  const Status same = CompareBitwise(RunOrFail(a), RunOrFail(b));
  EXPECT_TRUE(same.ok()) << a.Name() << " against " << b.Name() << ": " << same;
}

// RunOnThreads also fails where two holders of a weight differ after any step: the two copies of every Chimera stage, and data replicas.
TEST(LayoutInvariants, ARepeatedRunHasTheSameBits) {
  for (const DType precision : {DType::kF64, DType::kF32}) {
    for (const Layout& layout : {Layout{.schedule = "chimera", .stages = 4, .data = 2, .micro_batches = 3, .precision = precision},
                                 Layout{.schedule = "chimera", .stages = 4, .micro_batches = 6, .pipes = 4, .precision = precision},
                                 Layout{.schedule = "1f1b", .stages = 2, .data = 2, .micro_batches = 4, .precision = precision}}) {
      ExpectSameBits(layout, layout);
    }
  }
}

// Different data must give different bits, or the comparisons here compare nothing.
TEST(LayoutInvariants, OtherDataHaveOtherBits) {
  const Layout layout{.schedule = "chimera", .stages = 2, .micro_batches = 2, .samples = 2};
  Layout other = layout;
  other.masked = true;
  EXPECT_FALSE(CompareBitwise(RunOrFail(layout), RunOrFail(other)).ok());
}

TEST(LayoutInvariants, OnePipeLayoutsWithoutDataParallelismHaveTheSameBits) {
  for (const DType precision : {DType::kF64, DType::kF32}) {
    const Layout serial{.schedule = "gpipe", .micro_batches = 6, .samples = 2, .precision = precision};
    const Record bits = RunOrFail(serial);
    for (const char* schedule : {"gpipe", "1f1b"}) {
      for (const int stages : {1, 2, 4}) {
        Layout layout = serial;
        layout.schedule = schedule;
        layout.stages = stages;
        const Status same = CompareBitwise(RunOrFail(layout), bits);
        EXPECT_TRUE(same.ok()) << layout.Name() << " against " << serial.Name() << ": " << same;
      }
    }
  }
}

TEST(LayoutInvariants, RecomputeCreditsAndMeshOrderChangeNoBit) {
  const Layout plain{.schedule = "chimera", .stages = 2, .data = 2, .micro_batches = 4, .samples = 2, .masked = true};
  for (const Recompute recompute : {Recompute::kLayers, Recompute::kStage}) {
    Layout layout = plain;
    layout.recompute = recompute;
    ExpectSameBits(plain, layout);
  }
  for (const int credits : {1, 5}) {
    Layout layout = plain;
    layout.credits = credits;
    ExpectSameBits(plain, layout);
  }
  Layout transposed = plain;  // without replicas the order of ranks is the order of workers either way
  transposed.data = 1;
  Layout straight = transposed;
  transposed.mesh_order = "pipeline,data,context,expert,x,y,z";
  ExpectSameBits(straight, transposed);
}

// Weights change at every step: packed ones that were not made anew would show.
TEST(LayoutInvariants, PackedWeightsChangeNoBit) {
  for (const DType precision : {DType::kF32, DType::kBF16, DType::kF64}) {
    for (const char* schedule : {"1f1b", "chimera"}) {
      for (const schedule::UpdateMode update : {schedule::UpdateMode::kDecided, schedule::UpdateMode::kEager}) {
        Layout off{.schedule = schedule, .stages = 2, .micro_batches = 4, .samples = 2, .update = update, .precision = precision};
        off.clip = update == schedule::UpdateMode::kDecided;
        off.packed_weights = PackedWeights::kOff;
        for (const PackedWeights packed : {PackedWeights::kOn, PackedWeights::kAuto}) {
          Layout on = off;
          on.packed_weights = packed;
          ExpectSameBits(off, on);
        }
      }
    }
  }
}

// The same thread count and message order as the large matrix, on few layouts, for the race checker.
TEST(LayoutInvariants, AFewOfEachScheduleEqualTheTruth) {
  for (const Layout& layout : {Layout{.schedule = "gpipe", .stages = 4, .micro_batches = 3, .samples = 2},
                               Layout{.schedule = "1f1b", .stages = 4, .data = 2, .micro_batches = 2, .samples = 2},
                               Layout{.schedule = "chimera", .stages = 4, .data = 2, .micro_batches = 3, .samples = 2},
                               Layout{.schedule = "chimera", .stages = 6, .micro_batches = 12}}) {
    const Status equal = CompareWithTruth(RunOrFail(layout), TruthOf(layout));
    EXPECT_TRUE(equal.ok()) << layout.Name() << ": " << equal;
  }
}

// One bit of one weight on one rank: every other holder hears of it, the ranks that hold no copy are not disturbed, nobody hangs.
TEST(LayoutInvariants, AFlippedBitIsFoundByAllHolders) {
  const Layout layout{.schedule = "chimera", .stages = 4, .data = 2, .micro_batches = 4};
  constexpr int kDamaged = 5;  // replica 1, worker 1: stages 1 and 2
  std::vector<Status> found(static_cast<std::size_t>(layout.ranks()));
  std::vector<int> holds(found.size());
  const Status ran = RunThreadRanks(layout.ranks(), [&](Communicator& world) -> Status {
    const RandomBatches source(false);
    LYCIA_ASSIGN_OR_RETURN(const std::unique_ptr<Trainer> trainer, Trainer::Create(OptionsOf(layout), world));
    LYCIA_RETURN_IF_ERROR(trainer->TrainStep(0, source, LearningRateOf(0), false));
    LYCIA_RETURN_IF_ERROR(trainer->CompareReplicas());
    constexpr int kGroup = 1;  // of stage 1
    const auto rank = static_cast<std::size_t>(world.rank());
    if (world.rank() == kDamaged) {
      const Tensor weights = trainer->store().flat_weights(kGroup);
      static_cast<std::uint8_t*>(weights.data)[weights.bytes() / 2] ^= 1;
    }
    found[rank] = trainer->CompareReplicas();
    LYCIA_RETURN_IF_ERROR(world.Barrier());
    holds[rank] = trainer->store().holds(kGroup) ? 1 : 0;
    return OkStatus();
  });
  ASSERT_TRUE(ran.ok()) << ran;
  for (std::size_t rank = 0; rank < found.size(); ++rank) {
    EXPECT_EQ(holds[rank], rank % 4 == 1 || rank % 4 == 2 ? 1 : 0) << rank;
    EXPECT_EQ(found[rank].code(), holds[rank] == 1 ? absl::StatusCode::kDataLoss : absl::StatusCode::kOk)
        << "rank " << rank << ": " << found[rank];
    const bool names_the_stage = found[rank].message().find("replicas of stages {1} differ") != absl::string_view::npos;
    EXPECT_EQ(names_the_stage, holds[rank] == 1) << found[rank];
    const bool names_the_ranks = found[rank].message().find(", rank 5 ") != absl::string_view::npos;
    EXPECT_EQ(names_the_ranks, holds[rank] == 1) << found[rank];
  }
}

// A stop asked of one rank reaches all of them with the step's decision.
TEST(LayoutInvariants, AStopIsAgreedByAllRanks) {
  const Layout layout{.schedule = "chimera", .stages = 2, .data = 2, .micro_batches = 2};
  const Status ran = RunThreadRanks(layout.ranks(), [&](Communicator& world) -> Status {
    const RandomBatches source(false);
    LYCIA_ASSIGN_OR_RETURN(const std::unique_ptr<Trainer> trainer, Trainer::Create(OptionsOf(layout), world));
    for (const int asked : {-1, 3, -1}) {
      LYCIA_RETURN_IF_ERROR(trainer->TrainStep(0, source, LearningRateOf(0), world.rank() == asked));
      EXPECT_EQ(trainer->decision().stop, asked >= 0) << "rank " << world.rank();
    }
    return OkStatus();
  });
  EXPECT_TRUE(ran.ok()) << ran;
}

// Holds worker 3's join of SYNC{3} back until worker 0, the other member, has computed something after its own.
class LateMember final : public StepObserver {
 public:
  struct Shared {
    std::atomic<bool> went_on{false};
    std::atomic<bool> gave_up{false};
  };
  LateMember(int worker, Shared& shared) : worker_(worker), shared_(shared) {}
  void Begin(const schedule::Instruction& instruction, const std::string& text) override {
    if (worker_ == 0 && joined_ && schedule::IsCompute(instruction.op)) shared_.went_on = true;
    if (text != "SYNC{3}") return;
    joined_ = true;
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (worker_ == 3 && !shared_.went_on) {
      if (std::chrono::steady_clock::now() > deadline) shared_.gave_up = true;
      if (shared_.gave_up) return;
      std::this_thread::yield();
    }
  }
  void End(const schedule::Instruction&) override {}

 private:
  const int worker_;
  Shared& shared_;
  bool joined_ = false;
};

// Chimera's worker 0 is done with stage 3 early, and has backwards of stage 0 to run: it must not wait for the sum.
TEST(LayoutInvariants, ComputeGoesOnWhileGradientsAreSummed) {
  const Layout layout{.schedule = "chimera", .stages = 4, .micro_batches = 4, .sync = schedule::GradientSyncMode::kEager};
  LateMember::Shared shared;
  const Status ran = RunThreadRanks(layout.ranks(), [&](Communicator& world) -> Status {
    LateMember observer(world.rank(), shared);
    TrainerOptions options = OptionsOf(layout);
    options.observer = &observer;
    const RandomBatches source(false);
    LYCIA_ASSIGN_OR_RETURN(const std::unique_ptr<Trainer> trainer, Trainer::Create(options, world));
    return trainer->TrainStep(0, source, LearningRateOf(0), false);
  });
  EXPECT_TRUE(ran.ok()) << ran;
  EXPECT_TRUE(shared.went_on);
  EXPECT_FALSE(shared.gave_up) << "worker 0 waits for the sum of stage 3 before it computes";
}

TEST(LayoutInvariants, NothingIsAllocatedAfterTheFirstStep) {
  for (const char* schedule : {"gpipe", "1f1b", "chimera"}) {
    for (const Recompute recompute : {Recompute::kNone, Recompute::kStage}) {
      const Layout layout{.schedule = schedule, .stages = 2, .data = 2, .micro_batches = 4, .recompute = recompute};
      const Status ran = RunThreadRanks(layout.ranks(), [&](Communicator& world) -> Status {
        const RandomBatches source(false);
        LYCIA_ASSIGN_OR_RETURN(const std::unique_ptr<Trainer> trainer, Trainer::Create(OptionsOf(layout), world));
        EXPECT_GT(testing::AllocationsOfThisThread(), 0);  // the count counts
        LYCIA_RETURN_IF_ERROR(trainer->TrainStep(0, source, LearningRateOf(0), false));
        const std::int64_t before = testing::AllocationsOfThisThread();
        for (int step = 1; step <= 3; ++step) LYCIA_RETURN_IF_ERROR(trainer->TrainStep(step, source, LearningRateOf(1), false));
        LYCIA_RETURN_IF_ERROR(trainer->Evaluate(source, kEvaluationBatches).status());
        EXPECT_EQ(testing::AllocationsOfThisThread() - before, 0) << layout.Name() << " rank " << world.rank();
        return OkStatus();
      });
      EXPECT_TRUE(ran.ok()) << ran;
    }
  }
}

// Gives up on a wait once it is told to.
class GivesUp final : public WaitGuard {
 public:
  Status StillWaiting(std::int64_t) override { return armed_ ? absl::DeadlineExceededError("gave up") : OkStatus(); }
  void Arm() { armed_ = true; }

 private:
  std::atomic<bool> armed_{false};
};

// A rank whose watchdog ends its wait in a grid's collective goes while the others still come to it: nothing may be written to its memory
// then.
TEST(LayoutInvariants, ATrainerMayGoWhileItsGridWaits) {
  const Layout layout{.schedule = "gpipe", .samples = 2, .y = 2, .heads = 12, .width = 24};
  for (int attempt = 0; attempt < 20; ++attempt) {
    std::atomic<bool> gone{false};
    const Status ran = RunThreadRanks(layout.ranks(), [&](Communicator& world) -> Status {
      GivesUp guard;
      TrainerOptions options = OptionsOf(layout);
      if (world.rank() == 0) options.guard = &guard;
      LYCIA_ASSIGN_OR_RETURN(std::unique_ptr<Trainer> trainer, Trainer::Create(options, world));
      LYCIA_RETURN_IF_ERROR(world.Barrier());
      const RandomBatches source(false);
      if (world.rank() == 0) {
        guard.Arm();
        const Status status = trainer->TrainStep(0, source, LearningRateOf(0), false);
        gone = true;
        trainer.reset();
        return status;
      }
      while (!gone) std::this_thread::yield();
      std::this_thread::sleep_for(std::chrono::microseconds(5 * attempt));
      return trainer->TrainStep(0, source, LearningRateOf(0), false);
    });
    EXPECT_FALSE(ran.ok());
  }
}

}  // namespace
}  // namespace lycia::layouts
