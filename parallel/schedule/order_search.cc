#include "parallel/schedule/order_search.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "parallel/schedule/list_schedule.h"
#include "parallel/schedule/simulate.h"

namespace lycia::schedule {
namespace {

constexpr std::pair<KeyRule, const char*> kKeyRules[] = {
    {KeyRule::kSlot, "slot"}, {KeyRule::kBackwardFirst, "backward first"}, {KeyRule::kCost, "cost"}};
constexpr const char* kPatience[] = {"0", "1/4", "1/2", "3/4", "1"};

ListOptions ListOptionsOf(const OrderFamily& family, const Quotas& quotas, TickCosts costs) {
  return {.split = family.split, .quotas = quotas, .costs = std::move(costs), .forward_group = family.forward_group};
}

}  // namespace

Quotas SameOnEveryPipe(const ScheduleShape& shape, int (*quota)(const ScheduleShape& shape, int stage)) {
  std::vector<int> of_stage;
  for (int stage = 0; stage < shape.stages; ++stage) of_stage.push_back(quota(shape, stage));
  return Quotas(shape.pipes, of_stage);
}

Status LimitQuotas(OrderFamily& family, int max_activations) {
  if (max_activations == 0) return OkStatus();
  const ScheduleShape& shape = family.empty.shape;
  const int limit = max_activations * shape.chunks;
  for (Quotas& quotas : family.quotas) {
    std::vector<std::vector<int*>> of_worker(shape.workers);
    for (int pipe = 0; pipe < shape.pipes; ++pipe) {
      for (int stage = 0; stage < shape.stages; ++stage) of_worker[family.empty.worker_of[pipe][stage]].push_back(&quotas[pipe][stage]);
    }
    for (auto& own : of_worker) {
      int sum = 0;
      for (const int* quota : own) sum += *quota;
      for (; sum > limit; sum -= family.forward_group) {
        int& largest = **std::max_element(own.begin(), own.end(), [](const int* a, const int* b) { return *a < *b; });
        if (largest <= family.forward_group) {
          return InvalidArgument(family.empty.name, " keeps at least ", family.forward_group * own.size(),
                                 " stages' activations on a worker, the limit is ", limit);
        }
        largest -= family.forward_group;
      }
    }
  }
  return OkStatus();
}

StatusOr<FoundOrder> BestOrder(const OrderFamily& family, const Costs& costs) {
  LYCIA_ASSIGN_OR_RETURN(const TickCosts unit, ToTicks(Costs{}, 2 * family.empty.shape.chunks));
  LYCIA_ASSIGN_OR_RETURN(const TickCosts ticks, ToTicks(costs, 2 * family.empty.shape.chunks));
  FoundOrder best;
  best.schedule = ListSchedule(family.empty, ListOptionsOf(family, family.quotas.front(), unit));
  best.how = "unit costs";
  LYCIA_ASSIGN_OR_RETURN(const Timeline timeline, Simulate(best.schedule, {.costs = ticks}));
  best.makespan = timeline.makespan;
  if (costs == Costs{}) return best;
  for (const Quotas& quotas : family.quotas) {
    for (const auto& [key, key_name] : kKeyRules) {
      for (int patience = 0; patience <= (family.split ? 4 : 0); ++patience) {
        ListOptions options = ListOptionsOf(family, quotas, ticks);
        options.key = key;
        options.patience = patience;
        Schedule schedule = ListSchedule(family.empty, options);
        LYCIA_ASSIGN_OR_RETURN(const Timeline replanned, Simulate(schedule, {.costs = ticks}));
        ++best.tried;
        if (replanned.makespan >= best.makespan) continue;
        best.schedule = std::move(schedule);
        best.makespan = replanned.makespan;
        best.how = absl::StrCat("re-planned: key ", key_name, family.split ? absl::StrCat(", x = ", kPatience[patience]) : "");
      }
    }
  }
  return best;
}

}  // namespace lycia::schedule
