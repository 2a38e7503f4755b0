// Emulated devices on threads: the logical clock against the simulator, against formulas and against an example worked by hand; the wall
// clock never ahead of it.
#include <gtest/gtest.h>

#include <atomic>

#include "parallel/pipeline/emulation_check_for_test.h"
#include "runtime/comm/transports.h"

namespace lycia {
namespace {

using schedule::Schedule;
using schedule::TickCosts;

Schedule ScheduleOf(const char* name, int workers, int micro_batches) {
  return schedule::Complete(*schedule::Generate(name, {.workers = workers, .micro_batches = micro_batches}));
}

StatusOr<std::int64_t> MakespanOf(const Schedule& schedule, const TickCosts& costs, ClockKind clock = ClockKind::kLogical) {
  std::atomic<std::int64_t> makespan{0};
  const Status ran = RunThreadRanks(schedule.shape.workers, [&](Communicator& world) -> Status {
    LYCIA_ASSIGN_OR_RETURN(const std::unique_ptr<EmulatedPipeline> pipeline,
                           EmulatedPipeline::Open({.schedule = &schedule, .costs = costs, .clock = clock, .message_bytes = 4096}, world));
    LYCIA_ASSIGN_OR_RETURN(makespan, pipeline->Step());
    return OkStatus();
  });
  if (!ran.ok()) return ran;
  return makespan.load();
}

class LogicalClock : public testing::TestWithParam<int> {};

TEST_P(LogicalClock, EqualsTheSimulatorInEveryInstructionOfEverySchedule) {
  const int workers = GetParam();
  const auto cases = EmulationCases(workers, workers <= 8 ? std::vector<int>{workers, 2 * workers} : std::vector<int>{workers});
  ASSERT_TRUE(cases.ok()) << cases.status();
  EXPECT_GE(cases->size(), 6u);  // gpipe, 1f1b and chimera take any of these sizes
  const Status status = RunThreadRanks(workers, [&](Communicator& world) -> Status {
    for (const EmulationCase& each : *cases) LYCIA_RETURN_IF_ERROR(CheckCase(each, world));
    return OkStatus();
  });
  EXPECT_TRUE(status.ok()) << status;
}

INSTANTIATE_TEST_SUITE_P(Workers, LogicalClock, testing::Values(4, 8, 16));
INSTANTIATE_TEST_SUITE_P(ManyWorkers, LogicalClock, testing::Values(32, 64));

// F=10 B=20, a message occupies the link for 4 and travels for 3; each sum takes 5, the update 7.
//   worker 0  F0 0-10, F1 10-20; its messages leave until 14 and 24, and arrive at 17 and 27
//   worker 1  F0 17-27, F1 27-37, B0 37-57, B1 57-77; its messages leave until 61 and 81, and arrive at 64 and 84; sum 77-82, update -89
//   worker 0  B0 64-84, B1 84-104; sum 104-109, update -116
TEST(EmulatedClock, AnExampleByHand) {
  TickCosts costs;
  costs.forward = 10, costs.backward = 20, costs.transmit = 4, costs.latency = 3, costs.sync = 5, costs.update = 7;
  EXPECT_EQ(*MakespanOf(ScheduleOf("gpipe", 2, 2), costs), 116);
}

// Two sums of both workers: each waits for the later worker, and for the sum before it.
//   chimera, D=2, N=2: both workers F B F B at F=10 B=10 end at 40 (F0 0-10, F1 arrives at 10: 10-20, B 20-30, B 30-40)
TEST(EmulatedClock, SumsOfOneWorkerQueueBehindEachOther) {
  TickCosts costs;
  costs.forward = 10, costs.backward = 10, costs.sync = 100;
  EXPECT_EQ(*MakespanOf(ScheduleOf("chimera", 2, 2), costs), 40 + 2 * 100);
}

TEST(EmulatedClock, ClosedForms) {
  for (const int workers : {1, 2, 4, 8}) {
    for (const int micro_batches : {1, 3, 8}) {
      TickCosts costs;
      costs.forward = 7, costs.backward = 13;
      for (const char* name : {"gpipe", "1f1b"}) {
        EXPECT_EQ(*MakespanOf(ScheduleOf(name, workers, micro_batches), costs), (micro_batches + workers - 1) * 20) << name << workers;
      }
    }
  }
}

// The clock must tell the truth under load, too: it may be late, never early.
TEST(WallClock, IsNeverAheadOfTheSimulator) {
  TickCosts costs;
  costs.forward = 1'000'000, costs.backward = 2'000'000, costs.input = costs.weight = 1'000'000;
  costs.latency = 300'000, costs.transmit = 200'000, costs.sync = 1'500'000, costs.update = 500'000;
  for (const char* name : {"1f1b", "chimera"}) {
    const Schedule schedule = ScheduleOf(name, 4, 8);
    const std::int64_t simulated = schedule::Simulate(schedule, {.costs = costs})->makespan;
    const StatusOr<std::int64_t> measured = MakespanOf(schedule, costs, ClockKind::kWall);
    ASSERT_TRUE(measured.ok()) << measured.status();
    EXPECT_GE(*measured, simulated) << name;
    EXPECT_LT(*measured, simulated + 5'000'000'000) << name;
  }
}

// A rank that never comes to its step ends the waits of the others, in channels and in the rendezvous.
TEST(EmulatedClock, AMissingRankIsAnErrorNotAHang) {
  const Schedule schedule = ScheduleOf("chimera", 4, 4);
  const Status status = RunThreadRanks(4, [&](Communicator& world) -> Status {
    LYCIA_ASSIGN_OR_RETURN(const std::unique_ptr<EmulatedPipeline> pipeline, EmulatedPipeline::Open({.schedule = &schedule}, world));
    if (world.rank() == 2) return absl::UnavailableError("gone");
    return pipeline->Step().status();
  });
  EXPECT_EQ(status.message(), "gone");
}

}  // namespace
}  // namespace lycia
