// How much time gradient synchronisation has: from a gradient being ready to the end of the step's compute.
//
//   chimera, N = D, F = 1, B = 2: the gradient of stage s has 2 s of slack for s <= D - 2, and 2 (D - 1) + D/2 - 1 for s = D - 1.
#ifndef LYCIA_PARALLEL_SCHEDULE_SYNC_SLACK_H_
#define LYCIA_PARALLEL_SCHEDULE_SYNC_SLACK_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "parallel/schedule/costs.h"
#include "parallel/schedule/schedule.h"
#include "parallel/schedule/simulate.h"

namespace lycia::schedule {

// When a worker has its last gradient of a set of stages, over all pipes.
struct GradientReady {
  std::int64_t time = 0;   // 0 where it has none: it holds the stage in a pipe without micro-batches
  std::size_t behind = 0;  // number of instructions of its program until then, with the messages that leave right behind
  bool bubble = false;     // the worker is idle at some time between then and the end of its compute
};

// Of a worker that holds a stage of the set, by a timeline of the schedule.
GradientReady FindGradientReady(const Schedule& schedule, const Timeline& timeline, int worker, const SyncSet& set);

struct SyncSlack {
  int worker = 0;
  SyncSet set;
  std::int64_t ready = 0;  // when the worker could join
  std::int64_t slack = 0;  // until the last compute instruction of any worker ends
  bool operator==(const SyncSlack&) const = default;
};

// For each set, ascending, and each worker that holds a stage of it. The sets are the schedule's; where it has none, one for each stage.
// Fails where Simulate does.
StatusOr<std::vector<SyncSlack>> SyncSlacks(const Schedule& schedule, const TickCosts& costs);

}  // namespace lycia::schedule

#endif  // LYCIA_PARALLEL_SCHEDULE_SYNC_SLACK_H_
