// Where gradient synchronisation and updates are placed: against the placement of Chimera's paper (Li & Hoefler 2021, figure 4), the slack
// worked out by hand, against rows written by hand, and, for any schedule, against what the placement promises.
#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "parallel/schedule/edit_for_test.h"
#include "parallel/schedule/generators.h"
#include "parallel/schedule/passes.h"
#include "parallel/schedule/simulate.h"
#include "parallel/schedule/sync_slack.h"
#include "parallel/schedule/verify.h"

namespace lycia::schedule {
namespace {

using ::testing::Each;
using ::testing::ElementsAre;

constexpr int kD[] = {2, 4, 6, 8, 12, 16, 32};

std::string Row(const Schedule& schedule, int worker) {
  return absl::StrJoin(schedule.program[worker], " ", [&](std::string* out, const Instruction& i) { *out += ToString(schedule, i); });
}

int LastCompute(const Schedule& schedule, int worker) {
  int last = -1;
  for (std::size_t i = 0; i < schedule.program[worker].size(); ++i) {
    if (IsCompute(schedule.program[worker][i].op)) last = static_cast<int>(i);
  }
  return last;
}

// Slack of each stage, which must be the same on all its holders.
std::vector<std::int64_t> SlackOfStages(const Schedule& schedule, const TickCosts& costs = {}) {
  std::vector<std::int64_t> slack(schedule.shape.stages, -1);
  const auto slacks = SyncSlacks(schedule, costs);
  EXPECT_TRUE(slacks.ok()) << slacks.status();
  for (const SyncSlack& each : *slacks) {
    const int stage = each.set.stages.at(0);
    EXPECT_TRUE(slack[stage] < 0 || slack[stage] == each.slack) << "stage " << stage << " worker " << each.worker;
    slack[stage] = each.slack;
  }
  return slack;
}

TEST(SyncSlacksTest, ChimeraHasItsSlack) {
  for (const int D : kD) {
    const auto slack = SlackOfStages(Must("chimera", D, D));
    for (int s = 0; s <= D - 2; ++s) EXPECT_EQ(slack[s], 2 * s) << "D " << D;
    EXPECT_EQ(slack[D - 1], 2 * (D - 1) + D / 2 - 1) << "D " << D;
  }
}

// With the split, gradients are ready much later.
TEST(SyncSlacksTest, ChimeraZbHasItsSlack) {
  EXPECT_THAT(SlackOfStages(Must("chimera-zb", 8, 8)), ElementsAre(0, 0, 0, 0, 1, 2, 4, 7));
}

// GPipe: worker s has its last gradient (D - 1 - s + N) B after the forwards; worker 0 ends the step.
TEST(SyncSlacksTest, GPipesLastStageHasMost) { EXPECT_THAT(SlackOfStages(Must("gpipe", 4, 3)), ElementsAre(0, 2, 4, 6)); }

TEST(SyncSlacksTest, KnowsTiedSetsAndIdleHolders) {
  const Schedule schedule = InsertGradientSync(Must("chimera", 2, 1), GradientSyncMode::kLazy, {SyncSet{{0, 1}}});
  // Worker 0 holds stage 0 of pipe 0, which works from 0 to 1 and 4 to 6, and stage 1 of pipe 1, which has no micro-batch.
  const auto slacks = *SyncSlacks(schedule, {});
  EXPECT_THAT(slacks, ElementsAre(SyncSlack{0, {{0}}, 6, 0}, SyncSlack{1, {{0}}, 0, 6}, SyncSlack{0, {{1}}, 0, 6},
                                  SyncSlack{1, {{1}}, 4, 2}, SyncSlack{0, {{0, 1}}, 6, 0}, SyncSlack{1, {{0, 1}}, 4, 2}));
}

// Launch stage D-1-h eagerly iff h < D/2 - 1, and stage h at the local end; for D = 4 on the outer workers only, as in the paper.
TEST(EagerOptTest, ReducesToThePapersPlacementRule) {
  for (const int D : kD) {
    const Schedule schedule = InsertGradientSync(Must("chimera", D, D), GradientSyncMode::kEagerOpt);
    for (int worker = 0; worker < D; ++worker) {
      const int h = std::min(worker, D - 1 - worker);
      const int end = LastCompute(schedule, worker);
      const int upper = Find(schedule, worker, absl::StrCat("SYNC{", D - 1 - h, "}"));
      EXPECT_EQ(upper < end, h < D / 2 - 1) << "D " << D << " worker " << worker;
      EXPECT_GT(Find(schedule, worker, absl::StrCat("SYNC{", h, "}")), end) << "D " << D << " worker " << worker;
      if (upper > end) continue;
      const Instruction& before = schedule.program[worker][upper - 1];
      EXPECT_TRUE(IsBackward(before.op) && before.stage == D - 1 - h) << "not right behind a gradient but " << ToString(before);
    }
    EXPECT_TRUE(VerifySync(schedule, true).ok()) << "not behind the last gradient";
  }
}

TEST(EagerTest, JoinsRightBehindTheLastGradientAndItsMessage) {
  const Schedule schedule = Complete(Must("chimera", 4, 4), {.sync = GradientSyncMode::kEager, .tied = {SyncSet{{0, 3}}}});
  EXPECT_EQ(Row(schedule, 1),
            "p0.1RECVF0 p0.1F0 p0.1SENDF0 p1.2RECVF2 p1.2F2 p1.2SENDF2 p0.1RECVF1 p0.1F1 p0.1SENDF1 p1.2RECVF3 p1.2F3 p1.2SENDF3 "
            "p1.2RECVB2 p1.2B2 p1.2SENDB2 p0.1RECVB0 p0.1B0 p0.1SENDB0 p1.2RECVB3 p1.2B3 p1.2SENDB3 SYNC{2} p0.1RECVB1 p0.1B1 p0.1SENDB1 "
            "SYNC{1} UPDATE");
  EXPECT_THAT(Row(schedule, 0),
              ::testing::HasSubstr("p1.3B3 p1.3SENDB3 SYNC{3} p0.0RECVB0 p0.0B0 p0.0RECVB1 p0.0B1 SYNC{0} SYNC{0,3} UPDATE"));
}

TEST(EagerTest, AnIdleHolderJoinsAndEvaluationsDoNot) {
  const Schedule schedule = Complete(Must("chimera", 2, 1), {.sync = GradientSyncMode::kEager, .tied = {SyncSet{{0, 1}}}});
  // Worker 1 has the gradient of stage 1 at 4, worker 0 that of stage 0 at 6: so {1} comes first everywhere.
  EXPECT_EQ(Row(schedule, 0), "SYNC{1} p0.0LOAD0 p0.0F0 p0.0SENDF0 p0.0RECVB0 p0.0B0 SYNC{0} SYNC{0,1} UPDATE");
  EXPECT_EQ(Row(schedule, 1), "p0.1LOAD0 p0.1RECVF0 p0.1F0 p0.1B0 p0.1SENDB0 SYNC{1} SYNC{0} SYNC{0,1} UPDATE");
  EXPECT_TRUE(Verify(schedule).ok()) << Verify(schedule);
  const Schedule evaluation = ForwardOnly(schedule, 2);
  EXPECT_EQ(Complete(evaluation, {.sync = GradientSyncMode::kEager, .update = UpdateMode::kEager}).program, Complete(evaluation).program);
}

// Chimera, D = 4, F = 1, B = 2 (drawn in chimera.cc): the outer workers have stage 3's gradient at 9, and are idle from 9 to 10 and from 12
// to 14. A reduction of 1 ends with the first of these bubbles; its update fits into the second.
TEST(SetUpdatesTest, RunInTheFirstBubbleBehindTheirSum) {
  TickCosts costs;
  costs.sync = 1;
  costs.update = 2;  // each of the two sets 1
  const CompleteOptions options{.sync = GradientSyncMode::kEagerOpt, .update = UpdateMode::kEager, .costs = costs};
  const Schedule schedule = Complete(Must("chimera", 4, 4), options);
  EXPECT_THAT(Row(schedule, 0),
              ::testing::EndsWith("p1.3B3 p1.3SENDB3 SYNC{3} p0.0RECVB0 p0.0B0 UPDATE{3} p0.0RECVB1 p0.0B1 SYNC{0} UPDATE{0} UPDATE"));
  EXPECT_THAT(Row(schedule, 1), ::testing::EndsWith("p0.1RECVB1 p0.1B1 p0.1SENDB1 SYNC{1} SYNC{2} UPDATE{1} UPDATE{2} UPDATE"));
  EXPECT_TRUE(Verify(schedule).ok()) << Verify(schedule);
  const Timeline timeline = *Simulate(schedule, {.costs = costs});
  // Stage 0 is summed from 16 to 17, its update takes 1, and the plain update has nothing left to do.
  EXPECT_EQ(timeline.makespan, 18);
  costs.sync = 0;
  const Schedule soon =
      Complete(Must("chimera", 4, 4), {.sync = GradientSyncMode::kEagerOpt, .update = UpdateMode::kEager, .costs = costs});
  EXPECT_THAT(Row(soon, 0), ::testing::HasSubstr("SYNC{3} UPDATE{3} p0.0RECVB0 p0.0B0 p0.0RECVB1"))
      << "at once where the sum is there at once";
  costs.update = 40;  // 20 each fits into no bubble
  const Schedule late =
      Complete(Must("chimera", 4, 4), {.sync = GradientSyncMode::kEagerOpt, .update = UpdateMode::kEager, .costs = costs});
  EXPECT_THAT(Row(late, 0), ::testing::EndsWith("SYNC{0} UPDATE{3} UPDATE{0} UPDATE"));
}

// What every mode promises on every schedule of the table.
TEST(GradientSyncTest, EveryModeIsProvenAndCostsNothing) {
  for (const Generator& generator : Generators()) {
    for (const int D : {1, 2, 4, 6}) {
      for (const int N : {1, 2, 5, 8, 12}) {
        const StatusOr<Schedule> compute = Generate(generator.name, {.workers = D, .micro_batches = N});
        if (!compute.ok()) continue;
        const std::vector<SyncSet> tied = {SyncSet{{0, compute->shape.stages - 1}}};
        for (const int sync : {0, 12, 120}) {
          TickCosts costs;
          const int unit = TickDivisor(*compute);
          costs.forward = 3 * unit, costs.backward = 7 * unit, costs.input = 4 * unit, costs.weight = 3 * unit;
          costs.sync = sync, costs.update = 24;
          const std::int64_t alone = Simulate(*compute, {.costs = costs})->makespan;
          std::int64_t lazy = 0;
          for (const auto mode : {GradientSyncMode::kLazy, GradientSyncMode::kEager, GradientSyncMode::kEagerOpt}) {
            SCOPED_TRACE(absl::StrCat(generator.name, " D ", D, " N ", N, " sync ", sync, " mode ", static_cast<int>(mode)));
            const Schedule decided = Complete(*compute, {.sync = mode, .costs = costs, .tied = tied});
            const Schedule eager = Complete(*compute, {.sync = mode, .update = UpdateMode::kEager, .costs = costs, .tied = tied});
            ASSERT_TRUE(Verify(decided).ok()) << Verify(decided);
            ASSERT_TRUE(Verify(eager).ok()) << Verify(eager);
            const std::int64_t makespan = Simulate(decided, {.costs = costs})->makespan;
            if (mode == GradientSyncMode::kLazy) lazy = makespan;
            ASSERT_GE(makespan, alone + costs.sync + costs.update);
            ASSERT_LE(makespan, lazy) << "a reduction that starts earlier ends no later";
            const Timeline timeline = *Simulate(eager, {.costs = costs});
            ASSERT_LE(timeline.makespan, makespan) << "an update that starts earlier ends no later";
            for (const Interval& active : timeline.active) ASSERT_LE(active.end, alone) << "no compute is delayed";
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace lycia::schedule
