// The formulas that the generators' headers state (docs/schedules.md) over all sizes that a scheme takes. Those of gpipe, 1f1b and chimera
// are in simulate_test.cc.
#include <algorithm>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "parallel/schedule/edit_for_test.h"
#include "parallel/schedule/generators.h"
#include "parallel/schedule/simulate.h"

namespace lycia::schedule {
namespace {

using ::testing::AllOf;
using ::testing::DoubleNear;
using ::testing::Each;
using ::testing::HasSubstr;

constexpr int kD[] = {2, 4, 6, 8, 12, 16, 32};
constexpr int kK[] = {1, 2, 3, 4, 8};

// Ticks of a worker's whole share: all its stages of one pipe together.
struct FIW {
  int F, I, W;
};

Timeline Time(const Schedule& schedule, const FIW& costs) {
  TickCosts ticks;
  ticks.forward = costs.F;
  ticks.input = costs.I;
  ticks.weight = costs.W;
  ticks.backward = costs.I + costs.W;
  StatusOr<Timeline> timeline = Simulate(schedule, {.costs = ticks});
  EXPECT_TRUE(timeline.ok()) << timeline.status();
  return *std::move(timeline);
}

// Makespan without the work: idle time of each worker.
std::int64_t Idle(const Schedule& schedule, const FIW& costs) {
  return Time(schedule, costs).makespan - schedule.shape.micro_batches * (costs.F + costs.I + costs.W);
}

// Longest worker from its first instruction to its last, without its work.
std::int64_t SpanIdle(const Schedule& schedule, const FIW& costs) {
  const Timeline timeline = Time(schedule, costs);
  std::int64_t idle = 0;
  for (int worker = 0; worker < schedule.shape.workers; ++worker) {
    const Interval active = timeline.active[worker];
    idle = std::max(idle, active.end - active.start - timeline.work[worker]);
  }
  return idle;
}

// [worker] most activations whose I is still to come; PeakActivations counts until W.
std::vector<int> PeaksUntilInput(const Schedule& schedule) {
  std::vector<int> peaks;
  for (const auto& program : schedule.program) {
    int kept = 0, peak = 0;
    for (const Instruction& i : program) {
      kept += (i.op == Op::kForward) - (i.op == Op::kBackwardInput);
      peak = std::max(peak, kept);
    }
    peaks.push_back(peak);
  }
  return peaks;
}

TEST(InterleavedTest, BubbleShrinksWithTheChunks) {
  for (const int D : kD) {
    for (const int K : kK) {
      for (const int v : {1, 2, 3, 4}) {
        SCOPED_TRACE(absl::StrCat("D ", D, " N ", K * D, " v ", v));
        const StatusOr<Schedule> schedule = Generate("interleaved", {.workers = D, .micro_batches = K * D, .chunks = v});
        ASSERT_TRUE(schedule.ok()) << schedule.status();
        for (const FIW& costs : {FIW{12, 12, 12}, FIW{12, 24, 24}, FIW{12, 6, 6}}) {
          ASSERT_EQ(Idle(*schedule, costs), (D - 1) * (costs.F + costs.I + costs.W) / v);
        }
        const std::vector<double> peaks = PeakActivations(*schedule);
        for (int r = 0; r < D; ++r) {
          const double expected = v == 1 ? std::min(K * D, D - r) : K == 1 ? D : (v * D + D - 1 - 2.0 * r) / v;
          ASSERT_THAT(peaks[r], DoubleNear(expected, 1e-12)) << "worker " << r;
        }
        ASSERT_EQ(WeightsCopies(*schedule), 1);
      }
    }
  }
}

TEST(InterleavedTest, OneChunkIs1F1BForAnyNumberOfMicroBatches) {
  for (const int D : {1, 2, 5}) {
    for (int N = 1; N <= 12; ++N) {
      EXPECT_EQ(Generate("interleaved", {.workers = D, .micro_batches = N, .chunks = 1})->program, Must("1f1b", D, N).program);
    }
  }
}

TEST(GemsTest, TwoMicroBatchesAtWork) {
  for (const int D : {1, 2, 3, 4, 7, 8, 16}) {
    for (const int N : {1, 2, 3, 8, 33}) {
      SCOPED_TRACE(absl::StrCat("D ", D, " N ", N));
      const Schedule schedule = Must("gems", D, N);
      for (const FIW& costs : {FIW{1, 1, 1}, FIW{2, 2, 1}, FIW{3, 2, 1}}) {
        const Timeline timeline = Time(schedule, costs);
        const int B = costs.I + costs.W;
        ASSERT_EQ(timeline.makespan, N * (D * B + costs.F) + (D - 1) * costs.F);
        std::vector<Interval> alive(N, Interval{timeline.makespan, 0});
        for (int worker = 0; worker < D; ++worker) {
          for (std::size_t i = 0; i < schedule.program[worker].size(); ++i) {
            Interval& life = alive[schedule.program[worker][i].micro_batch];
            life.start = std::min(life.start, timeline.spans[worker][i].start);
            life.end = std::max(life.end, timeline.spans[worker][i].end);
          }
        }
        for (int m = 0; m + 2 < N; ++m) ASSERT_LE(alive[m].end, alive[m + 2].start);
        for (int m = 0; m + 1 < N && D > 1; ++m) ASSERT_GT(alive[m].end, alive[m + 1].start) << "F(i+1) overlaps B(i)";
      }
      ASSERT_THAT(PeakActivations(schedule), Each(1));
      ASSERT_EQ(WeightsCopies(schedule), D % 2 == 0 ? 2 : 2 - 1.0 / D);  // both pipes have their middle stage on one worker
    }
  }
  EXPECT_THAT(BubbleRatio(Time(Must("gems", 8, 1000), {1, 1, 1})), DoubleNear(7 / 8.5, 1e-3));
}

TEST(ZbH1Test, TimeAndMemory) {
  for (const int D : kD) {
    for (const int K : kK) {
      for (const int N : {K * D, K * D + 1}) {
        SCOPED_TRACE(absl::StrCat("D ", D, " N ", N));
        const Schedule schedule = Must("zb-h1", D, N);
        for (const FIW& c : {FIW{1, 1, 1}, FIW{4, 4, 2}, FIW{2, 4, 2}, FIW{4, 3, 2}})
          ASSERT_EQ(Idle(schedule, c), (D - 1) * (c.F + c.I - c.W));
        for (int r = 0; r < D; ++r) ASSERT_EQ(PeaksUntilInput(schedule)[r], D - r);
        ASSERT_THAT(PeakActivations(schedule), Each(D));
      }
    }
  }
}

TEST(ZbH2Test, NoWorkerWaitsOnceItHasBegun) {
  for (const int D : kD) {
    for (const int K : kK) {
      const int N = (K + 1) * D;
      SCOPED_TRACE(absl::StrCat("D ", D, " N ", N));
      const Schedule schedule = Must("zb-h2", D, N);
      const Schedule tail = *Generate("zb-h2", {.workers = D, .micro_batches = N, .max_activations = N});  // W in the tail only
      for (const Schedule* each : {&schedule, &tail}) {
        ASSERT_EQ(SpanIdle(*each, {1, 1, 1}), 0);
        ASSERT_EQ(SpanIdle(*each, {4, 4, 2}), (D - 1) * (4 + 4 - 2 * 2));
        ASSERT_EQ(Time(*each, {1, 1, 1}).makespan, Time(Must("zb-h1", D, N), {1, 1, 1}).makespan);
        for (int r = 0; r < D; ++r) ASSERT_EQ(PeaksUntilInput(*each)[r], 2 * (D - r) - 1);
      }
      ASSERT_THAT(PeakActivations(schedule), Each(2 * D - 1));
      for (int r = 0; r < D; ++r) {
        const auto& program = tail.program[r];
        const auto first_weight = std::find_if(program.begin(), program.end(), [](const auto& i) { return i.op == Op::kBackwardWeight; });
        ASSERT_TRUE(std::none_of(first_weight, program.end(), [](const auto& i) { return i.op == Op::kForward; })) << "W before the tail";
      }
      ASSERT_EQ(PeakActivations(tail)[D - 1], N);
    }
  }
}

TEST(ZbVTest, TimeAndMemory) {
  for (const int D : kD) {
    const FIW unit{2, 2, 2};
    ASSERT_EQ(Idle(Must("zb-v", D, D), unit), (D - 1) * 2) << "D " << D;
    for (const int K : kK) {
      for (const int N : {(K + 1) * D - 1, (K + 1) * D, (K + 1) * D + 1}) {
        SCOPED_TRACE(absl::StrCat("D ", D, " N ", N));
        const Schedule schedule = Must("zb-v", D, N);
        ASSERT_EQ(Idle(schedule, unit), D - 1);
        if (N >= 2 * D) {
          ASSERT_EQ(SpanIdle(schedule, unit), 0);
          ASSERT_THAT(PeakActivations(schedule), Each(D));
        }
        ASSERT_EQ(WeightsCopies(schedule), 1);
      }
    }
  }
}

TEST(DualPipeTest, TimeAndMemory) {
  for (const int D : kD) {
    for (const int K : kK) {
      for (const int N : {2 * K * D, 2 * K * D + 2}) {
        SCOPED_TRACE(absl::StrCat("D ", D, " N ", N));
        const Schedule schedule = Must("dualpipe", D, N);
        for (const FIW& c : {FIW{1, 1, 1}, FIW{4, 4, 2}, FIW{2, 2, 1}}) {
          const int B = c.I + c.W, pair = c.F + B;
          ASSERT_EQ(Idle(schedule, c), (D / 2 - 1) * (pair + B - 3 * c.W));
        }
        ASSERT_THAT(PeakActivations(schedule), Each(D + 1));
        ASSERT_EQ(WeightsCopies(schedule), 2);
        ASSERT_EQ(std::count(schedule.pipe_of_micro_batch.begin(), schedule.pipe_of_micro_batch.end(), 0), N / 2);
      }
    }
  }
}

TEST(DualPipeVTest, TimeAndMemory) {
  for (const int D : kD) {
    for (const int K : kK) {
      for (const int N : {2 * K * D, 2 * K * D + 1}) {
        SCOPED_TRACE(absl::StrCat("D ", D, " N ", N));
        const Schedule schedule = Must("dualpipev", D, N);
        for (const FIW& c : {FIW{2, 2, 2}, FIW{4, 4, 2}}) {
          const int B = c.I + c.W, pair = c.F + B;
          ASSERT_EQ(2 * Idle(schedule, c), (D - 1) * (pair + B - 3 * c.W));  // of half stages
        }
        ASSERT_THAT(PeakActivations(schedule), Each(D + 0.5));
        ASSERT_EQ(WeightsCopies(schedule), 1);
      }
    }
  }
}

std::string Error(std::string_view name, const GenerateOptions& options) {
  const StatusOr<Schedule> schedule = Generate(name, options);
  EXPECT_EQ(schedule.status().code(), absl::StatusCode::kInvalidArgument);
  return std::string(schedule.status().message());
}

TEST(ConstraintsTest, ErrorsSayWhyAndWhatWouldDo) {
  EXPECT_THAT(Error("interleaved", {.workers = 4, .micro_batches = 6}),
              AllOf(HasSubstr("multiple of D = 4, got 6"), HasSubstr("use 4 or 8")));
  EXPECT_THAT(Error("interleaved", {.workers = 4, .micro_batches = 3}), AllOf(HasSubstr("got 3"), HasSubstr("use 4, or 1f1b")));
  EXPECT_THAT(Error("dualpipe", {.workers = 5, .micro_batches = 20}),
              HasSubstr("dualpipe needs an even number of stages, got 5; use 4 or 6"));
  EXPECT_THAT(Error("dualpipe", {.workers = 4, .micro_batches = 6}), AllOf(HasSubstr("at least 2D = 8, got 6"), HasSubstr("use 8")));
  EXPECT_THAT(Error("dualpipe", {.workers = 4, .micro_batches = 9}), AllOf(HasSubstr("even"), HasSubstr("use 8 or 10")));
  EXPECT_THAT(Error("dualpipev", {.workers = 4, .micro_batches = 7}),
              AllOf(HasSubstr("at least 2D = 8, got 7"), HasSubstr("use 8, or zb-v")));
  EXPECT_THAT(Error("zb-h2", {.workers = 4, .micro_batches = 9, .max_activations = 6}),
              AllOf(HasSubstr("7 forwards"), HasSubstr("use zb-h1")));
  EXPECT_THAT(Error("gems", {.workers = 4, .micro_batches = 4, .pipes = 4}), HasSubstr("gems has 2 pipes, not 4"));
  EXPECT_THAT(Error("zb-v", {.workers = 4, .micro_batches = 4, .pipes = 2}), HasSubstr("zb-v has one pipe, not 2"));
  EXPECT_THAT(Error("zb-v", {.workers = 4, .micro_batches = 4, .chunks = 3}), HasSubstr("2 stages per worker and pipe, not 3"));
  EXPECT_THAT(Error("chimera", {.workers = 4, .micro_batches = 4, .chunks = 2}), HasSubstr("1 stage per worker and pipe, not 2"));
  EXPECT_THAT(Error("interleaved", {.workers = 4, .micro_batches = 4, .chunks = -1}), HasSubstr("got chunks -1"));
}

// 2^22 instructions at most, counted as they are: F I W of 2 stages per worker are three times as many as F B of 1.
TEST(ConstraintsTest, InstructionsOfChunksAndSplitsCount) {
  EXPECT_THAT(Error("zb-v", {.workers = 64, .micro_batches = 1 << 14}), HasSubstr("more than 4194304 instructions"));
  EXPECT_THAT(Error("interleaved", {.workers = 64, .micro_batches = 1 << 14, .chunks = 4}), HasSubstr("256 stages x 16384"));
  EXPECT_TRUE(Generate("1f1b", {.workers = 64, .micro_batches = 1 << 14}).ok());
}

}  // namespace
}  // namespace lycia::schedule
