// Chimera-ZB: Chimera's two directions with the backward split, so that weight gradients fill what bubbles are left (after Zero Bubble,
// Qi et al. 2023).
//
//   chimera-zb, 4 workers, 4 micro-batches, 2 pipes (up in small letters)
//   makespan 13, bubble 7.7 %, peak activations 3 to 4, 2 copies of the weights
//   worker 0 | F0 F1 .  f2 i2 w2 f3 i3 I0 w3 I1 W0 W1
//   worker 1 | .  F0 f2 F1 f3 i2 I0 w2 i3 I1 W0 w3 W1
//   worker 2 | .  f2 F0 f3 F1 I0 i2 W0 I1 i3 w2 W1 w3
//   worker 3 | f2 f3 .  F0 I0 W0 F1 I1 i2 W1 i3 w2 w3
//
// List scheduling (list_schedule.h) by Chimera's slot numbers, with quotas q(s) = min(D/2f, D - s). Weight gradients run when nothing
// else can; an activation is kept until its weight gradient is done.
//
// With K = N / D whole:   makespan 3N + D/2f - 1 at F = I = W = 1, which is the optimum: the middle workers cannot start before
//                         D/2f - 1, and have 3N of work.
// N < D or between:       the same order with some more idle time; D = 8: 12, 9, 5 at N = 9, 10, 15.
// Peak activations        D/2 + 1 on the outer workers to D on the middle ones (f = 1), at most N; weights 2f copies.
#include <algorithm>
#include <utility>

#include "parallel/schedule/bidirectional.h"
#include "parallel/schedule/generators.h"
#include "parallel/schedule/order_search.h"

namespace lycia::schedule {

StatusOr<OrderFamily> ChimeraZbFamily(const GenerateOptions& options) {
  OrderFamily family;
  family.split = true;
  LYCIA_ASSIGN_OR_RETURN(family.empty, Bidirectional("chimera-zb", options));
  const ScheduleShape& shape = family.empty.shape;
  family.bounds.push_back(StaticQuotas("own quotas", shape, [](const ScheduleShape& shape, int stage) {
    return std::min(shape.stages / shape.pipes, shape.stages - stage);
  }));
  if (shape.pipes == 2) {
    family.bounds.push_back(StaticQuotas("chimera-continuous's quotas", shape, [](const ScheduleShape& shape, int stage) {
      const int D = shape.stages;
      return stage < D / 2 ? D - 1 - stage : D - stage;
    }));
  }
  family.bounds.push_back(SharedCap(shape, shape.stages));
  LYCIA_RETURN_IF_ERROR(LimitMemory(family, options.max_activations));
  return family;
}

StatusOr<Schedule> ChimeraZb(const GenerateOptions& options) {
  LYCIA_ASSIGN_OR_RETURN(const OrderFamily family, ChimeraZbFamily(options));
  LYCIA_ASSIGN_OR_RETURN(FoundOrder found, BestOrder(family, options.costs));
  return std::move(found.schedule);
}

}  // namespace lycia::schedule
