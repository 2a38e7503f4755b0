// Random sizes, costs, latencies, quotas and synchronisation modes, over all schedules of the table: each generator gets its share of the
// cases that it accepts. What must hold is computed anew here, from the placement, the counts and the costs alone.
#include <algorithm>
#include <cstdint>
#include <limits>
#include <map>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "parallel/schedule/brute_force_for_test.h"
#include "parallel/schedule/edit_for_test.h"
#include "parallel/schedule/generators.h"
#include "parallel/schedule/passes.h"
#include "parallel/schedule/simulate.h"
#include "parallel/schedule/verify.h"

namespace lycia::schedule {
namespace {

constexpr std::uint32_t kSeed = 20251;
constexpr int kCases = 10000;

class Dice {
 public:
  int Pick(int low, int high) { return low + static_cast<int>(random_() % static_cast<std::uint32_t>(high - low + 1)); }
  bool OneIn(int n) { return Pick(1, n) == 1; }

 private:
  std::mt19937 random_{kSeed};
};

GenerateOptions RandomOptions(Dice& dice) {
  GenerateOptions options;
  options.workers = dice.OneIn(8) ? dice.Pick(1, 8) : 2 * dice.Pick(1, 3);
  options.micro_batches = dice.OneIn(2) ? dice.Pick(1, 14) : options.workers * dice.Pick(1, 2);
  if (dice.OneIn(4)) options.pipes = 2 * dice.Pick(1, 3);
  if (dice.OneIn(4)) options.chunks = dice.Pick(1, 3);
  if (dice.OneIn(8)) options.max_activations = options.workers + dice.Pick(0, options.workers);
  if (!dice.OneIn(5)) return options;  // planning by cost takes long; the others run at costs that they were not made for
  for (Fraction StageCosts::*cost : {&StageCosts::forward, &StageCosts::backward, &StageCosts::input, &StageCosts::weight}) {
    options.costs.*cost = {dice.Pick(1, 6), 1};
  }
  if (dice.OneIn(2)) options.costs.latency = {dice.Pick(0, 4), 2};
  return options;
}

// Ticks for any schedule of these costs, of each stage on its own in one case of two.
TickCosts RandomCosts(const Schedule& schedule, const Costs& costs, Dice& dice) {
  TickCosts ticks = *ToTicks(costs, 12 * TickDivisor(schedule));
  const std::int64_t unit = ticks.ticks_per_unit;
  if (dice.OneIn(2)) {
    for (int stage = 0; stage < schedule.shape.stages; ++stage) {
      ticks.stages.push_back({unit * dice.Pick(1, 6), unit * dice.Pick(1, 9), unit * dice.Pick(1, 6), unit * dice.Pick(1, 6)});
    }
  }
  if (dice.OneIn(2)) ticks.latency = unit * dice.Pick(0, 8) / 4;
  if (dice.OneIn(3)) ticks.transmit = unit * dice.Pick(1, 4) / 4;
  return ticks;
}

// A worker cannot start before a forward has come up to it, must do all its work, and after its last input gradient the gradient must
// still go down to stage 0; weight gradients may follow it. For uniform costs this is N(F+B) + (D/2f - 1)(F+B), split N(F+I+W) + (D/2f -
// 1)F.
std::int64_t LowerBound(const Schedule& schedule, const TickCosts& costs) {
  const ScheduleShape& shape = schedule.shape;
  std::vector<std::int64_t> work(shape.workers, 0);
  std::vector<char> split(shape.pipes, 0);
  std::int64_t bound = 0;
  for (int worker = 0; worker < shape.workers; ++worker) {
    for (const Instruction& i : schedule.program[worker]) {
      work[worker] += Ticks(schedule, costs, worker, i);
      if (i.op == Op::kBackwardWeight) split[i.pipe] = 1;
    }
  }
  std::vector<std::int64_t> head(shape.workers, std::numeric_limits<std::int64_t>::max()), tail = head;
  for (int m = 0; m < shape.micro_batches; ++m) {
    const int pipe = schedule.pipe_of_micro_batch[m];
    std::int64_t up = 0, down = 0;  // the first of a forward's parts and the last of a backward's, at the least
    for (int stage = 0; stage < shape.stages; ++stage) {
      const int worker = schedule.worker_of[pipe][stage];
      const bool hop = stage > 0 && schedule.worker_of[pipe][stage - 1] != worker;
      if (hop) up += costs.latency + costs.transmit, down += costs.latency + costs.transmit;
      head[worker] = std::min(head[worker], up);
      tail[worker] = std::min(tail[worker], split[pipe] ? 0 : down);
      std::int64_t forward = std::numeric_limits<std::int64_t>::max(), backward = forward;
      for (const Instruction& i : schedule.program[worker]) {
        if (i.stage != stage || i.micro_batch != m) continue;
        if (i.op == Op::kForward) forward = std::min(forward, Ticks(schedule, costs, worker, i));
        if (i.op == Op::kBackward || i.op == Op::kBackwardInput) backward = std::min(backward, Ticks(schedule, costs, worker, i));
      }
      up += forward;
      down += backward;
    }
  }
  for (int worker = 0; worker < shape.workers; ++worker) {
    if (work[worker] > 0) bound = std::max(bound, head[worker] + work[worker] + tail[worker]);
  }
  return bound;
}

// Each stage has every micro-batch of the pipe once: by shares of a micro-batch, F 1, B 1 or I 1 and W 1.
void ExpectCounts(const Schedule& schedule) {
  std::map<std::pair<int, int>, std::map<char, int>> shares;  // (stage, micro-batch) -> letter -> sixtieths
  for (const auto& program : schedule.program) {
    for (const Instruction& i : program) shares[{i.stage, i.micro_batch}][OpLetter(i.op)] += 60 / i.parts;
  }
  ASSERT_EQ(static_cast<int>(shares.size()), schedule.shape.stages * schedule.shape.micro_batches);
  for (auto& [cell, share] : shares) {
    const bool full = share['F'] == 60 && share['B'] == 60 && share['I'] == 0 && share['W'] == 0;
    const bool split = share['F'] == 60 && share['I'] == 60 && share['W'] == 60 && share['B'] == 0;
    ASSERT_TRUE(full || split) << "stage " << cell.first << " micro-batch " << cell.second;
  }
}

void ExpectProperties(const Schedule& compute, const GenerateOptions& options, Dice& dice, int credits, bool brute_force) {
  credits *= compute.credits;
  ExpectCounts(compute);
  const TickCosts costs = RandomCosts(compute, options.costs, dice);
  const auto mode = static_cast<GradientSyncMode>(dice.Pick(0, 2));
  const auto update = static_cast<UpdateMode>(dice.Pick(0, 1));
  const std::vector<SyncSet> tied = {SyncSet{{0, compute.shape.stages - 1}}};
  const Schedule schedule = Complete(compute, {.sync = mode, .update = update, .costs = costs, .tied = tied});
  // Peak: at most what is declared, for each pipe and stage and in all.
  const Status status = Verify(schedule, {.credits = credits, .quotas = schedule.stash_slots});
  ASSERT_TRUE(status.ok()) << status;
  if (brute_force) {
    ASSERT_EQ(WhatIsWrong(schedule, credits), "");
  }
  const std::vector<double> peaks = PeakActivations(compute);
  for (int worker = 0; worker < compute.shape.workers; ++worker) {
    double slots = 0;
    for (int pipe = 0; pipe < compute.shape.pipes; ++pipe) {
      for (int stage = 0; stage < compute.shape.stages; ++stage) {
        if (compute.worker_of[pipe][stage] == worker) slots += schedule.stash_slots[pipe][stage];
      }
    }
    ASSERT_LE(peaks[worker] * compute.shape.chunks, slots);
  }
  const Timeline alone = *Simulate(compute, {.costs = costs});
  ASSERT_GE(alone.makespan, LowerBound(compute, costs));
  ASSERT_EQ(alone.makespan, Simulate(schedule, {.costs = costs})->makespan)
      << "messages, syncs and updates that cost nothing change nothing";
  TickCosts dear = costs;
  dear.sync = costs.ticks_per_unit * dice.Pick(0, 5);
  dear.update = costs.ticks_per_unit * dice.Pick(0, 5);
  const Timeline timeline = *Simulate(schedule, {.costs = dear});
  ASSERT_GE(timeline.makespan, alone.makespan);
  ASSERT_EQ(timeline.work, alone.work);
  if (update == UpdateMode::kDecided) {
    ASSERT_GE(timeline.makespan, alone.makespan + dear.update);
  }
}

// A budget binds the schedules that are planned by cost, and is ignored by fixed orders.
void ExpectBudget(const Generator& generator, const Schedule& schedule, GenerateOptions options) {
  const int budget = std::exchange(options.max_activations, 0);
  if (budget == 0) return;
  const StatusOr<Schedule> without = generator.generate(options);
  ASSERT_TRUE(without.ok()) << without.status();
  const std::string name = generator.name;
  if (without->program == schedule.program && name != "chimera-continuous" && name != "chimera-zb") return;
  for (const double peak : PeakActivations(schedule)) ASSERT_LE(peak, budget);
}

TEST(PropertiesTest, HoldForEverySchedule) {
  Dice dice;
  const int share = (kCases + static_cast<int>(Generators().size()) - 1) / static_cast<int>(Generators().size());
  for (const Generator& generator : Generators()) {
    int accepted = 0;
    for (int tries = 0; accepted < share; ++tries) {
      ASSERT_LT(tries, 20 * share) << generator.name << " refuses nearly everything";
      const GenerateOptions options = RandomOptions(dice);
      StatusOr<Schedule> schedule = Generate(generator.name, options);
      if (!schedule.ok()) {
        ASSERT_EQ(schedule.status().code(), absl::StatusCode::kInvalidArgument) << schedule.status();
        continue;
      }
      SCOPED_TRACE(absl::StrCat("seed ", kSeed, ", ", generator.name, " try ", tries, ": D ", options.workers, " N ", options.micro_batches,
                                " pipes ", options.pipes, " chunks ", options.chunks, " max ", options.max_activations));
      ASSERT_NO_FATAL_FAILURE(ExpectBudget(generator, *schedule, options));
      const bool brute_force = accepted % 16 == 0;
      ASSERT_NO_FATAL_FAILURE(ExpectProperties(*schedule, options, dice, 1, brute_force));
      // Cut into parts, a channel must hold the parts of one micro-batch.
      const int parts = dice.Pick(2, 3);
      if (accepted % 8 == 0 && MaxParts(*schedule) == 1) {
        ASSERT_NO_FATAL_FAILURE(ExpectProperties(Cut(*schedule, parts, dice.Pick(1, 3)), options, dice, 3 * schedule->credits, brute_force));
      }
      ++accepted;
    }
  }
}

}  // namespace
}  // namespace lycia::schedule
