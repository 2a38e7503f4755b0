// The passes that place gradient synchronisation and the optimizer's steps; see passes.h.
//
// A reduction starts when its last member joins, and a worker's reductions form a queue. So the sets get one order, by the time at which
// the last member would join, and every worker joins its sets in that order: no two workers can wait for each other, and no set waits
// for another that comes before it, because that one's last member was there earlier anyway.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <utility>
#include <vector>

#include "parallel/schedule/activations.h"
#include "parallel/schedule/messages.h"
#include "parallel/schedule/passes.h"
#include "parallel/schedule/simulate.h"
#include "parallel/schedule/sync_slack.h"
#include "runtime/core/check.h"

namespace lycia::schedule {
namespace {

// An instruction to put in before index `before`; those of one worker ascend.
struct Insertion {
  std::size_t before;
  Instruction instruction;
};

void Insert(std::vector<Instruction>& program, const std::vector<Insertion>& insertions) {
  std::vector<Instruction> result;
  result.reserve(program.size() + insertions.size());
  auto next = insertions.begin();
  for (std::size_t i = 0; i <= program.size(); ++i) {
    for (; next != insertions.end() && next->before == i; ++next) result.push_back(next->instruction);
    if (i < program.size()) result.push_back(program[i]);
  }
  program = std::move(result);
}

Instruction OfSet(Op op, const Schedule& schedule, int set) {
  Instruction instruction;
  instruction.op = op;
  instruction.stage = schedule.sync_sets[set].stages.front();
  instruction.sync_set = set;
  return instruction;
}

std::vector<SyncSet> SyncSets(const ScheduleShape& shape, const std::vector<SyncSet>& tied) {
  std::vector<SyncSet> sets;
  for (int stage = 0; stage < shape.stages; ++stage) sets.push_back(SyncSet{{stage}});
  for (SyncSet set : tied) {
    std::sort(set.stages.begin(), set.stages.end());
    set.stages.erase(std::unique(set.stages.begin(), set.stages.end()), set.stages.end());
    LYCIA_CHECK(!set.stages.empty() && set.stages.front() >= 0 && set.stages.back() < shape.stages) << "a tied set names no stage ";
    if (std::find(sets.begin(), sets.end(), set) == sets.end()) sets.push_back(set);
  }
  return sets;
}

// What costs share a tick; decisions depend on their ratios only.
TickCosts Divisible(const Schedule& schedule, TickCosts costs) {
  const std::int64_t divisor = TickDivisor(schedule);
  const auto scale = [divisor](StageTicks& stage) {
    for (std::int64_t* ticks : {&stage.forward, &stage.backward, &stage.input, &stage.weight}) *ticks *= divisor;
  };
  scale(costs);
  for (StageTicks& stage : costs.stages) scale(stage);
  for (std::int64_t* ticks : {&costs.latency, &costs.transmit, &costs.sync, &costs.update}) *ticks *= divisor;
  return costs;
}

Timeline MustSimulate(const Schedule& schedule, const TickCosts& costs) {
  StatusOr<Timeline> timeline = Simulate(schedule, {.costs = Divisible(schedule, costs)});
  LYCIA_CHECK_OK(timeline.status());
  return *std::move(timeline);
}

// Where one member joins one set.
struct Launch {
  int worker;
  std::int64_t time;
  std::size_t before;  // index of its program
};

}  // namespace

Schedule InsertGradientSync(Schedule schedule, GradientSyncMode mode, const std::vector<SyncSet>& tied, const TickCosts& costs) {
  if (!HasBackward(schedule)) return schedule;
  schedule.sync_sets = SyncSets(schedule.shape, tied);
  const int num_sets = static_cast<int>(schedule.sync_sets.size());
  std::vector<std::vector<Launch>> launches(num_sets);
  std::vector<std::int64_t> last(num_sets, 0);  // when the last member would join
  const bool lazy = mode == GradientSyncMode::kLazy;
  const Timeline timeline = lazy ? Timeline() : MustSimulate(schedule, costs);
  for (int set = 0; set < num_sets; ++set) {
    for (const int worker : WorkersOfSyncSet(schedule, schedule.sync_sets[set])) {
      Launch launch{worker, 0, schedule.program[worker].size()};
      if (!lazy) {
        const GradientReady ready = FindGradientReady(schedule, timeline, worker, schedule.sync_sets[set]);
        const bool now = mode == GradientSyncMode::kEager || ready.bubble;
        launch.time = now ? ready.time : timeline.active[worker].end;
        if (now) launch.before = ready.behind;
      }
      last[set] = std::max(last[set], launch.time);
      launches[set].push_back(launch);
    }
  }
  std::vector<int> order(num_sets);
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return last[a] < last[b]; });
  std::vector<std::vector<Insertion>> joins(schedule.shape.workers);
  for (const int set : order) {
    for (const Launch& launch : launches[set]) {
      auto& queue = joins[launch.worker];
      const std::size_t before = std::max(launch.before, queue.empty() ? 0 : queue.back().before);
      queue.push_back({before, OfSet(Op::kGradientSync, schedule, set)});
    }
  }
  Instruction update;
  update.op = Op::kUpdate;
  for (int worker = 0; worker < schedule.shape.workers; ++worker) {
    Insert(schedule.program[worker], joins[worker]);
    schedule.program[worker].push_back(update);
  }
  return schedule;
}

Schedule InsertSetUpdates(Schedule schedule, const TickCosts& costs) {
  if (schedule.sync_sets.empty()) return schedule;
  const Timeline timeline = MustSimulate(schedule, costs);
  const std::int64_t update_ticks = Divisible(schedule, costs).update;
  for (int worker = 0; worker < schedule.shape.workers; ++worker) {
    auto& program = schedule.program[worker];
    const auto& spans = timeline.spans[worker];
    std::vector<std::size_t> sums;  // the worker's syncs; they end in the order joined
    for (std::size_t i = 0; i < program.size(); ++i) {
      if (program[i].op == Op::kGradientSync) sums.push_back(i);
    }
    if (sums.empty()) continue;
    const std::int64_t each = update_ticks / static_cast<std::int64_t>(sums.size());
    std::vector<Insertion> updates;
    std::size_t bubble = 0;  // where the instructions end that need not wait behind the last compute
    std::int64_t free = 0;   // since when the worker is
    for (std::size_t i = 0; i < program.size() && updates.size() < sums.size(); ++i) {
      const bool waits = program[i].op == Op::kLoad || IsReceive(program[i].op);
      if (!waits && !IsCompute(program[i].op)) bubble = i + 1;
      if (!IsCompute(program[i].op)) continue;
      while (updates.size() < sums.size() && sums[updates.size()] < bubble && free < spans[i].start) {
        const std::size_t sum = sums[updates.size()];
        const std::int64_t end = std::max(free, spans[sum].end) + each;
        if (end > spans[i].start) break;
        updates.push_back({bubble, OfSet(Op::kUpdate, schedule, program[sum].sync_set)});
        free = end;
      }
      i = BlockEnd(program, i) - 1;
      bubble = i + 1;
      free = spans[i].end;
    }
    while (updates.size() < sums.size()) {
      updates.push_back({program.size() - 1, OfSet(Op::kUpdate, schedule, program[sums[updates.size()]].sync_set)});
    }
    Insert(program, updates);
  }
  return schedule;
}

}  // namespace lycia::schedule
