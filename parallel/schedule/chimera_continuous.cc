// Chimera-continuous: Chimera's two pipelines without the bubbles between its units of D micro-batches.
//
//   chimera-continuous, 4 workers, 8 micro-batches, 2 pipes (up in small letters)
//   makespan 28, bubble 14.3 %, peak activations 4, 2 copies of the weights
//   worker 0 | F0 F1 F4 f2 b2--- f3 b3--- .  B0--- F5 f6 b6--- B1--- f7 b7--- .  B4--- .  .  B5---
//   worker 1 | .  F0 f2 F1 f3 .  b2--- B0--- F4 f6 b3--- B1--- F5 f7 b6--- B4--- b7--- B5--- .  .
//   worker 2 | .  f2 F0 f3 F1 .  B0--- b2--- f6 F4 B1--- b3--- f7 F5 B4--- b6--- B5--- b7--- .  .
//   worker 3 | f2 f3 f6 F0 B0--- F1 B1--- .  b2--- f7 F4 B4--- b3--- F5 B5--- .  b6--- .  .  b7---
//
// List scheduling (list_schedule.h) by Chimera's slot numbers, with quotas
//   q(s) = D - 1 - s for s < D/2,    q(s) = D - s otherwise,
// so that a worker's two stages, s and D - 1 - s, together keep at most D activations. (Quotas min(D/2, D - s) give direct concatenation
// back: its bubbles are a shortage of credit, not of work.)
//
// With K = N / D whole:   makespan 3N + 2D - 4 at F = 1, B = 2; at K = 1 it is Chimera's.
// N < D, N even:          3D + 2N - 4; an odd N takes as long as N + 1.
// Peak activations        D; weights 2 copies.
#include <algorithm>
#include <utility>

#include "parallel/schedule/bidirectional.h"
#include "parallel/schedule/generators.h"
#include "parallel/schedule/order_search.h"

namespace lycia::schedule {

StatusOr<OrderFamily> ChimeraContinuousFamily(const GenerateOptions& options) {
  LYCIA_RETURN_IF_ERROR(CheckFixed("chimera-continuous", options, {.pipes = 2}));
  OrderFamily family;
  LYCIA_ASSIGN_OR_RETURN(family.empty, Bidirectional("chimera-continuous", options));
  const ScheduleShape& shape = family.empty.shape;
  family.bounds = {StaticQuotas("own quotas", shape,
                                [](const ScheduleShape& shape, int stage) {
                                  const int D = shape.stages;
                                  return stage < D / 2 ? D - 1 - stage : D - stage;
                                }),
                   StaticQuotas("chimera's quotas", shape,
                                [](const ScheduleShape& shape, int stage) { return std::min(shape.stages / 2, shape.stages - stage); }),
                   SharedCap(shape, shape.stages)};
  LYCIA_RETURN_IF_ERROR(LimitMemory(family, options.max_activations));
  return family;
}

StatusOr<Schedule> ChimeraContinuous(const GenerateOptions& options) {
  LYCIA_ASSIGN_OR_RETURN(const OrderFamily family, ChimeraContinuousFamily(options));
  LYCIA_ASSIGN_OR_RETURN(FoundOrder found, BestOrder(family, options.costs));
  return std::move(found.schedule);
}

}  // namespace lycia::schedule
