// Every schedule of the table, changed in one place in every way that we can think of: Verify must refuse exactly those changes after which
// the schedule is wrong, and mark the cell. What is wrong is decided by brute force (brute_force_for_test.h), which knows nothing of
// Verify's code; changes that do no harm, two independent instructions swapped, must be let through.
#include <algorithm>
#include <cstdint>
#include <functional>
#include <map>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "parallel/schedule/brute_force_for_test.h"
#include "parallel/schedule/edit_for_test.h"
#include "parallel/schedule/generators.h"
#include "parallel/schedule/passes.h"
#include "parallel/schedule/verify.h"

namespace lycia::schedule {
namespace {

struct Count {
  int caught = 0;
  int harmless = 0;
};

class Mutator {
 public:
  explicit Mutator(const Schedule& schedule) : schedule_(schedule), credits_(MaxParts(schedule) * schedule.credits) {
    EXPECT_TRUE(Verify(schedule, {.credits = credits_}).ok()) << Verify(schedule, {.credits = credits_});
    EXPECT_EQ(WhatIsWrong(schedule, credits_), "") << schedule.name;
  }

  // Changes a copy, and holds Verify against brute force. False after a disagreement.
  bool Try(const std::string& kind, const std::function<void(Schedule&)>& change) {
    Schedule changed = schedule_;
    change(changed);
    if (changed.program == schedule_.program) return true;
    const Status status = Verify(changed, {.credits = credits_});
    const std::string wrong = WhatIsWrong(changed, credits_);
    Count& count = counts_[kind];
    ++(status.ok() ? count.harmless : count.caught);
    EXPECT_EQ(status.ok(), wrong.empty()) << kind << ": brute force says \"" << wrong << "\", Verify says " << status;
    const bool marked = status.ok() || absl::StrContains(status.message(), ">>");
    EXPECT_TRUE(marked) << kind << " is not marked: " << status;
    return status.ok() == wrong.empty() && marked;
  }

  const std::map<std::string, Count>& counts() const { return counts_; }

