// Chimera with forward doubling (Li & Hoefler 2021, sec. 3.5): each forward takes two micro-batches, so that it is as long as a backward
// of B = 2F and leaves no bubbles between the units of D micro-batches.
//
//   chimera-doubling, 4 workers, 8 micro-batches, 2 pipes (up in small letters)
//   makespan 27, bubble 11.1 %, peak activations 6 to 8, 2 copies of the weights
//   worker 0 | F0 F1 F4 F5 f2 f3 b2--- b3--- f6 f7 b6--- B0--- b7--- B1--- .  B4--- .  .  B5---
//   worker 1 | .  F0 F1 f2 f3 F4 F5 f6 f7 b2--- B0--- b3--- B1--- b6--- B4--- b7--- B5--- .  .
//   worker 2 | .  f2 f3 F0 F1 f6 f7 F4 F5 B0--- b2--- B1--- b3--- B4--- b6--- B5--- b7--- .  .
//   worker 3 | f2 f3 f6 f7 F0 F1 B0--- B1--- F4 F5 B4--- b2--- B5--- b3--- .  b6--- .  .  b7---
//
// List scheduling (list_schedule.h) by Chimera's slot numbers with forwards in pairs, and Chimera-continuous's quotas doubled:
//   q(s) = 2 (D - 1 - s) for s < D/2,    q(s) = 2 (D - s) otherwise.
// The first forward of a pair sends its result at once, which removes half of the bubbles at the start.
//
// With K = N / D >= 2 whole:  makespan (N + D/2 - 1)(F + B) for B from F to 5/2 F.
// Peak activations            at most 2D: where that is too much, it runs with recompute, as B + F.
// Both messages of a pair are under way at once, on both directions of a link: it needs two credits per channel.
#include <algorithm>
#include <utility>

#include "parallel/schedule/bidirectional.h"
#include "parallel/schedule/generators.h"
#include "parallel/schedule/order_search.h"

namespace lycia::schedule {

StatusOr<OrderFamily> ChimeraDoublingFamily(const GenerateOptions& options) { return DoublingFamily("chimera-doubling", options); }

StatusOr<OrderFamily> DoublingFamily(const char* name, const GenerateOptions& options) {
  LYCIA_RETURN_IF_ERROR(CheckFixed(name, options, {.pipes = 2}));
  OrderFamily family;
  family.forward_group = 2;
  LYCIA_ASSIGN_OR_RETURN(family.empty, Bidirectional(name, options));
  family.empty.credits = 2;
  const ScheduleShape& shape = family.empty.shape;
  family.bounds = {StaticQuotas("own quotas", shape,
                                [](const ScheduleShape& shape, int stage) {
                                  const int D = shape.stages;
                                  return stage < D / 2 ? 2 * (D - 1 - stage) : 2 * (D - stage);
                                }),
                   StaticQuotas("chimera's quotas, doubled", shape,
                                [](const ScheduleShape& shape, int stage) { return 2 * std::min(shape.stages / 2, shape.stages - stage); }),
                   SharedCap(shape, 2 * shape.stages)};
  LYCIA_RETURN_IF_ERROR(LimitMemory(family, options.max_activations));
  return family;
}

StatusOr<Schedule> ChimeraDoubling(const GenerateOptions& options) {
  LYCIA_ASSIGN_OR_RETURN(const OrderFamily family, ChimeraDoublingFamily(options));
  LYCIA_ASSIGN_OR_RETURN(FoundOrder found, BestOrder(family, options.costs));
  return std::move(found.schedule);
}

}  // namespace lycia::schedule
