// Which order a schedule that is planned by cost takes: its own, made at unit costs, or a re-planned one that is faster.
//
// An order made for F = I = W is brittle: with a W of F/2, uneven stages or slow links another one is better, and no single rule makes
// the best everywhere. So list scheduling (list_schedule.h) runs within each of several bounds on memory, with every key rule and
// patience, at the real costs and at unit costs; all orders are simulated at the real costs, and the fastest is kept.
#ifndef LYCIA_PARALLEL_SCHEDULE_ORDER_SEARCH_H_
#define LYCIA_PARALLEL_SCHEDULE_ORDER_SEARCH_H_

#include <cstdint>
#include <string>
#include <vector>

#include "parallel/schedule/costs.h"
#include "parallel/schedule/generators.h"
#include "parallel/schedule/list_schedule.h"
#include "parallel/schedule/schedule.h"
#include "runtime/core/status.h"

namespace lycia::schedule {

// A bound on what workers keep.
struct MemoryBound {
  std::string name;
  Quotas quotas;
  int worker_cap = 0;
};

// All that a family of orders has in common.
struct OrderFamily {
  Schedule empty;  // name, shape, placement, micro-batches
  bool split = false;
  int forward_group = 1;
  std::vector<MemoryBound> bounds;  // the first is the schedule's own
  int max_activations = 0;          // LimitMemory's; 0 = none
  bool cut = false;                 // it made the own bound smaller
};

struct FoundOrder {
  Schedule schedule;
  std::int64_t makespan = 0;  // in ticks of ToTicks(costs, TickDivisor(schedule)): compute and messages
  std::string how;            // "unit costs", or "re-planned: own quotas, key cost, x = 1/2"
  int tried = 1;              // how many orders
};

// quota(s) for stage s on every pipe.
MemoryBound StaticQuotas(std::string name, const ScheduleShape& shape, int (*quota)(const ScheduleShape& shape, int stage));
// One cap for all of a worker's stages together.
MemoryBound SharedCap(const ScheduleShape& shape, int cap);

// Fits the bounds to a limit of so many whole stages' activations on a worker (0 = none): the largest quotas are cut first. Where the
// limit is more than the schedule's own bound, a further bound uses it. InvalidArgument where the limit is too low for any order.
Status LimitMemory(OrderFamily& family, int max_activations);

// Costs for a model cut into `stages` stages: as they are where they are the same for all stages or given for as many; a stage given
// for several is split evenly, several given for one are added up. InvalidArgument where the numbers of stages do not divide.
StatusOr<Costs> CostsForStages(const Costs& costs, int stages);

// The schedule's own order where messages are free and F : B : I : W = 1 : 2 : 1 : 1; otherwise the best, the earlier in a tie.
StatusOr<FoundOrder> BestOrder(const OrderFamily& family, const Costs& costs);

// A schedule that is planned by cost, or a placement that is so planned where its schedule's own order is a fixed one ("zb-v, re-planned").
// `make` keeps options.max_activations.
struct NamedFamily {
  const char* name;
  StatusOr<OrderFamily> (*make)(const GenerateOptions& options);
};
const std::vector<NamedFamily>& Families();  // families.cc

StatusOr<OrderFamily> ChimeraContinuousFamily(const GenerateOptions& options);  // chimera_continuous.cc
StatusOr<OrderFamily> ChimeraDoublingFamily(const GenerateOptions& options);    // chimera_doubling.cc
// The same under another name, for halves (chimera_halving.cc).
StatusOr<OrderFamily> DoublingFamily(const char* name, const GenerateOptions& options);
StatusOr<OrderFamily> ChimeraZbFamily(const GenerateOptions& options);  // chimera_zb.cc
StatusOr<OrderFamily> VHalfFamily(const GenerateOptions& options);      // v_half.cc

}  // namespace lycia::schedule

#endif  // LYCIA_PARALLEL_SCHEDULE_ORDER_SEARCH_H_
