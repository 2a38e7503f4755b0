// Which order a schedule that is planned by cost takes: the best of the one made at unit costs and of re-planned ones.
//
// An order made for F = I = W is brittle: at a W of F/2 or with slow links another one is better, and no single rule makes the best
// order everywhere. So list scheduling (list_schedule.h) runs with every key rule and patience at the real costs, for each choice of
// quotas; all results are simulated at the real costs, and the fastest is kept.
#ifndef LYCIA_PARALLEL_SCHEDULE_ORDER_SEARCH_H_
#define LYCIA_PARALLEL_SCHEDULE_ORDER_SEARCH_H_

#include <cstdint>
#include <string>
#include <vector>

#include "parallel/schedule/costs.h"
#include "parallel/schedule/generators.h"
#include "parallel/schedule/schedule.h"
#include "runtime/core/status.h"

namespace lycia::schedule {

using Quotas = std::vector<std::vector<int>>;  // [pipe][stage]

// All that a family of orders has in common.
struct OrderFamily {
  Schedule empty;              // name, shape, placement, micro-batches
  bool split = false;          // I and W instead of B
  std::vector<Quotas> quotas;  // the first is the schedule's own; the others are tried when it is re-planned
  int forward_group = 1;
};

struct FoundOrder {
  Schedule schedule;
  std::int64_t makespan = 0;  // ticks of ToTicks(costs, TickDivisor(schedule)), compute and messages
  std::string how;            // "unit costs", or "re-planned: key cost, x = 1/2"
  int tried = 1;              // how many orders
};

// The same quota for stage s on every pipe.
Quotas SameOnEveryPipe(const ScheduleShape& shape, int (*quota)(const ScheduleShape& shape, int stage));

// Cuts every choice of quotas until no worker can keep more than `max_activations` stages' worth (0 = no limit), the largest first.
// InvalidArgument where even one for each of a worker's stages is more.
Status LimitQuotas(OrderFamily& family, int max_activations);

// At default costs (F = I = W = 1, B = 2, free messages) the family's own order; otherwise the best, earlier ones first in a tie.
StatusOr<FoundOrder> BestOrder(const OrderFamily& family, const Costs& costs);

// The families of the named schedules, with options.max_activations kept.
StatusOr<OrderFamily> ChimeraContinuousFamily(const GenerateOptions& options);  // chimera_continuous.cc
StatusOr<OrderFamily> ChimeraZbFamily(const GenerateOptions& options);          // chimera_zb.cc

}  // namespace lycia::schedule

#endif  // LYCIA_PARALLEL_SCHEDULE_ORDER_SEARCH_H_