 private:
  const Schedule& schedule_;
  const int credits_;  // a channel holds the parts of as many micro-batches as are declared
  std::map<std::string, Count> counts_;
};

// All single changes of one instruction, and swaps with the next and with a random one.
bool TryAllAt(const Schedule& schedule, int worker, int i, std::mt19937& random, Mutator& mutator) {
  const Instruction original = schedule.program[worker][i];
  const int size = static_cast<int>(schedule.program[worker].size());
  const auto program = [worker](Schedule& s) -> std::vector<Instruction>& { return s.program[worker]; };
  const auto edit = [&](const std::string& kind, const std::function<void(Instruction&)>& change) {
    return mutator.Try(kind, [&](Schedule& s) { change(program(s)[i]); });
  };
  const auto swap = [&](const std::string& kind, int j) {
    return mutator.Try(kind, [&](Schedule& s) { std::swap(program(s)[i], program(s)[j]); });
  };
  const int other = static_cast<int>(random() % static_cast<std::uint32_t>(size));
  const int stranger = static_cast<int>((worker + 1) % schedule.shape.workers);
  bool agreed = mutator.Try("drop", [&](Schedule& s) { program(s).erase(program(s).begin() + i); });
  agreed = mutator.Try("duplicate", [&](Schedule& s) { program(s).insert(program(s).begin() + other, original); }) && agreed;
  agreed = mutator.Try("another worker", [&](Schedule& s) {
    if (stranger == worker) return;
    s.program[stranger].insert(s.program[stranger].begin() + std::min<std::ptrdiff_t>(i, std::ssize(s.program[stranger])), original);
    program(s).erase(program(s).begin() + i);
  }) && agreed;
  agreed = mutator.Try("move", [&](Schedule& s) {
    program(s).erase(program(s).begin() + i);
    program(s).insert(program(s).begin() + std::min(other, size - 1), original);
  }) && agreed;
  if (i + 1 < size) agreed = swap("swap with the next", i + 1) && agreed;
  agreed = swap("swap with any", other) && agreed;
  if (original.micro_batch >= 0) {
    agreed = edit("another pipe", [&](Instruction& x) { x.pipe = (x.pipe + 1) % schedule.shape.pipes; }) && agreed;
    agreed = edit("another boundary", [](Instruction& x) { ++x.stage; }) && agreed;
    agreed = edit("another boundary", [](Instruction& x) { --x.stage; }) && agreed;
    agreed = edit("another micro-batch", [](Instruction& x) { x.micro_batch ^= 1; }) && agreed;
    agreed = edit("another part", [](Instruction& x) { ++x.part; }) && agreed;
    agreed = edit("other parts", [](Instruction& x) { ++x.parts; }) && agreed;
  } else {
    agreed = edit("another set", [&](Instruction& x) { ++x.sync_set; }) && agreed;
    agreed = edit("another set", [&](Instruction& x) { x.sync_set = -1; }) && agreed;
  }
  if (original.stash_slot >= 0) {
    agreed = edit("another slot", [](Instruction& x) { ++x.stash_slot; }) && agreed;
    agreed = edit("another slot", [](Instruction& x) { --x.stash_slot; }) && agreed;
    agreed = edit("another input slot", [](Instruction& x) { ++x.input_slot; }) && agreed;
    agreed = edit("another handoff slot", [](Instruction& x) { ++x.handoff_slot; }) && agreed;
  }
  if (IsCompute(original.op)) {
    agreed = edit("half done", [](Instruction& x) { x.op = Op::kBackwardInput; }) && agreed;
    agreed = edit("pair made or broken", [](Instruction& x) { x.paired_with_next = !x.paired_with_next; }) && agreed;
  }
  if (original.op == Op::kUpdate) {
    for (int j = 0; j < i && agreed; ++j) {
      agreed = mutator.Try("update early",
                           [&](Schedule& s) { std::rotate(program(s).begin() + j, program(s).begin() + i, program(s).begin() + i + 1); });
    }
  }
  if (original.op == Op::kGradientSync) {
    for (int j = 0; j < i && agreed; ++j) {
      if (schedule.program[worker][j].op == Op::kGradientSync) agreed = swap("swap two syncs", j);
    }
  }
  return agreed;
}

std::vector<Schedule> Completed(const Schedule& compute) {
  const std::vector<SyncSet> tied = {SyncSet{{0, compute.shape.stages - 1}}};
  std::vector<Schedule> all = {Complete(compute, {.tied = tied})};
  all.push_back(Complete(MaxParts(compute) == 1 ? Cut(compute, 2, 3) : compute,
                         {.sync = GradientSyncMode::kEager, .update = UpdateMode::kEager, .tied = tied}));
  return all;
}

TEST(MutationsTest, VerifyAndBruteForceAgreeOnEveryChange) {
  constexpr std::uint32_t kSeed = 7;
  constexpr int kPlaces = 80;  // of each schedule, at random where it has more
  std::mt19937 random(kSeed);
  std::map<std::string, Count> total;
  for (const Generator& generator : Generators()) {
    int sizes = 0;
    for (const auto& [D, N] : {std::pair{2, 2}, {2, 4}, {4, 4}, {4, 8}, {2, 3}}) {
      const StatusOr<Schedule> compute = Generate(generator.name, {.workers = D, .micro_batches = N});
      if (!compute.ok() || ++sizes > 3) continue;
      for (const Schedule& schedule : Completed(*compute)) {
        SCOPED_TRACE(absl::StrCat(generator.name, " D ", D, " N ", N, " seed ", kSeed));
        Mutator mutator(schedule);
        std::vector<std::pair<int, int>> places;
        for (int worker = 0; worker < schedule.shape.workers; ++worker) {
          for (int i = 0; i < static_cast<int>(schedule.program[worker].size()); ++i) places.emplace_back(worker, i);
        }
        std::shuffle(places.begin(), places.end(), random);
        if (places.size() > kPlaces) places.resize(kPlaces);
        for (const auto& [worker, i] : places) ASSERT_TRUE(TryAllAt(schedule, worker, i, random, mutator));
        for (const auto& [kind, count] : mutator.counts()) {
          total[kind].caught += count.caught;
          total[kind].harmless += count.harmless;
        }
      }
    }
    EXPECT_GE(sizes, 2) << generator.name << " takes none of the sizes";
  }
  // No kind of change is always harmless, and those that cannot be harmless never are.
  for (const auto& [kind, count] : total) {
    std::printf("%-20s caught %6d, harmless %6d\n", kind.c_str(), count.caught, count.harmless);
    EXPECT_GT(count.caught, 0) << kind;
    for (const char* always :
         {"drop", "duplicate", "another worker", "another slot", "half done", "another pipe", "another part", "other parts"}) {
      if (kind == always) {
        EXPECT_EQ(count.harmless, 0) << kind;
      }
    }
  }
}

// A quota or a budget is exceeded by exactly what is kept at once, counted anew here.
TEST(MutationsTest, QuotasAndBudgetsAreExact) {
  for (const Generator& generator : Generators()) {
    for (const int N : {4, 8}) {
      const StatusOr<Schedule> compute = Generate(generator.name, {.workers = 4, .micro_batches = N});
      if (!compute.ok()) continue;
      SCOPED_TRACE(absl::StrCat(generator.name, " N ", N));
      const ScheduleShape& shape = compute->shape;
      std::vector<std::vector<int>> peaks(shape.pipes, std::vector<int>(shape.stages, 0));  // [pipe][stage]
      int worker_peak = 0;
      for (const auto& program : compute->program) {
        std::map<std::pair<int, int>, int> uses;  // (stage, micro-batch) -> instructions left
        for (const Instruction& i : program) ++uses[{i.stage, i.micro_batch}];
        std::map<std::pair<int, int>, int> left = uses;
        std::map<int, int> kept;  // stage * pipes + pipe
        int all = 0;
        std::vector<Instruction> gone;  // with the end of the block
        for (const Instruction& i : program) {
          const std::pair cell(i.stage, i.micro_batch);
          const int place = i.stage * shape.pipes + i.pipe;
          if (left[cell] == uses[cell])
            peaks[i.pipe][i.stage] = std::max(peaks[i.pipe][i.stage], ++kept[place]), worker_peak = std::max(worker_peak, ++all);
          if (--left[cell] == 0) gone.push_back(i);
          if (i.paired_with_next) continue;
          for (const Instruction& each : gone) --kept[each.stage * shape.pipes + each.pipe], --all;
          gone.clear();
        }
      }
      const Schedule schedule = Complete(*compute);
      EXPECT_EQ(schedule.stash_slots, peaks) << "a slot more than needed, or one too few";
      EXPECT_TRUE(Verify(schedule, {.max_activations = worker_peak, .quotas = peaks}).ok());
      EXPECT_TRUE(Verify(schedule, {.max_stage_activations = static_cast<double>(worker_peak) / shape.chunks}).ok());
      const auto fails = [&](const VerifyOptions& options, const char* what) {
        const std::string message(Verify(schedule, options).message());
        EXPECT_TRUE(absl::StrContains(message, what) && absl::StrContains(message, ">>")) << message;
      };
      if (worker_peak > 1)
        fails({.max_activations = worker_peak - 1}, absl::StrCat("keeps ", worker_peak, " activations, the budget is").c_str());
      fails({.max_stage_activations = (worker_peak - 0.5) / shape.chunks}, "stages of D, the budget is");
      for (int pipe = 0; pipe < shape.pipes; ++pipe) {
        for (int stage = 0; stage < shape.stages; ++stage) {
          auto quotas = peaks;
          --quotas[pipe][stage];
          fails({.quotas = quotas}, absl::StrCat("of pipe ", pipe, ", stage ", stage, ", the quota is ", quotas[pipe][stage]).c_str());
          Schedule fewer = schedule;
          --fewer.stash_slots[pipe][stage];
          EXPECT_FALSE(Verify(fewer).ok());
        }
      }
    }
  }
}

}  // namespace
}  // namespace lycia::schedule
