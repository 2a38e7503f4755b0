// All families of orders that are planned by cost (order_search.h): those of the named schedules, and the placements of 1F1B, ZB-H1 and
// ZB-V, whose named schedules have a fixed order.
#include <algorithm>

#include "parallel/schedule/order_search.h"
#include "parallel/schedule/placement.h"

namespace lycia::schedule {
namespace {

// One pipe, a stage per worker; 1F1B's memory, D - s.
OrderFamily OnePipeFamily(std::string name, bool split, const GenerateOptions& options) {
  OrderFamily family;
  family.empty = OnePipe(std::move(name), options);
  family.split = split;
  family.bounds = {
      StaticQuotas("own quotas", family.empty.shape, [](const ScheduleShape& shape, int stage) { return shape.stages - stage; }),
      SharedCap(family.empty.shape, family.empty.shape.stages)};
  return family;
}

StatusOr<OrderFamily> OneFOneBFamily(const GenerateOptions& options) {
  LYCIA_RETURN_IF_ERROR(CheckFixed("1f1b", options));
  OrderFamily family = OnePipeFamily("1f1b", /*split=*/false, options);
  LYCIA_RETURN_IF_ERROR(LimitMemory(family, options.max_activations));
  return family;
}

StatusOr<OrderFamily> ZbH1Family(const GenerateOptions& options) {
  LYCIA_RETURN_IF_ERROR(CheckFixed("zb-h1", options));
  OrderFamily family = OnePipeFamily("zb-h1", /*split=*/true, options);
  LYCIA_RETURN_IF_ERROR(LimitMemory(family, options.max_activations));
  return family;
}

// The V of 2D half stages. Quotas min(D, 2D - s) make 3N + (D - 1)/2 at F = I = W = 1, for N >= D, with D activations: the optimum, since
// the worker at the turn cannot start before (D - 1)/2.
StatusOr<OrderFamily> ZbVFamily(const GenerateOptions& options) {
  LYCIA_RETURN_IF_ERROR(CheckFixed("zb-v", options, {.chunks = 2}));
  OrderFamily family;
  family.empty = WavePipe("zb-v", options);
  family.split = true;
  const ScheduleShape& shape = family.empty.shape;
  family.bounds = {StaticQuotas("own quotas", shape,
                                [](const ScheduleShape& shape, int stage) { return std::min(shape.workers, shape.stages - stage); }),
                   SharedCap(shape, shape.stages)};
  family.bounds.push_back(StaticQuotas("1f1b's quotas", shape, [](const ScheduleShape& shape, int stage) { return shape.stages - stage; }));
  family.bounds.back().worker_cap = shape.stages;
  LYCIA_RETURN_IF_ERROR(LimitMemory(family, options.max_activations));
  return family;
}

}  // namespace

const std::vector<NamedFamily>& Families() {
  static const std::vector<NamedFamily>& families = *new std::vector<NamedFamily>{
      {"chimera-zb", ChimeraZbFamily},
      {"chimera-continuous", ChimeraContinuousFamily},
      {"chimera-doubling", ChimeraDoublingFamily},
      {"v-half", VHalfFamily},
      {"zb-v, re-planned", ZbVFamily},
      {"zb-h1, re-planned", ZbH1Family},
      {"1f1b, re-planned", OneFOneBFamily},
  };
  return families;
}

}  // namespace lycia::schedule
