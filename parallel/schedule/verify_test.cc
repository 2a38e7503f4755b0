// Verify must accept every schedule of the table at any size, and catch each kind of mistake, named where it is.
#include "parallel/schedule/verify.h"

#include <algorithm>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "parallel/schedule/edit_for_test.h"
#include "parallel/schedule/generators.h"
#include "parallel/schedule/passes.h"
#include "parallel/schedule/simulate.h"

namespace lycia::schedule {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

TEST(VerifyTest, AcceptsEveryScheduleOfTheTableAndItsEvaluation) {
  for (const Generator& generator : Generators()) {
    for (const int D : {1, 2, 3, 4, 6, 8}) {
      for (int N = 1; N <= 2 * D + 3; ++N) {
        const StatusOr<Schedule> schedule = Generate(generator.name, {.workers = D, .micro_batches = N});
        if (!schedule.ok()) continue;  // no such D or N
        EXPECT_TRUE(Verify(*schedule, {.completed = false}).ok());
        const Status status = Verify(Complete(*schedule, {.tied = {SyncSet{{0, D - 1}}}}));
        ASSERT_TRUE(status.ok()) << status;
        const Status evaluation = Verify(Complete(ForwardOnly(*schedule, N)), {.training = false});
        ASSERT_TRUE(evaluation.ok()) << evaluation;
      }
    }
  }
}

// No schedule is faster: each worker waits for its first forward's way to it, does its work, and its last full backward's way home follows.
std::int64_t LowerBound(const Schedule& schedule, const TickCosts& costs) {
  const ScheduleShape& shape = schedule.shape;
  std::int64_t bound = 0;
  for (int worker = 0; worker < shape.workers; ++worker) {
    std::int64_t work = 0, nearest = shape.stages;
    bool split = false;
    for (const Instruction& i : schedule.program[worker]) {
      const std::int64_t whole = i.op == Op::kForward         ? costs.forward
                                 : i.op == Op::kBackward      ? costs.backward
                                 : i.op == Op::kBackwardInput ? costs.input
                                                              : costs.weight;
      work += whole / i.parts;
      nearest = std::min<std::int64_t>(nearest, i.stage);
      split = split || i.op == Op::kBackwardWeight;
    }
    if (work == 0) continue;
    bound = std::max(bound, (work + nearest * (costs.forward + (split ? 0 : costs.backward)) / MaxParts(schedule)) / shape.chunks);
  }
  return bound;
}

// Any size, pipes, costs and latency: proven, not slower than its lower bound, and the same whether messages are explicit or not.
TEST(VerifyTest, RandomSchedulesHoldEveryProperty) {
  constexpr std::uint32_t kSeed = 20240917;
  std::mt19937 random(kSeed);
  const auto pick = [&](int low, int high) { return low + static_cast<int>(random() % static_cast<std::uint32_t>(high - low + 1)); };
  int proven = 0;
  for (int i = 0; i < 600; ++i) {
    const Generator& generator = Generators()[random() % Generators().size()];
    GenerateOptions given{.workers = pick(1, 20), .micro_batches = pick(1, 70)};
    if (generator.generate == Chimera) given.pipes = 2 * pick(1, std::max(1, given.workers / 2));
    if (generator.generate == Interleaved) given.chunks = pick(1, 4);
    const StatusOr<Schedule> schedule = Generate(generator.name, given);
    if (!schedule.ok()) continue;  // no such D, N or pipes
    ++proven;
    const int D = given.workers, N = given.micro_batches, chunks = schedule->shape.chunks;
    SCOPED_TRACE(
        absl::StrCat("seed ", kSeed, " case ", i, ": ", generator.name, " D ", D, " N ", N, " pipes ", given.pipes, " chunks ", chunks));
    const Schedule complete = Complete(*schedule, {.tied = {SyncSet{{0, schedule->shape.stages - 1}}}});
    const Status status = Verify(complete, {.max_activations = generator.generate == Chimera ? std::min(N, D) : N * chunks});
    ASSERT_TRUE(status.ok()) << status;

    SimulateOptions options;
    options.costs.forward = 2 * pick(1, 9) * chunks;
    options.costs.input = 2 * pick(1, 9) * chunks;
    options.costs.weight = 2 * pick(1, 9) * chunks;
    options.costs.backward = options.costs.input + options.costs.weight;
    const Timeline without_latency = *Simulate(*schedule, options);
    ASSERT_GE(without_latency.makespan, LowerBound(*schedule, options.costs));
    options.costs.latency = pick(0, 9);
    options.costs.transmit = pick(0, 3);
    const Timeline timeline = *Simulate(*schedule, options);
    ASSERT_EQ(timeline.makespan, Simulate(complete, options)->makespan);
    ASSERT_GE(timeline.makespan, without_latency.makespan);
  }
  EXPECT_GT(proven, 300);
}

// Every single instruction is needed, exactly once, on its worker, and with its slot.
TEST(VerifyTest, CatchesEverySingleChangeOfThatKind) {
  for (const Schedule& schedule : {Complete(Must("chimera", 4, 5), {.tied = {SyncSet{{0, 3}}}}), Complete(Must("1f1b", 3, 4))}) {
    ASSERT_TRUE(Verify(schedule).ok());
    for (int worker = 0; worker < schedule.shape.workers; ++worker) {
      for (int i = 0; i < static_cast<int>(schedule.program[worker].size()); ++i) {
        const Instruction instruction = schedule.program[worker][i];
        const auto broken = [&](const std::function<void(Schedule&, std::vector<Instruction>&)>& change) {
          Schedule copy = schedule;
          change(copy, copy.program[worker]);
          return !Verify(copy).ok();
        };
        SCOPED_TRACE(absl::StrCat("worker ", worker, " instruction ", i, " ", ToString(schedule, instruction)));
        EXPECT_TRUE(broken([&](Schedule&, auto& program) { program.erase(program.begin() + i); })) << "dropped";
        EXPECT_TRUE(broken([&](Schedule&, auto& program) { program.insert(program.begin() + i, instruction); })) << "doubled";
        EXPECT_TRUE(broken([&](Schedule& copy, auto& program) {
          auto& other = copy.program[(worker + 1) % copy.shape.workers];
          other.insert(other.begin() + std::min<std::size_t>(i, other.size()), instruction);
          program.erase(program.begin() + i);
        })) << "on another worker";
        if (instruction.stash_slot >= 0) {
          EXPECT_TRUE(broken([&](Schedule&, auto& program) { program[i].stash_slot ^= 1; })) << "another slot";
        }
        if (instruction.micro_batch >= 0) {
          EXPECT_TRUE(broken([&](Schedule&, auto& program) { program[i].micro_batch ^= 1; })) << "another micro-batch";
        }
        if (instruction.op == Op::kReceiveActivation || instruction.op == Op::kReceiveGradient) continue;  // may come early, if in order
        EXPECT_TRUE(i == 0 ||
                    broken([&](Schedule&, auto& program) { std::rotate(program.begin(), program.begin() + i, program.begin() + i + 1); }))
            << "first of all";
      }
    }
  }
}

// Any order that could happen, on any placement, several stages a worker and messages to oneself included: the passes make it run under
// one queue per ordered pair of workers, given enough credits.
TEST(VerifyTest, PassesCompleteAnyPossibleOrder) {
  constexpr std::uint32_t kSeed = 4242;
  std::mt19937 random(kSeed);
  for (int round = 0; round < 300; ++round) {
    SCOPED_TRACE(absl::StrCat("seed ", kSeed, " round ", round));
    Schedule schedule;
    schedule.name = "random";
    ScheduleShape& shape = schedule.shape;
    shape.workers = 1 + static_cast<int>(random() % 5);
    shape.chunks = 1 + static_cast<int>(random() % 3);
    shape.stages = shape.workers * shape.chunks;
    shape.pipes = 1 + static_cast<int>(random() % 3);
    shape.micro_batches = 1 + static_cast<int>(random() % 7);
    schedule.program.resize(shape.workers);
    for (int pipe = 0; pipe < shape.pipes; ++pipe) {
      schedule.worker_of.emplace_back();
      for (int stage = 0; stage < shape.stages; ++stage) schedule.worker_of[pipe].push_back(static_cast<int>(random() % shape.workers));
    }
    for (int m = 0; m < shape.micro_batches; ++m) schedule.pipe_of_micro_batch.push_back(static_cast<int>(random() % shape.pipes));
    // Advance a random micro-batch by one: forwards up the stages, backwards down.
    std::vector<int> steps(shape.micro_batches, 0);
    for (int left = 2 * shape.stages * shape.micro_batches; left > 0;) {
      const int m = static_cast<int>(random() % shape.micro_batches);
      if (steps[m] == 2 * shape.stages) continue;
      const bool forward = steps[m] < shape.stages;
      const int stage = forward ? steps[m] : 2 * shape.stages - 1 - steps[m];
      const int pipe = schedule.pipe_of_micro_batch[m];
      schedule.program[schedule.worker_of[pipe][stage]].push_back(Compute(forward ? Op::kForward : Op::kBackward, pipe, stage, m));
      ++steps[m], --left;
    }
    const Schedule complete = Complete(schedule, {.tied = {SyncSet{{0, shape.stages - 1}}}});
    const Status status = Verify(complete, {.credits = shape.micro_batches});
    ASSERT_TRUE(status.ok()) << status;
    SimulateOptions options;
    options.costs.latency = 1;
    ASSERT_TRUE(Simulate(complete, options).ok());
  }
}

TEST(VerifyTest, MarksThePlaceInThePrograms) {
  Schedule schedule = Complete(Must("1f1b", 2, 1));
  At(schedule, 1, "p0.1B0").stash_slot = 7;
  EXPECT_THAT(std::string(Verify(schedule).message()),
              AllOf(HasSubstr("schedule 1f1b, worker 1, instruction 3 (p0.1B0): stash slot 7"), HasSubstr("worker 0 | p0.0LOAD0 p0.0F0"),
                    HasSubstr("p0.1F0 >>p0.1B0<< p0.1SENDB0")));
}

TEST(VerifyTest, DeadlocksShowWhatEveryWorkerWaitsFor) {
  Schedule schedule = Complete(Must("1f1b", 2, 1));
  Move(schedule, 0, "p0.0RECVB0", "p0.0LOAD0");
  EXPECT_THAT(
      std::string(Verify(schedule).message()),
      AllOf(HasSubstr("worker 0 at 0 (p0.0RECVB0) waits for worker 1 to send the gradient of micro-batch 0, pipe 0, stage 1 -> 0"),
            HasSubstr("worker 1 at 1 (p0.1RECVF0) waits for worker 0 to send"), HasSubstr(">>p0.0RECVB0<<"), HasSubstr(">>p0.1RECVF0<<")));
}

// Two forwards ahead on one channel: the first receive takes both, so one credit is too few and two are enough.
TEST(VerifyTest, CreditsAreCounted) {
  Schedule schedule = Complete(Must("gpipe", 2, 2));
  Move(schedule, 1, "p0.1RECVF1", "p0.1F0");
  EXPECT_THAT(std::string(Verify(schedule).message()), HasSubstr("deadlock with 1 credit(s) per channel"));
  EXPECT_TRUE(Verify(schedule, {.credits = 2}).ok()) << Verify(schedule, {.credits = 2});
}

// Messages of two channels in an order that channels allow and one queue does not: by pair, the send of the first in line needs a buffer
// that is free only after the message behind it.
TEST(VerifyTest, OneQueuePerPairIsStricterThanChannels) {
  // Worker 0: sends F0 on pipe 0, then B1 on pipe 1; worker 1 wants them the other way round.
  Schedule schedule = Complete(Must("chimera", 2, 2));
  Move(schedule, 1, "p0.1LOAD0", "UPDATE");
  Move(schedule, 1, "p0.1RECVF0", "UPDATE");
  Move(schedule, 1, "p0.1F0", "UPDATE");
  Move(schedule, 1, "p0.1B0", "UPDATE");
  Move(schedule, 1, "p0.1SENDB0", "UPDATE");
  EXPECT_TRUE(Replay(schedule, 1, Matching::kByChannel).ok());
  EXPECT_THAT(std::string(VerifyMessages(schedule).message()), HasSubstr("message 0 from worker 0 to worker 1"));
}

TEST(VerifyTest, TheBudgetIsKept) {
  const Schedule schedule = Complete(Must("gpipe", 2, 5));
  EXPECT_TRUE(Verify(schedule, {.max_activations = 5}).ok());
  EXPECT_THAT(std::string(Verify(schedule, {.max_activations = 4}).message()), HasSubstr("keeps 5 activations, the budget is 4"));
}

TEST(VerifyTest, TrainingAndEvaluationAreNotConfused) {
  EXPECT_THAT(std::string(Verify(Complete(ForwardOnly(Must("1f1b", 2, 1), 1))).message()), HasSubstr("lacks B"));
  EXPECT_FALSE(Verify(Complete(Must("1f1b", 2, 1)), {.training = false}).ok());
  EXPECT_FALSE(Verify(Must("1f1b", 2, 1)).ok()) << "not completed";
}

}  // namespace
}  // namespace lycia::schedule
