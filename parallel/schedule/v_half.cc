// V-Half (Qi et al. 2024): half of the memory of ZB-V. Each worker has two half-stages, s and 2D - 1 - s of 2D, so that the one that keeps
// activations longest is with the one that keeps them shortest; the backward is split.
//
//   v-half, 4 workers, 6 micro-batches, 1 pipe (2F3: stage 2)
//   makespan 20.5, bubble 12.2 %, peak activations 3, 1 copy of the weights
//   worker 0 | 0F0 0F1 0F2 0F3 0F4 .   .   7F0 7I0 7W0 7F1 7I1 7W1 .   7F2 7I2 0I0 7W2 0I1 0W0 0F5 0W1 7F3 7I3 7W3 .   0I2 7F4 7I4 7W4 0W2 7F5 7I5 0I3 7W5 0I4 0W3 0W4 .   0I5 0W5
//   worker 1 | .   1F0 1F1 1F2 1F3 .   6F0 .   6F1 6I0 6W0 .   6I1 6F2 6W1 1I0 6I2 1I1 6W2 1W0 1F4 6F3 1W1 1F5 6I3 1I2 6F4 6W3 1W2 6I4 6F5 6W4 1I3 6I5 1I4 6W5 1W3 1W4 1I5 1W5 .
//   worker 2 | .   .   2F0 2F1 2F2 5F0 2F3 5F1 .   .   5I0 5W0 5F2 5I1 2I0 5W1 2I1 5I2 2W0 5F3 5W2 2F4 2I2 2W1 2F5 5F4 5I3 5W3 2W2 5F5 5I4 2I3 5W4 2I4 5I5 2W3 5W5 2I5 2W4 2W5 .
//   worker 3 | .   .   .   3F0 4F0 3F1 4F1 3F2 4F2 .   .   4I0 3I0 4W0 4I1 3I1 3W0 3F3 4F3 4I2 3I2 4W1 3W1 3F4 4F4 4W2 3W2 3F5 4F5 4I3 3I3 4I4 3I4 4W3 3W3 4I5 3I5 4W4 3W4 4W5 3W5
//
// List scheduling (list_schedule.h) with quotas
//   q(s) = floor((2D - s) / 2) + 1 for even D,    ceil((2D - s) / 2) for odd D,
// of half-stages' activations, which are floor((D + 2) / 2) whole stages' on every worker. (ZB-V keeps up to D.)
//
// Makespan           at most 3N + 3 (D - 1) / 2 at F = I = W = 1 for N >= D: half of 1F1B's idle time, 3 (D - 1), or less.
// Peak activations   at most floor((D + 2) / 2); weights 1 copy.
#include <utility>

#include "parallel/schedule/generators.h"
#include "parallel/schedule/order_search.h"
#include "parallel/schedule/placement.h"

namespace lycia::schedule {

StatusOr<OrderFamily> VHalfFamily(const GenerateOptions& options) {
  LYCIA_RETURN_IF_ERROR(CheckFixed("v-half", options, {.chunks = 2}));
  OrderFamily family;
  family.split = true;
  family.empty = WavePipe("v-half", options);
  const ScheduleShape& shape = family.empty.shape;
  const auto quota = [](const ScheduleShape& shape, int stage) {
    return shape.workers % 2 == 0 ? (shape.stages - stage) / 2 + 1 : (shape.stages - stage + 1) / 2;
  };
  family.bounds = {StaticQuotas("own quotas", shape, quota), SharedCap(shape, (shape.workers + 2) / 2 * 2)};
  LYCIA_RETURN_IF_ERROR(LimitMemory(family, options.max_activations));
  return family;
}

StatusOr<Schedule> VHalf(const GenerateOptions& options) {
  LYCIA_ASSIGN_OR_RETURN(const OrderFamily family, VHalfFamily(options));
  LYCIA_ASSIGN_OR_RETURN(FoundOrder found, BestOrder(family, options.costs));
  return std::move(found.schedule);
}

}  // namespace lycia::schedule
