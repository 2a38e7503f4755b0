#include "parallel/schedule/order_search.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "parallel/schedule/passes.h"
#include "parallel/schedule/simulate.h"
#include "parallel/schedule/verify.h"

namespace lycia::schedule {
namespace {

constexpr std::pair<KeyRule, const char*> kKeyRules[] = {
    {KeyRule::kSlot, "slot"}, {KeyRule::kBackwardFirst, "backward first"}, {KeyRule::kCost, "cost"}};
constexpr const char* kPatience[] = {"0", "1/4", "1/2", "3/4", "1"};

// For each worker, the quotas of its stages.
std::vector<std::vector<int*>> QuotasOfWorkers(const Schedule& schedule, Quotas& quotas) {
  std::vector<std::vector<int*>> of_worker(schedule.shape.workers);
  for (int pipe = 0; pipe < schedule.shape.pipes; ++pipe) {
    for (int stage = 0; stage < schedule.shape.stages; ++stage) {
      of_worker[schedule.worker_of[pipe][stage]].push_back(&quotas[pipe][stage]);
    }
  }
  return of_worker;
}

int Sum(const std::vector<int*>& quotas) {
  int sum = 0;
  for (const int* quota : quotas) sum += *quota;
  return sum;
}

// Whether costs are those that the schedules' own orders are made for, in any unit.
bool IsUnit(const Costs& costs) {
  const auto ratio = [&](const Fraction& cost, int times) {
    return cost.numerator * costs.forward.denominator == times * costs.forward.numerator * cost.denominator;
  };
  return costs.stages.empty() && costs.latency.numerator == 0 && costs.transmit.numerator == 0 && ratio(costs.backward, 2) &&
         ratio(costs.input, 1) && ratio(costs.weight, 1);
}

}  // namespace

MemoryBound StaticQuotas(std::string name, const ScheduleShape& shape, int (*quota)(const ScheduleShape& shape, int stage)) {
  MemoryBound bound{.name = std::move(name), .quotas = Quotas(shape.pipes)};
  for (auto& of_pipe : bound.quotas) {
    for (int stage = 0; stage < shape.stages; ++stage) of_pipe.push_back(quota(shape, stage));
  }
  return bound;
}

MemoryBound SharedCap(const ScheduleShape& shape, int cap) {
  return {.name = "shared cap", .quotas = Quotas(shape.pipes, std::vector<int>(shape.stages, cap)), .worker_cap = cap};
}

Status LimitMemory(OrderFamily& family, int max_activations) {
  if (max_activations == 0) return OkStatus();
  family.max_activations = max_activations;
  const ScheduleShape& shape = family.empty.shape;
  const int limit = max_activations * shape.chunks;
  int most = 0;  // that a worker may keep within the own bound
  for (const auto& quotas : QuotasOfWorkers(family.empty, family.bounds.front().quotas)) most = std::max(most, Sum(quotas));
  if (limit > most) {
    MemoryBound wider = family.bounds.front();
    wider.name = "wider quotas";
    for (auto& quotas : wider.quotas) {
      for (int& quota : quotas) quota = quota * limit / most / family.forward_group * family.forward_group;
    }
    family.bounds.push_back(std::move(wider));
    family.bounds.push_back(SharedCap(shape, limit));
  }
  for (MemoryBound& bound : family.bounds) {
    for (const auto& quotas : QuotasOfWorkers(family.empty, bound.quotas)) {
      const int least = family.forward_group * static_cast<int>(quotas.size());
      if (least > limit) {
        return InvalidArgument(family.empty.name, " keeps at least ", (least + shape.chunks - 1) / shape.chunks,
                               " activations on a worker, the limit is ", max_activations);
      }
      if (bound.worker_cap > 0) continue;                                      // no quotas of its own
      for (int sum = Sum(quotas); sum > limit; sum -= family.forward_group) {  // all are whole groups
        **std::max_element(quotas.begin(), quotas.end(), [](const int* a, const int* b) { return *a < *b; }) -= family.forward_group;
        family.cut = family.cut || &bound == &family.bounds.front();
      }
    }
    if (bound.worker_cap > limit) bound = SharedCap(shape, limit);
  }
  return OkStatus();
}

StatusOr<Costs> CostsForStages(const Costs& costs, int stages) {
  const int given = static_cast<int>(costs.stages.size());
  if (given == 0 || given == stages) return costs;
  if (stages % given != 0 && given % stages != 0) return InvalidArgument("costs of ", given, " stages are given, it has ", stages);
  Costs split = costs;
  split.stages.clear();
  for (int s = 0; given > stages && s < given; ++s) {
    if (s % (given / stages) == 0) {
      split.stages.push_back(costs.stages[s]);
    } else {
      split.stages.back() = Sum(split.stages.back(), costs.stages[s]);
    }
  }
  if (given > stages) return split;
  for (StageCosts stage : costs.stages) {
    for (Fraction* cost : {&stage.forward, &stage.backward, &stage.input, &stage.weight}) cost->denominator *= stages / given;
    split.stages.insert(split.stages.end(), stages / given, stage);
  }
  return split;
}

StatusOr<FoundOrder> BestOrder(const OrderFamily& family, const Costs& costs) {
  const int divisor = 2 * family.empty.shape.chunks;
  LYCIA_ASSIGN_OR_RETURN(const TickCosts unit, ToTicks(Costs{}, divisor));
  LYCIA_ASSIGN_OR_RETURN(const Costs own, CostsForStages(costs, family.empty.shape.stages));
  LYCIA_ASSIGN_OR_RETURN(TickCosts ticks, ToTicks(own, divisor));
  const bool plain = IsUnit(costs) && family.max_activations == 0;
  FoundOrder best;
  best.tried = 0;
  const auto consider = [&](const ListOptions& options, const std::string& how) -> Status {
    std::optional<Schedule> schedule = ListSchedule(family.empty, options);
    ++best.tried;
    if (!schedule) return OkStatus();
    if (!plain && options.credits == 0 && !Verify(Complete(*schedule)).ok()) return OkStatus();  // nothing else proves it
    LYCIA_ASSIGN_OR_RETURN(const Timeline timeline, Simulate(*schedule, {.costs = ticks}));
    if (!best.how.empty() && timeline.makespan >= best.makespan) return OkStatus();
    best.schedule = *std::move(schedule);
    best.makespan = timeline.makespan;
    best.how = how;
    return OkStatus();
  };

  ListOptions options{.split = family.split, .forward_group = family.forward_group};
  options.quotas = family.bounds.front().quotas;
  options.credits = family.cut ? family.empty.credits : 0;
  options.costs = unit;
  LYCIA_RETURN_IF_ERROR(consider(options, "unit costs"));
  if (plain) return best;
  options.credits = family.empty.credits;
  for (const MemoryBound& bound : family.bounds) {
    options.quotas = bound.quotas;
    options.worker_cap = bound.worker_cap;
    options.costs = unit;
    options.key = KeyRule::kSlot;
    options.patience = 0;
    LYCIA_RETURN_IF_ERROR(consider(options, absl::StrCat("unit costs, ", bound.name)));
    options.costs = ticks;
    for (const auto& [key, name] : kKeyRules) {
      options.key = key;
      for (options.patience = 0; options.patience <= (family.split ? 4 : 0); ++options.patience) {
        const std::string patience = family.split ? absl::StrCat(", x = ", kPatience[options.patience]) : "";
        LYCIA_RETURN_IF_ERROR(consider(options, absl::StrCat("re-planned: ", bound.name, ", key ", name, patience)));
      }
    }
  }
  return best;
}

}  // namespace lycia::schedule
