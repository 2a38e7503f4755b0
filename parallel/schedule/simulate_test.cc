// Against derived truths only: the closed forms of docs/schedules.md (Li & Hoefler 2021 for Chimera), and longest paths worked out by hand
// for what has no formula (latency, egress, sync, pairs). Published numbers are in golden_test.cc.
#include "parallel/schedule/simulate.h"

#include <algorithm>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "parallel/schedule/edit_for_test.h"
#include "parallel/schedule/generators.h"
#include "parallel/schedule/passes.h"

namespace lycia::schedule {
namespace {

using ::testing::DoubleNear;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr int kD[] = {2, 4, 6, 8, 12, 16, 32};
constexpr int kK[] = {1, 2, 3, 4, 8};

TickCosts Ticks(std::int64_t forward, std::int64_t backward, std::int64_t latency = 0) {
  TickCosts costs;
  costs.forward = forward;
  costs.backward = backward;
  costs.latency = latency;
  return costs;
}

Timeline Time(const Schedule& schedule, const TickCosts& costs) {
  StatusOr<Timeline> timeline = Simulate(schedule, {.costs = costs});
  EXPECT_TRUE(timeline.ok()) << timeline.status();
  return *std::move(timeline);
}

TEST(SimulateTest, ClosedFormsOfOnePipe) {
  for (const int D : {1, 2, 3, 4, 7, 8, 16}) {
    for (const int N : {1, 2, 3, 5, 8, 17, 32}) {
      for (const int B : {2, 4, 5}) {  // F = 2
        for (const char* name : {"gpipe", "1f1b"}) {
          const Schedule schedule = Must(name, D, N);
          const Timeline timeline = Time(schedule, Ticks(2, B));
          ASSERT_EQ(timeline.makespan, (N + D - 1) * (2 + B)) << name << " D " << D << " N " << N;
          ASSERT_THAT(BubbleRatio(timeline), DoubleNear((D - 1.0) / (N + D - 1.0), 1e-12));
          const auto peaks = PeakActivations(schedule);
          for (int s = 0; s < D; ++s) ASSERT_EQ(peaks[s], schedule.name == "gpipe" ? N : std::min(N, D - s));
        }
      }
    }
  }
}

TEST(SimulateTest, ClosedFormsOfChimeraWithWholeUnits) {
  for (const int D : kD) {
    for (const int K : kK) {
      const Schedule schedule = Must("chimera", D, K * D);
      for (const int B : {2, 3, 4, 6, 8}) {  // F = 2: B / F from 1 to 4
        ASSERT_EQ(Time(schedule, Ticks(2, B)).makespan, (D + 2 * K - 2) * 2 + K * (2 * D - 2) * B) << "D " << D << " K " << K << " B " << B;
      }
      const auto peaks = PeakActivations(schedule);
      ASSERT_EQ(*std::min_element(peaks.begin(), peaks.end()), D / 2 + 1);
      ASSERT_EQ(*std::max_element(peaks.begin(), peaks.end()), D);
      ASSERT_EQ(WeightsCopies(schedule), 2);
    }
  }
}

TEST(SimulateTest, ClosedFormsOfChimeraWithManyPipes) {
  for (const int D : kD) {
    for (int f = 1; f <= D / 2; ++f) {
      if (D / 2 % f != 0) continue;
      for (const int K : kK) {
        const int N = K * D;
        const Schedule schedule = Must("chimera", D, N, 2 * f);
        ASSERT_EQ(Time(schedule, Ticks(1, 2)).makespan, 3 * N + (K + 1) * (D / f - 2)) << "D " << D << " f " << f << " K " << K;
        ASSERT_EQ(Time(schedule, Ticks(1, 1)).makespan, 2 * N + D / f - 2) << "D " << D << " f " << f << " K " << K;
        const auto peaks = PeakActivations(schedule);
        ASSERT_EQ(*std::min_element(peaks.begin(), peaks.end()), D - D / (2 * f) + 1);
        ASSERT_EQ(*std::max_element(peaks.begin(), peaks.end()), D);
        ASSERT_EQ(WeightsCopies(schedule), 2 * f);
      }
    }
  }
}

TEST(SimulateTest, ClosedFormsOfChimeraWithFewMicroBatches) {
  for (const int D : kD) {
    for (int N = 1; N < D; ++N) {
      const Schedule schedule = Must("chimera", D, N);
      const int even = N + N % 2;  // an odd N takes as long as N + 1
      for (const int B : {2, 4, 6}) ASSERT_EQ(Time(schedule, Ticks(2, B)).makespan, D * 2 + (D + even - 2) * B) << "D " << D << " N " << N;
      for (const double peak : PeakActivations(schedule)) ASSERT_LE(peak, N);
    }
  }
}

// No formula is known for what lies between whole units; but it cannot beat the work that is there, nor cost more than the next unit.
TEST(SimulateTest, ChimeraBetweenWholeUnitsCostsBetweenThem) {
  for (const int D : {2, 4, 6, 8, 12}) {
    for (int K = 1; K <= 3; ++K) {
      std::int64_t before = Time(Must("chimera", D, K * D), Ticks(1, 2)).makespan;
      for (int N = K * D + 1; N <= (K + 1) * D; ++N) {
        const std::int64_t T = Time(Must("chimera", D, N), Ticks(1, 2)).makespan;
        EXPECT_GE(T, before) << "D " << D << " N " << N;
        EXPECT_GE(T, 3 * N + 3 * (D / 2 - 1));
        before = T;
      }
    }
  }
}

TEST(SimulateTest, ForwardOnlyFillsBothPipes) {
  for (const int D : kD) {
    for (const int N : {1, 2, 3, 4, 8, 9, 40}) {
      const Schedule both = ForwardOnly(Must("chimera", D, 1), N);
      EXPECT_EQ(Time(both, Ticks(1, 2)).makespan, N + N % 2 + D - 2) << "D " << D << " N " << N;
      const Schedule one = ForwardOnly(Must("1f1b", D, 1), N);
      EXPECT_EQ(Time(one, Ticks(1, 2)).makespan, N + D - 1);
      for (const double peak : PeakActivations(both)) EXPECT_EQ(peak, 1);
    }
  }
}

TEST(SimulateTest, CompletedAndComputeOnlySchedulesTakeTheSameTime) {
  for (const Generator& generator : Generators()) {
    for (const int D : {2, 4, 8}) {
      for (const int N : {1, 3, 4, 11, 16}) {
        TickCosts costs = Ticks(3, 7, 2);
        costs.transmit = 1;
        const StatusOr<Schedule> schedule = Generate(generator.name, {.workers = D, .micro_batches = N});
        if (!schedule.ok()) continue;  // no such N
        EXPECT_EQ(Time(*schedule, costs).makespan, Time(Complete(*schedule), costs).makespan) << generator.name << " D " << D << " N " << N;
      }
    }
  }
}

// Two workers, one micro-batch: F F B B and two hops.
TEST(SimulateTest, LatencyCountsOncePerHop) {
  const Timeline timeline = Time(Must("1f1b", 2, 1), Ticks(1, 2, 5));
  EXPECT_EQ(timeline.makespan, 1 + 5 + 1 + 2 + 5 + 2);
  EXPECT_THAT(timeline.spans[1], ElementsAre(Interval{6, 7}, Interval{7, 9}));
  EXPECT_THAT(timeline.spans[0], ElementsAre(Interval{0, 1}, Interval{14, 16}));
  EXPECT_THAT(BubbleRatio(timeline), DoubleNear(26.0 / 32, 1e-12));
  EXPECT_THAT(SpanBubbleRatio(timeline), DoubleNear(13.0 / 19, 1e-12));  // worker 1 is active from 6 to 9 only
  EXPECT_EQ(Time(Must("1f1b", 1, 3), Ticks(1, 2, 5)).makespan, 9) << "no hop on one worker";
}

// GPipe sends three activations; each takes 4 on the link and 1 on the way: they arrive at 6, 10, 14.
TEST(SimulateTest, OneEgressLinkSendsOneMessageAtATime) {
  TickCosts costs = Ticks(1, 2, 1);
  costs.transmit = 4;
  const Timeline timeline = Time(Must("gpipe", 2, 3), costs);
  EXPECT_EQ(timeline.spans[1][0].start, 6);
  EXPECT_EQ(timeline.spans[1][1].start, 10);
  EXPECT_EQ(timeline.spans[1][2].start, 14);
}

// Chimera, two workers, two micro-batches: both end compute at 6 (F=1, B=2), join {0} and {1} at once, 10 each, then update.
TEST(SimulateTest, SyncIsARendezvousAndTheUpdateWaits) {
  TickCosts costs = Ticks(1, 2);
  costs.sync = 10;
  costs.update = 3;
  const Timeline timeline = Time(Complete(Must("chimera", 2, 2)), costs);
  EXPECT_EQ(timeline.makespan, 6 + 10 + 10 + 3);
  EXPECT_EQ(timeline.active[0].end, 6);
  // 1F1B on 2 workers: worker 1 is done at 4 and reduces {1} alone, worker 0 at 6 and reduces {0}.
  const Timeline alone = Time(Complete(Must("1f1b", 2, 1)), costs);
  EXPECT_EQ(alone.spans[1].back(), (Interval{14, 17}));
  EXPECT_EQ(alone.spans[0].back(), (Interval{16, 19}));
}

TEST(SimulateTest, StageCostsAndMeasuredDurations) {
  SimulateOptions options;
  options.costs.stages = {{.forward = 1, .backward = 2}, {.forward = 10, .backward = 20}};
  EXPECT_EQ(Simulate(Must("1f1b", 2, 1), options)->makespan, 33);
  options.durations = {{5, 7}, {11, 13}};  // of F and B on workers 0 and 1
  EXPECT_EQ(Simulate(Must("1f1b", 2, 1), options)->makespan, 36);
}

// A pair starts when both inputs are there and releases both outputs at its end (docs/schedules.md, DualPipe).
TEST(SimulateTest, PairedInstructionsAreOneBlock) {
  Schedule schedule = Must("1f1b", 2, 2);  // worker 0: F0 F1 B0 B1, worker 1: F0 B0 F1 B1
  schedule.program[1] = {Compute(Op::kForward, 0, 1, 0), Compute(Op::kForward, 0, 1, 1), Compute(Op::kBackward, 0, 1, 0),
                         Compute(Op::kBackward, 0, 1, 1)};
  schedule.program[1][1].paired_with_next = true;  // F1 & B0
  for (const Schedule& each : {schedule, Complete(schedule)}) {
    const Timeline timeline = Time(each, Ticks(1, 2));
    // Worker 1: F0 1-2, F1&B0 2-5, B1 5-7. Worker 0: B0 5-7, B1 7-9.
    EXPECT_EQ(timeline.makespan, 9);
    EXPECT_EQ(timeline.active[1], (Interval{1, 7}));
  }
}

TEST(SimulateTest, SplitBackwardsAndPartsCount) {
  Schedule schedule = Must("1f1b", 1, 1);
  const auto part = [](Op op, int index) {
    Instruction instruction = Compute(op, 0, 0, 0);
    instruction.part = static_cast<std::uint8_t>(index);
    instruction.parts = 2;
    return instruction;
  };
  schedule.program[0] = {Compute(Op::kForward, 0, 0, 0), part(Op::kBackwardInput, 0), part(Op::kBackwardInput, 1),
                         part(Op::kBackwardWeight, 0), part(Op::kBackwardWeight, 1)};
  TickCosts costs;
  costs.forward = 4, costs.input = 6, costs.weight = 2;
  const Timeline timeline = Time(schedule, costs);
  EXPECT_THAT(timeline.spans[0], ElementsAre(Interval{0, 4}, Interval{4, 7}, Interval{7, 10}, Interval{10, 11}, Interval{11, 12}));
}

TEST(SimulateTest, NamesWhoWaitsInADeadlock) {
  Schedule schedule = Must("1f1b", 2, 2);
  std::swap(schedule.program[0][0], schedule.program[0][2]);  // B0 before F0
  const StatusOr<Timeline> timeline = Simulate(schedule);
  ASSERT_FALSE(timeline.ok());
  EXPECT_THAT(std::string(timeline.status().message()), HasSubstr("worker 0, instruction 0 (p0.0B0): deadlock"));
}

}  // namespace
}  // namespace lycia::schedule
