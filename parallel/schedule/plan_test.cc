// The planner, against tables of independently simulated orders, whose minima are over candidates that it tries too, against
// limits that it must keep, and against every order that it finds: a planner that gave out orders that deadlock, or kept a memory limit
// only at unit costs, would pass the tables.
#include "parallel/schedule/plan.h"

#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "parallel/schedule/edit_for_test.h"
#include "parallel/schedule/order_search.h"
#include "parallel/schedule/passes.h"
#include "parallel/schedule/simulate.h"
#include "parallel/schedule/verify.h"

namespace lycia::schedule {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

Costs CostsOf(std::string_view cost, std::string_view latency) {
  Costs costs = *ParseCosts(cost);
  costs.latency = *ParseFraction(latency);
  return costs;
}

double Most(const Schedule& schedule) {
  const std::vector<double> peaks = PeakActivations(schedule);
  return *std::max_element(peaks.begin(), peaks.end());
}

double BubblePercent(const Schedule& schedule, const Costs& costs) {
  return 100 * BubbleRatio(*Simulate(schedule, {.costs = *ToTicks(costs, TickDivisor(schedule))}));
}

StatusOr<OrderFamily> FamilyOf(std::string_view name, const GenerateOptions& options) {
  for (const NamedFamily& family : Families()) {
    if (family.name == name) return family.make(options);
  }
  return InvalidArgument("no such family");
}

const PlanCandidate& Find(const Plan& plan, std::string_view name) {
  for (const PlanCandidate& candidate : plan.candidates) {
    if (candidate.name == name) return candidate;
  }
  ADD_FAILURE() << "no candidate " << name;
  return plan.candidates.front();
}

// Fixed orders exactly; re-planned ones are minima over more orders than the table's, so at most what it says.
TEST(PlanTest, BestOfTheTable) {
  const char* const unit = "F=1,I=1,W=1";
  const char* const small = "F=18.522,I=18.086,W=9.337";  // 1.5B
  const char* const large = "F=10.419,I=10.207,W=7.715";  // 28.3B
  struct Line {
    int D, N;
    const char *cost, *latency;
    double one_f_one_b, chimera, full, dual_pipe, zb;  // 0: not possible
  };
  const Line lines[] = {
      {8, 8, unit, "0", 46.7, 33.3, 33.3, 0, 11.1},          {8, 8, unit, "0.1", 49.6, 36.7, 36.5, 0, 16.4},
      {8, 8, unit, "0.3", 54.5, 42.4, 41.7, 0, 25.0},        {8, 8, small, "0.601", 47.8, 32.4, 32.3, 0, 19.8},
      {8, 16, unit, "0.1", 34.2, 30.5, 22.6, 14.7, 10.8},    {8, 16, unit, "0.3", 40.7, 36.3, 27.3, 21.2, 15.2},
      {8, 16, small, "0.601", 32.0, 24.3, 19.4, 17.1, 12.1}, {8, 24, small, "0.601", 24.3, 21.2, 13.8, 12.4, 8.3},
      {8, 32, unit, "0.3", 30.1, 32.6, 15.8, 15.1, 9.3},     {16, 64, unit, "0.1", 23.7, 30.1, 14.4, 10.3, 7.4},
      {16, 64, unit, "0.3", 31.8, 36.0, 17.7, 17.0, 9.5},    {32, 32, large, "0.408", 50.6, 38.8, 38.7, 0, 19.7},
      {32, 96, large, "0.408", 26.5, 28.3, 17.5, 13.0, 8.7},
  };
  for (const Line& line : lines) {
    SCOPED_TRACE(absl::StrCat("D ", line.D, " N ", line.N, " ", line.cost, " c ", line.latency));
    const Costs costs = CostsOf(line.cost, line.latency);
    const GenerateOptions options{.workers = line.D, .micro_batches = line.N, .costs = costs};
    EXPECT_NEAR(BubblePercent(Must("1f1b", line.D, line.N), costs), line.one_f_one_b, 0.05001);
    const double chimera = BubblePercent(Must("chimera", line.D, line.N), costs);
    EXPECT_NEAR(chimera, line.chimera, 0.05001);
    if (line.dual_pipe > 0) {
      EXPECT_NEAR(BubblePercent(Must("dualpipe", line.D, line.N), costs), line.dual_pipe, 0.05001);
    }
    const Schedule full = *ChimeraContinuous(options);
    EXPECT_LE(std::min(chimera, BubblePercent(full, costs)), line.full + 0.05001);
    EXPECT_LE(Most(full), line.D);
    const Schedule zb = *ChimeraZb(options);
    EXPECT_LE(BubblePercent(zb, costs), line.zb + 0.05001);
    EXPECT_LE(Most(zb), line.D);
  }
}

// sail's automatic ZB-V, independently simulated: makespan and peak are upper bounds. The optimum 3N + (D - 1)/2 is met.
TEST(PlanTest, ReplannedZbVIsAsGoodAsSails) {
  struct Line {
    int D, N;
    double makespan;
  };
  for (const auto& [D, N, makespan] : {Line{4, 4, 13.5},
                                       {4, 8, 25.5},
                                       {4, 16, 49.5},
                                       {8, 8, 27.5},
                                       {8, 16, 51.5},
                                       {8, 32, 99.5},
                                       {16, 16, 55.5},
                                       {16, 32, 103.5},
                                       {16, 64, 199.5}}) {
    const OrderFamily family = *FamilyOf("zb-v, re-planned", {.workers = D, .micro_batches = N});
    const FoundOrder found = *BestOrder(family, Costs{});
    const Timeline timeline = *Simulate(found.schedule, {.costs = *ToTicks(Costs{}, TickDivisor(found.schedule))});
    EXPECT_LE(MakespanUnits(timeline), makespan) << "D " << D << " N " << N;
    EXPECT_LE(Most(found.schedule), D);
    EXPECT_TRUE(Verify(Complete(found.schedule)).ok());
  }
}

// Any costs, uneven stages, slow links, gradient synchronisation, any limit: what the planner gives out is proven to run to its end with
// one credit per channel and with one queue per pair, keeps the limit, and is what was promised.
TEST(PlanTest, EveryOrderRunsAndKeepsItsLimit) {
  constexpr std::uint32_t kSeed = 77;
  std::mt19937 random(kSeed);
  const auto pick = [&](int low, int high) { return low + static_cast<int>(random() % static_cast<std::uint32_t>(high - low + 1)); };
  for (int i = 0; i < 80; ++i) {
    GenerateOptions options{.workers = pick(1, 9), .micro_batches = pick(1, 20)};
    const auto stage = [&] {
      StageCosts costs;
      costs.forward = {pick(1, 9), 1};
      costs.input = {pick(1, 9), 1};
      costs.weight = {pick(0, 9), 1};
      costs.backward = {costs.input.numerator + costs.weight.numerator, 1};
      return costs;
    };
    static_cast<StageCosts&>(options.costs) = stage();
    for (int s = 0; i % 2 == 0 && s < options.workers; ++s) options.costs.stages.push_back(stage());
    if (i % 3 != 0) options.costs.latency = {pick(0, 12), 2};
    if (i % 5 == 0) options.costs.transmit = {pick(0, 3), 1};
    if (i % 4 == 0) options.costs.sync = {pick(0, 20), 1};
    if (i % 3 == 1) options.max_activations = pick(1, options.workers + 3);
    SCOPED_TRACE(absl::StrCat("seed ", kSeed, " case ", i, ": D ", options.workers, " N ", options.micro_batches, " limit ",
                              options.max_activations));
    for (const NamedFamily& named : Families()) {
      const StatusOr<OrderFamily> family = named.make(options);
      if (!family.ok()) continue;  // odd D, or too little memory
      const StatusOr<FoundOrder> found = BestOrder(*family, options.costs);
      ASSERT_TRUE(found.ok()) << named.name << found.status();
      const Status status = Verify(Complete(found->schedule));
      ASSERT_TRUE(status.ok()) << named.name << " " << found->how << " " << status;
      if (options.max_activations > 0) {
        EXPECT_LE(Most(found->schedule), options.max_activations) << named.name << " " << found->how;
      }
    }
    if (const StatusOr<Schedule> halving = ChimeraHalving(options); halving.ok() && options.max_activations > 0) {
      EXPECT_LE(Most(*halving), options.max_activations);
    }
    const StatusOr<Plan> plan = PlanSchedule(options);
    ASSERT_TRUE(plan.ok() || options.max_activations > 0) << plan.status();
    if (!plan.ok()) continue;
    ASSERT_TRUE(Verify(Complete(plan->schedule)).ok());
    if (options.max_activations > 0) {
      EXPECT_LE(Most(plan->schedule), options.max_activations);
    }
    for (const PlanCandidate& candidate : plan->candidates) {
      EXPECT_THAT(candidate.refused, testing::Not(HasSubstr("deadlock"))) << candidate.name;
      if (candidate.refused.empty()) {
        EXPECT_GE(candidate.makespan * 1.0001, plan->candidates.front().makespan) << candidate.name;
      }
    }
  }
}

// Each worker full of the other direction's forwards: why quotas are static.
TEST(ListScheduleTest, ASharedCapDeadlocksWhereStaticQuotasDoNot) {
  const OrderFamily family = *ChimeraContinuousFamily({.workers = 8, .micro_batches = 16});
  ListOptions options{.quotas = SharedCap(family.empty.shape, 8).quotas, .worker_cap = 8};
  options.costs.ticks_per_unit = 10, options.costs.forward = 10, options.costs.backward = 20;
  EXPECT_TRUE(ListSchedule(family.empty, options).has_value());
  options.costs.latency = 3;
  EXPECT_FALSE(ListSchedule(family.empty, options).has_value());
  options.quotas = family.bounds.front().quotas;
  options.worker_cap = 0;
  EXPECT_TRUE(ListSchedule(family.empty, options).has_value());
}

// Random quotas, credits and groups, on Chimera's placements and on a V: no static quotas deadlock, whatever the costs, and with credits
// the order needs no more of them than it was made with.
TEST(ListScheduleTest, AnyStaticQuotasRunWithTheirCredits) {
  constexpr std::uint32_t kSeed = 5;
  std::mt19937 random(kSeed);
  const auto pick = [&](int low, int high) { return low + static_cast<int>(random() % static_cast<std::uint32_t>(high - low + 1)); };
  for (int i = 0; i < 500; ++i) {
    const GenerateOptions sizes{.workers = 2 * pick(1, 5), .micro_batches = pick(1, 20)};
    const bool v = pick(0, 1) == 1;
    ListOptions options{.split = pick(0, 1) == 1, .credits = pick(1, 3), .key = static_cast<KeyRule>(pick(0, 2)), .patience = pick(0, 4)};
    options.forward_group = pick(1, options.credits);
    const OrderFamily family = v ? *VHalfFamily(sizes) : *ChimeraZbFamily(sizes);
    options.quotas = family.bounds.front().quotas;
    for (auto& quotas : options.quotas) {
      for (int& quota : quotas) quota = options.forward_group + pick(0, sizes.workers);
    }
    const auto costs = [&] { return StageTicks{2 * pick(1, 9), 2 * pick(1, 9), 2 * pick(0, 9), 2 * pick(0, 9)}; };
    for (int stage = 0; stage < family.empty.shape.stages; ++stage) options.costs.stages.push_back(costs());
    options.costs.latency = pick(0, 20);
    options.costs.transmit = pick(0, 3);
    const std::optional<Schedule> schedule = ListSchedule(family.empty, options);
    ASSERT_TRUE(schedule.has_value());
    const Status status = Verify(Complete(*schedule), {.credits = options.credits});
    ASSERT_TRUE(status.ok()) << "seed " << kSeed << " case " << i << ": " << status;
  }
}

TEST(PlanTest, SaysWhyNotAndWhy) {
  GenerateOptions options{.workers = 8, .micro_batches = 20};
  options.max_activations = 8;
  const Plan plan = *PlanSchedule(options);
  EXPECT_THAT(Find(plan, "interleaved").refused, HasSubstr("a multiple of D = 8"));
  EXPECT_THAT(Find(plan, "dualpipe").refused, HasSubstr("keeps 9 activations, the limit is 8"));
  EXPECT_THAT(Find(plan, "gpipe").refused, HasSubstr("keeps 20 activations, the limit is 8"));
  EXPECT_THAT(plan.why, StartsWith(absl::StrCat(plan.candidates.front().name, " wins: makespan ")));
  const std::string table = PlanTable(plan);
  EXPECT_THAT(table, HasSubstr("cannot run: keeps 9 activations, the limit is 8"));
  EXPECT_THAT(table, testing::EndsWith(plan.why + "\n"));
  const nlohmann::json json = nlohmann::json::parse(PlanJson(plan));
  EXPECT_EQ(json["candidates"].size(), plan.candidates.size());
  EXPECT_EQ(json["candidates"][0]["name"], plan.candidates.front().name);

  options.max_activations = 0;
  options.workers = 7;
  EXPECT_THAT(Find(*PlanSchedule(options), "chimera-zb").refused, HasSubstr("even number of stages, got 7"));
  EXPECT_EQ(Generate("auto", options)->name, PlanSchedule(options)->schedule.name);
}

// Two copies of the weights: two sets to synchronise on every worker. Where that is dear, one copy wins.
TEST(PlanTest, DearSynchronisationTurnsTheChoice) {
  GenerateOptions options{.workers = 4, .micro_batches = 4, .costs = CostsOf("F=1,I=1,W=1", "0.3")};
  EXPECT_EQ(PlanSchedule(options)->candidates.front().copies, 2);
  options.costs.sync = {20, 1};
  EXPECT_EQ(PlanSchedule(options)->candidates.front().copies, 1);
}

TEST(PlanTest, NothingFitsIsAnErrorWithEveryReason) {
  const StatusOr<Plan> plan = PlanSchedule({.workers = 4, .micro_batches = 8, .pipes = 3});
  EXPECT_EQ(plan.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(plan.status().message()), testing::AllOf(HasSubstr("1f1b has one pipe, not 3"), HasSubstr("2f pipes")));
}

// A caller may know costs by the schedule's shape, and reasons of its own.
TEST(PlanTest, RulesOfTheCallerAreAsked) {
  const GenerateOptions options{.workers = 4, .micro_batches = 8, .costs = CostsOf("F=1,I=1,W=1", "0")};
  const PlanRules dear_copies{.costs = [](const ScheduleShape& shape) -> StatusOr<Costs> {
    if (shape.chunks > 1) return InvalidArgument("too few layers");
    return CostsOf(shape.pipes > 1 ? "F=2,I=2,W=2" : "F=1,I=1,W=1", "0");
  }};
  const Plan plan = *PlanSchedule(options, dear_copies);
  EXPECT_EQ(Find(plan, "chimera-zb").makespan, 50);  // twice 3N + D/2 - 1
  EXPECT_EQ(Find(plan, "chimera").makespan, 60);
  EXPECT_EQ(Find(plan, "1f1b").makespan, 33);
  EXPECT_EQ(Find(plan, "zb-v").refused, "too few layers");
  EXPECT_EQ(plan.schedule.shape.pipes, 1);

  const PlanRules no_pipes{
      .accepts = [](const Schedule& schedule) { return schedule.shape.pipes > 1 ? InvalidArgument("one copy only") : OkStatus(); }};
  const Plan single = *PlanSchedule(options, no_pipes);
  EXPECT_EQ(single.candidates.front().name, "zb-v");
  EXPECT_EQ(Find(single, "chimera-zb").refused, "one copy only");
  const PlanRules nothing{.accepts = [](const Schedule&) { return InvalidArgument("not today"); }};
  EXPECT_THAT(std::string(PlanSchedule(options, nothing).status().message()),
              StartsWith("no schedule can run with 4 stages and 8 micro-batches; the first, gpipe: not today\n"));
}

// Costs measured on a schedule with other stages: a stage of two is their sum, two of a stage half of it each.
TEST(PlanTest, CostsOfOtherCutsAreAddedUpOrSplit) {
  const Costs four = *ParseCosts("F=1,B=2;F=2,I=1,W=3;F=3,B=5;F=1/2,B=1");
  const Costs two = *CostsForStages(four, 2);
  ASSERT_EQ(two.stages.size(), 2u);
  EXPECT_EQ(two.stages[0], (StageCosts{.forward = {3, 1}, .backward = {6, 1}, .input = {2, 1}, .weight = {4, 1}}));
  EXPECT_EQ(two.stages[1], (StageCosts{.forward = {7, 2}, .backward = {6, 1}, .input = {3, 1}, .weight = {3, 1}}));
  EXPECT_EQ(CostsForStages(four, 8)->stages[3].forward.value(), 1);
  EXPECT_FALSE(CostsForStages(four, 3).ok());
  EXPECT_FALSE(CostsForStages(four, 6).ok());
}

TEST(PlanTest, MistakenSizesAreRefusedAtOnceAndByName) {
  const auto error = [](std::string_view name, const GenerateOptions& options) {
    return std::string(Generate(name, options).status().message());
  };
  EXPECT_THAT(std::string(PlanSchedule({.workers = 1'000'000, .micro_batches = 8}).status().message()), HasSubstr("stages must be 1 to"));
  EXPECT_THAT(std::string(PlanSchedule({.workers = 4, .micro_batches = 1'000'000}).status().message()), HasSubstr("fewer micro-batches"));
  EXPECT_THAT(error("chimera-halving", {.workers = 3, .micro_batches = 8}), StartsWith("chimera-halving needs an even number"));
  EXPECT_EQ(error("chimera-halving", {.workers = 4, .micro_batches = 8, .max_activations = 1}),
            "chimera-halving keeps at least 2 activations on a worker, the limit is 1");
}

}  // namespace
}  // namespace lycia::schedule
