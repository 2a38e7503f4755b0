#include "parallel/schedule/sync_slack.h"

#include <algorithm>

#include "parallel/schedule/activations.h"
#include "parallel/schedule/messages.h"

namespace lycia::schedule {

GradientReady FindGradientReady(const Schedule& schedule, const Timeline& timeline, int worker, const SyncSet& set) {
  const auto& program = schedule.program[worker];
  const auto& spans = timeline.spans[worker];
  GradientReady ready;
  std::int64_t work_left = 0;  // behind what was seen of the program
  for (std::size_t i = program.size(); i-- > 0;) {
    if (!IsCompute(program[i].op)) continue;
    const bool gradient = program[i].op != Op::kForward && std::binary_search(set.stages.begin(), set.stages.end(), program[i].stage);
    if (gradient) {
      const std::size_t end = BlockEnd(program, i);
      for (std::size_t later = i + 1; later < end; ++later) work_left -= spans[later].end - spans[later].start;
      ready.time = spans[end - 1].end;
      for (ready.behind = end; ready.behind < program.size() && IsSend(program[ready.behind].op);) ++ready.behind;
      break;
    }
    work_left += spans[i].end - spans[i].start;
  }
  ready.bubble = timeline.active[worker].end - ready.time > work_left;
  return ready;
}

StatusOr<std::vector<SyncSlack>> SyncSlacks(const Schedule& schedule, const TickCosts& costs) {
  LYCIA_ASSIGN_OR_RETURN(const Timeline timeline, Simulate(schedule, {.costs = costs}));
  std::int64_t end = 0;
  for (const Interval& active : timeline.active) end = std::max(end, active.end);
  std::vector<SyncSet> sets = schedule.sync_sets;
  if (sets.empty()) {
    for (int stage = 0; stage < schedule.shape.stages; ++stage) sets.push_back(SyncSet{{stage}});
  }
  std::vector<SyncSlack> slacks;
  for (const SyncSet& set : sets) {
    for (const int worker : WorkersOfSyncSet(schedule, set)) {
      const std::int64_t ready = FindGradientReady(schedule, timeline, worker, set).time;
      slacks.push_back({worker, set, ready, end - ready});
    }
  }
  return slacks;
}

}  // namespace lycia::schedule
