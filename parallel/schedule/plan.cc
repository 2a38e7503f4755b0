#include "parallel/schedule/plan.h"

#include <algorithm>
#include <string_view>
#include <tuple>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "parallel/schedule/order_search.h"
#include "parallel/schedule/passes.h"
#include "parallel/schedule/simulate.h"
#include "parallel/schedule/verify.h"

namespace lycia::schedule {
namespace {

constexpr std::string_view kAuto = "auto";

struct Tried {
  PlanCandidate candidate;
  Schedule schedule;
};

StatusOr<Costs> CostsFor(const ScheduleShape& shape, const GenerateOptions& options, const PlanRules& rules) {
  if (rules.costs == nullptr) return CostsForStages(options.costs, shape.stages);
  LYCIA_ASSIGN_OR_RETURN(const Costs costs, rules.costs(shape));
  return CostsForStages(costs, shape.stages);
}

// Simulates a candidate, or fails with the reason to refuse it.
Status Measure(const GenerateOptions& options, const PlanRules& rules, Tried& tried) {
  PlanCandidate& candidate = tried.candidate;
  if (rules.accepts != nullptr) LYCIA_RETURN_IF_ERROR(rules.accepts(tried.schedule));
  const std::vector<double> peaks = PeakActivations(tried.schedule);
  const auto [least, most] = std::minmax_element(peaks.begin(), peaks.end());
  candidate.least_activations = *least;
  candidate.most_activations = *most;
  if (options.max_activations > 0 && *most > options.max_activations) {
    return InvalidArgument("keeps ", *most, " activations, the limit is ", options.max_activations);
  }
  candidate.copies = WeightsCopies(tried.schedule);
  LYCIA_ASSIGN_OR_RETURN(const Costs costs, CostsFor(tried.schedule.shape, options, rules));
  LYCIA_ASSIGN_OR_RETURN(const TickCosts ticks, ToTicks(costs, TickDivisor(tried.schedule)));
  const bool whole_step = costs.sync.numerator > 0 || costs.update.numerator > 0;
  LYCIA_ASSIGN_OR_RETURN(const Timeline timeline, Simulate(whole_step ? Complete(tried.schedule) : tried.schedule, {.costs = ticks}));
  candidate.makespan = MakespanUnits(timeline);
  candidate.bubble = BubbleRatio(timeline);
  return OkStatus();
}

Status TryFamily(const NamedFamily& named, const GenerateOptions& options, const PlanRules& rules, Tried& tried) {
  LYCIA_ASSIGN_OR_RETURN(const OrderFamily family, named.make(options));
  LYCIA_ASSIGN_OR_RETURN(const Costs costs, CostsFor(family.empty.shape, options, rules));
  LYCIA_ASSIGN_OR_RETURN(FoundOrder found, BestOrder(family, costs));
  tried.candidate.how = found.how;
  tried.candidate.tried = found.tried;
  tried.schedule = std::move(found.schedule);
  return Measure(options, rules, tried);
}

Status TryGenerator(const Generator& generator, const GenerateOptions& options, const PlanRules& rules, Tried& tried) {
  const bool by_cost = generator.generate == ChimeraHalving;
  LYCIA_ASSIGN_OR_RETURN(tried.schedule, Generate(generator.name, options));
  if (by_cost && rules.costs != nullptr) {
    GenerateOptions at_costs = options;
    LYCIA_ASSIGN_OR_RETURN(at_costs.costs, CostsFor(tried.schedule.shape, options, rules));
    LYCIA_ASSIGN_OR_RETURN(tried.schedule, Generate(generator.name, at_costs));
  }
  tried.candidate.how = by_cost ? "by cost" : "fixed";
  return Measure(options, rules, tried);
}

bool IsFamily(std::string_view name) {
  return std::any_of(Families().begin(), Families().end(), [&](const NamedFamily& family) { return family.name == name; });
}

// Makespans are sums of the same few costs, so equal ones are equal but for rounding.
auto Rank(const PlanCandidate& c) { return std::tuple(!c.refused.empty(), static_cast<float>(c.makespan), c.copies, c.most_activations); }

std::string Why(const std::vector<PlanCandidate>& candidates) {
  const PlanCandidate& winner = candidates.front();
  std::string why = absl::StrFormat("%s wins: makespan %g, bubble %.1f %%", winner.name, winner.makespan, 100 * winner.bubble);
  if (candidates.size() == 1 || !candidates[1].refused.empty()) return why + "; nothing else can run here";
  const PlanCandidate& next = candidates[1];
  const double percent = 100 * (next.makespan / winner.makespan - 1);
  if (Rank(next) == Rank(winner)) return absl::StrCat(why, ", as ", next.name, " in everything");
  if (static_cast<float>(next.makespan) > static_cast<float>(winner.makespan)) {
    return absl::StrFormat("%s; the next, %s, takes %.1f %% longer", why, next.name, percent);
  }
  if (next.copies > winner.copies) {
    return absl::StrFormat("%s; %s takes as long with %g copies of the weights instead of %g", why, next.name, next.copies, winner.copies);
  }
  return absl::StrFormat("%s; %s takes as long and keeps %g activations instead of %g", why, next.name, next.most_activations,
                         winner.most_activations);
}

}  // namespace

StatusOr<Plan> PlanSchedule(const GenerateOptions& options, const PlanRules& rules) {
  LYCIA_RETURN_IF_ERROR(CheckSizes(kAuto, options, {.chunks = 2, .instructions = 4}));
  std::vector<Tried> all;
  const auto attempt = [&](std::string name, const auto& way) {
    Tried tried;
    tried.candidate.name = std::move(name);
    Status status = way(tried);
    if (status.ok()) status = Verify(Complete(tried.schedule));
    if (!status.ok()) tried.candidate.refused = std::string(status.message());
    all.push_back(std::move(tried));
  };
  for (const Generator& generator : Generators()) {
    if (generator.name == kAuto || IsFamily(generator.name)) continue;
    attempt(generator.name, [&](Tried& tried) { return TryGenerator(generator, options, rules, tried); });
  }
  for (const NamedFamily& family : Families()) attempt(family.name, [&](Tried& tried) { return TryFamily(family, options, rules, tried); });
  std::stable_sort(all.begin(), all.end(), [](const Tried& a, const Tried& b) { return Rank(a.candidate) < Rank(b.candidate); });

  Plan plan;
  for (const Tried& tried : all) plan.candidates.push_back(tried.candidate);
  if (!plan.candidates.front().refused.empty()) {
    const std::string& reason = plan.candidates.front().refused;
    return InvalidArgument("no schedule can run with ", options.workers, " stages and ", options.micro_batches,
                           " micro-batches; the first, ", plan.candidates.front().name, ": ", reason.substr(0, reason.find('\n')), "\n",
                           PlanTable(plan));
  }
  plan.schedule = std::move(all.front().schedule);
  plan.why = Why(plan.candidates);
  return plan;
}

StatusOr<Schedule> Auto(const GenerateOptions& options) {
  LYCIA_ASSIGN_OR_RETURN(Plan plan, PlanSchedule(options));
  return std::move(plan.schedule);
}

}  // namespace lycia::schedule
