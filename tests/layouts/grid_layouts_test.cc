// Tensor grids inside the trainer: every grid under every kind of schedule, with replicas, trains what the independent serial truth trains.
//
// What a wrong composition would still pass: one micro-batch (no accumulation), no clipping (a norm over some of the ranks), one replica
// (vectors that are never summed over replicas), a head that is not tied (its gradient on another stage). So there is all of that.
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "gtest/gtest.h"
#include "parallel/schedule/generators.h"
#include "runtime/comm/transports.h"
#include "tests/layouts/memory_watch.h"
#include "tests/layouts/truth_run.h"

namespace lycia::layouts {
namespace {

Record RunOrFail(const Layout& layout) {
  StatusOr<Record> record = RunOnThreads(layout, [] { return std::make_unique<MemoryWatch>(); });
  EXPECT_TRUE(record.ok()) << layout.Name() << ": " << record.status();
  return record.ok() ? *std::move(record) : Record{std::vector<StepRecord>(kSteps), 0};
}

void ExpectTruth(const Layout& layout) {
  const Status equal = CompareWithTruth(RunOrFail(layout), TruthOf(layout));
  EXPECT_TRUE(equal.ok()) << layout.Name() << ": " << equal;
}

TEST(GridLayouts, EveryGridScheduleAndReplicaCountEqualsTheTruth) {
  const std::vector<Layout> layouts = GridLayouts();
  EXPECT_EQ(layouts.size(), 7u * 4 * 2);
  for (const Layout& layout : layouts) ExpectTruth(layout);
}

// One grid that has every axis.
Layout Cube(const char* schedule) {
  return {.schedule = schedule,
          .stages = 2,
          .micro_batches = 4,
          .samples = 2,
          .masked = true,
          .x = 2,
          .y = 2,
          .z = 2,
          .heads = 12,
          .width = 24};
}

// Those that divide micro-batches into parts are refused with a way out; all others train on a grid.
TEST(GridLayouts, EveryScheduleEqualsTheTruth) {
  int trained = 0, refused = 0;
  for (const schedule::Generator& generator : schedule::Generators()) {
    for (const Layout& of_schedule : LayoutsOf(generator.name, 2)) {
      Layout layout = Cube(generator.name);
      layout.z = 1;
      layout.blocks = of_schedule.blocks;
      layout.micro_batches = of_schedule.micro_batches;
      const StatusOr<schedule::Schedule> schedule =
          schedule::Generate(layout.schedule, {.workers = layout.stages, .micro_batches = layout.micro_batches});
      if (schedule.ok() && schedule::MaxParts(*schedule) > 1) {
        const Status status = RunOnThreads(layout).status();
        EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
        EXPECT_TRUE(absl::StrContains(status.message(), "use another parallel.schedule, or parallel.x = y = z = 1")) << status;
        ++refused;
      } else {
        ExpectTruth(layout);
        ++trained;
      }
    }
  }
  EXPECT_GT(trained, 30);
  EXPECT_GT(refused, 0);
}

// What is gathered again, kept or exchanged once a step changes bytes and memory, not results.
TEST(GridLayouts, EveryPolicyEqualsTheTruth) {
  for (const char* schedule : {"1f1b", "chimera-zb"}) {
    for (const Recompute recompute : {Recompute::kNone, Recompute::kLayers, Recompute::kStage}) {
      Layout layout = Cube(schedule);
      layout.recompute = recompute;
      ExpectTruth(layout);
      layout.policy = {.cache_inputs = false, .cache_weights = true, .cache_output_gradients = false};
      ExpectTruth(layout);
      layout.policy = {};
      layout.weights_each_step = true;
      ExpectTruth(layout);
    }
  }
}

TEST(GridLayouts, SynchronisationAndUpdateModesHaveTheSameBits) {
  using schedule::GradientSyncMode;
  for (const bool clip : {true, false}) {
    Layout layout = Cube("chimera");
    layout.z = 1;
    layout.data = 2;
    layout.clip = clip;
    layout.sync = GradientSyncMode::kLazy;
    const Record lazy = RunOrFail(layout);
    const Status equal = CompareWithTruth(lazy, TruthOf(layout));
    EXPECT_TRUE(equal.ok()) << equal;
    for (const GradientSyncMode sync : {GradientSyncMode::kEager, GradientSyncMode::kEagerOpt}) {
      layout.sync = sync;
      layout.update = clip ? schedule::UpdateMode::kDecided : schedule::UpdateMode::kEager;
      const Status same = CompareBitwise(RunOrFail(layout), lazy);
      EXPECT_TRUE(same.ok()) << layout.Name() << ": " << same;
    }
  }
}

// Collectives under way while products are computed, or each waited for where it is started.
TEST(GridLayouts, OverlapChangesNoBit) {
  for (const char* schedule : {"gpipe", "chimera", "chimera-zb"}) {
    Layout layout = Cube(schedule);
    if (std::string(schedule) == "gpipe") layout.stages = 1;
    const Record overlapped = RunOrFail(layout);
    layout.policy.overlap = false;
    const Status same = CompareBitwise(RunOrFail(layout), overlapped);
    EXPECT_TRUE(same.ok()) << layout.Name() << ": " << same;
  }
}

// Key heads fewer than the parts of the heads (shared), as many, and more; a tied head and one of its own.
TEST(GridLayouts, GroupedQueriesAndUntiedHeadsEqualTheTruth) {
  for (const int kv_heads : {1, 2, 4, 6}) {
    for (const char* schedule : {"gpipe", "chimera"}) {
      Layout layout = Cube(schedule);
      layout.kv_heads = kv_heads;
      layout.tied = kv_heads % 4 != 2;
      if (std::string(schedule) == "gpipe") layout.stages = 1;
      if (4 % kv_heads != 0 && kv_heads % 4 != 0) {
        layout.x = 3, layout.z = 1;  // parts of 6
      }
      ExpectTruth(layout);
      layout.x = 1;  // two parts: more key heads than parts, but fewer than heads
      ExpectTruth(layout);
    }
  }
}

// q and k of a part's heads are turned by the positions of whole sequences; no position table.
TEST(GridLayouts, RotaryPositionsEqualTheTruth) {
  for (const int kv_heads : {0, 1, 4}) {
    for (const char* schedule : {"gpipe", "chimera", "chimera-zb"}) {
      Layout layout = Cube(schedule);
      layout.rotary = true;
      layout.kv_heads = kv_heads;
      layout.tied = kv_heads != 4;
      if (std::string(schedule) == "gpipe") layout.stages = 1;
      ExpectTruth(layout);
      layout.policy = {.cache_inputs = false, .cache_weights = true, .cache_output_gradients = false};
      ExpectTruth(layout);
    }
  }
}

TEST(GridLayouts, F32GradientsAreAsGoodAsTheSerialRuns) {
  for (const char* schedule : {"1f1b", "chimera-zb"}) {
    Layout layout = Cube(schedule);
    layout.precision = DType::kF32;
    const Status equal = CompareInLowPrecision(RunOrFail(layout), TruthOf(layout, DType::kF32), TruthOf(layout), kF32Tolerance);
    EXPECT_TRUE(equal.ok()) << layout.Name() << ": " << equal;
  }
}

// bf16: against f64, no worse than one rank alone in bf16; loss and norm to its rounding. (random_layouts_test varies what is kept.)
TEST(GridLayouts, BF16GradientsAreAsGoodAsThoseOfOneRank) {
  std::vector<Layout> layouts = GridLayouts();
  for (Layout& layout : layouts) {
    layout.precision = DType::kBF16;
    Layout serial{.schedule = "gpipe",
                  .micro_batches = layout.data * layout.micro_batches,
                  .samples = layout.samples,
                  .masked = layout.masked,
                  .precision = DType::kBF16,
                  .heads = layout.heads,
                  .width = layout.width};
    const Record record = RunOrFail(layout), &truth = TruthOf(layout);
    static std::map<int, Record>& serials = *new std::map<int, Record>;
    const auto [of_serial, fresh] = serials.try_emplace(serial.micro_batches);
    if (fresh) of_serial->second = RunOrFail(serial);
    const Status equal = CompareInLowPrecision(record, of_serial->second, truth, kBF16Tolerance);
    EXPECT_TRUE(equal.ok()) << layout.Name() << ": " << equal;
    EXPECT_NEAR(record.steps[0].loss, truth.steps[0].loss, 0x1p-7 * truth.steps[0].loss) << layout.Name();
    EXPECT_NEAR(record.steps[0].grad_norm, truth.steps[0].grad_norm, 0x1p-6 * truth.steps[0].grad_norm) << layout.Name();
    EXPECT_NEAR(record.evaluation, truth.evaluation, 0x1p-6 * truth.evaluation) << layout.Name();
  }
}

TEST(GridLayouts, ARepeatedRunHasTheSameBitsAndAnyMeshOrderEqualsTheTruth) {
  Layout layout = Cube("chimera");
  layout.data = 2;
  const Record bits = RunOrFail(layout);
  for (const char* order : {"", "x,y,z,pipeline,expert,context,data", "data,context,expert,pipeline,z,y,x"}) {
    layout.mesh_order = order;
    const Record other = RunOrFail(layout);
    const Status equal = *order == 0 ? CompareBitwise(other, bits) : CompareWithTruth(other, TruthOf(layout));
    EXPECT_TRUE(equal.ok()) << layout.Name() << ": " << equal;
  }
}

// What a model costs does not depend on how it is cut: padding and what several ranks compute alike are no work.
TEST(GridLayouts, FlopsAreTheModels) {
  std::vector<double> flops;
  for (const auto& [x, y] : {std::pair{1, 1}, {2, 2}, {1, 6}}) {
    const Layout layout{.schedule = "gpipe", .samples = 2, .x = x, .y = y, .heads = 12, .kv_heads = 1, .width = 24};
    const Status ran = RunThreadRanks(layout.ranks(), [&](Communicator& world) -> Status {
      LYCIA_ASSIGN_OR_RETURN(const std::unique_ptr<Trainer> trainer, Trainer::Create(OptionsOf(layout), world));
      if (world.rank() == 0) flops.push_back(trainer->flops_per_step());
      return OkStatus();
    });
    EXPECT_TRUE(ran.ok()) << ran;
  }
  EXPECT_EQ(flops, std::vector<double>(3, flops.at(0)));
}

}  // namespace
}  // namespace lycia::layouts
