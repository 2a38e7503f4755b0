#include "parallel/schedule/simulate.h"

#include <algorithm>
#include <cstddef>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "parallel/schedule/messages.h"
#include "parallel/schedule/program_text.h"
#include "parallel/schedule/simulate_steps.h"
#include "runtime/core/check.h"

namespace lycia::schedule {

namespace {

// A join of a sync set: since when the worker waits for it, and when the reduction has ended.
struct Join {
  std::size_t index;
  std::int64_t issued;
  std::int64_t end = kNothing;
};

// One worker of one replica.
struct Rank {
  std::size_t next = 0;           // instruction
  std::int64_t clock = 0;         // end of the last instruction
  std::int64_t egress_free = 0;   // when its link is free
  std::int64_t sync_free = 0;     // end of its last reduction
  std::int64_t waits = kNothing;  // number of the message that it is blocked on
  std::size_t joins_done = 0;
  std::vector<Join> joins;
};

class Simulator {
 public:
  Simulator(const Schedule& schedule, const SimulateOptions& options)
      : schedule_(schedule),
        options_(options),
        workers_(schedule.shape.workers),
        steps_(Steps(schedule, options)),
        ranks_(static_cast<std::size_t>(workers_) * options.replicas),
        num_messages_(NumMessages(schedule.shape, MaxParts(schedule))),
        arrival_(static_cast<std::size_t>(num_messages_) * options.replicas, kNothing),
        heads_(schedule.sync_sets.size(), 0) {
    for (const SyncSet& set : schedule.sync_sets) members_.push_back(WorkersOfSyncSet(schedule, set));
    timeline_.ticks_per_unit = options.costs.ticks_per_unit;
    timeline_.work.assign(ranks_.size(), 0);
    timeline_.active.assign(ranks_.size(), {kNothing, 0});
    if (!options.keep_spans) return;
    for (std::size_t rank = 0; rank < ranks_.size(); ++rank) timeline_.spans.emplace_back(steps_[rank % workers_].size());
  }

  StatusOr<Timeline> Run() {
    for (std::size_t rank = ranks_.size(); rank-- > 0;) runnable_.push_back(static_cast<int>(rank));
    while (!runnable_.empty()) {
      const int rank = runnable_.back();
      runnable_.pop_back();
      RunUntilBlocked(rank);
    }
    std::vector<Place> at;
    int stuck = -1;  // the first
    for (int rank = 0; rank < static_cast<int>(ranks_.size()); ++rank) {
      timeline_.events += static_cast<std::int64_t>(ranks_[rank].next);
      if (stuck < 0 && ranks_[rank].next < steps_[rank % workers_].size()) stuck = rank;
    }
    if (stuck >= 0) {
      for (int worker = 0; worker < workers_; ++worker) {
        at.push_back({worker, static_cast<int>(ranks_[stuck / workers_ * workers_ + worker].next)});
      }
      const Place& place = at[stuck % workers_];
      return InvalidArgument("schedule ", schedule_.name, ", worker ", place.worker, ", instruction ", place.index, " (",
                             ToString(schedule_, schedule_.program[place.worker][place.index]), "): deadlock in the simulation\n",
                             ProgramText(schedule_, at));
    }
    for (Interval& active : timeline_.active) active.start = std::max<std::int64_t>(active.start, 0);
    return std::move(timeline_);
  }

 private:
  std::int64_t& Arrival(int rank, std::int64_t message) { return arrival_[rank / workers_ * num_messages_ + message]; }

  void Record(int rank, std::size_t index, Interval span) {
    if (options_.keep_spans) timeline_.spans[rank][index] = span;
    timeline_.makespan = std::max(timeline_.makespan, span.end);
  }

  // Lets the message leave at `now`, and wakes who waits for it.
  void Send(int rank, const Step& step, std::int64_t now) {
    const int worker = rank % workers_;
    const int receiver = rank - worker + step.receiver;
    std::int64_t& arrival = Arrival(rank, step.makes);
    arrival = now;
    if (receiver == rank) return;
    ranks_[rank].egress_free = std::max(now, ranks_[rank].egress_free) + options_.costs.transmit;
    arrival = ranks_[rank].egress_free + options_.costs.latency;
    if (ranks_[receiver].waits == step.makes) runnable_.push_back(receiver);
  }

  void RunUntilBlocked(int number) {
    const std::vector<Step>& steps = steps_[number % workers_];
    const std::int64_t permille = options_.permille.empty() ? 1000 : options_.permille[number];
    Rank& rank = ranks_[number];
    rank.waits = kNothing;
    while (rank.next < steps.size()) {
      const Step& step = steps[rank.next];
      switch (step.kind) {
        case StepKind::kReceive: {
          const std::int64_t arrival = Arrival(number, step.needs);
          if (arrival < 0) return rank.waits = step.needs, void();
          const std::int64_t end = std::max(rank.clock, arrival) + step.ticks;
          Record(number, rank.next, {rank.clock, end});
          rank.clock = end;
          break;
        }
        case StepKind::kSend:
          Record(number, rank.next, {rank.clock, rank.clock + step.ticks});
          rank.clock += step.ticks;
          Send(number, step, rank.clock);
          break;
        case StepKind::kSync:
          rank.joins.push_back({rank.next, rank.clock});
          if (rank.joins.size() == rank.joins_done + 1) Reach(number);
          break;
        case StepKind::kUpdate: {
          if (step.set >= 0 && (step.join < 0 || static_cast<std::size_t>(step.join) >= rank.joins_done)) return;
          if (step.set < 0 && rank.joins_done < rank.joins.size()) return;
          const std::int64_t start = std::max(rank.clock, step.set < 0 ? rank.sync_free : rank.joins[step.join].end);
          Record(number, rank.next, {start, start + step.ticks});
          rank.clock = start + step.ticks;
          break;
        }
        case StepKind::kCompute: {
          std::size_t end = rank.next;  // behind the paired block
          std::int64_t start = rank.clock;
          do {
            if (steps[end].needs == kNothing) continue;
            const std::int64_t arrival = Arrival(number, steps[end].needs);
            if (arrival < 0) return rank.waits = steps[end].needs, void();
            start = std::max(start, arrival);
          } while (steps[end++].paired && end < steps.size());
          RunBlock(number, end, start, permille);
          continue;
        }
      }
      ++rank.next;
    }
  }

  void RunBlock(int number, std::size_t end, std::int64_t start, std::int64_t permille) {
    const std::vector<Step>& steps = steps_[number % workers_];
    Rank& rank = ranks_[number];
    const std::size_t begin = rank.next;
    rank.clock = start;
    for (; rank.next < end; ++rank.next) {
      const Step& step = steps[rank.next];
      const std::int64_t ticks = permille == 1000 || !step.compute ? step.ticks : step.ticks * permille / 1000;
      Record(number, rank.next, {rank.clock, rank.clock + ticks});
      if (step.compute) {
        timeline_.work[number] += ticks;
        Interval& active = timeline_.active[number];
        active = {active.start < 0 ? rank.clock : active.start, rank.clock + ticks};
      }
      rank.clock += ticks;
    }
    for (std::size_t i = begin; i < end; ++i) {
      if (steps[i].makes != kNothing) Send(number, steps[i], rank.clock);
    }
  }

  // The rank's next reduction is now the first in its queue; runs it, and what follows, when that holds for all members.
  void Reach(int number) {
    std::vector<int> reached = {number};
    while (!reached.empty()) {
      const Rank& rank = ranks_[reached.back()];
      const int set = steps_[reached.back() % workers_][rank.joins[rank.joins_done].index].set;
      reached.pop_back();
      if (++heads_[set] < static_cast<std::int64_t>(members_[set].size()) * options_.replicas) continue;
      std::int64_t start = 0;
      for (const int member : Members(set)) {
        start = std::max({start, ranks_[member].joins[ranks_[member].joins_done].issued, ranks_[member].sync_free});
      }
      for (const int member : Members(set)) {
        Rank& each = ranks_[member];
        Join& join = each.joins[each.joins_done++];
        join.end = each.sync_free = start + steps_[member % workers_][join.index].ticks;
        Record(member, join.index, {start, join.end});
        if (each.joins_done < each.joins.size()) reached.push_back(member);
        const auto& steps = steps_[member % workers_];
        if (member != number && each.next < steps.size() && steps[each.next].kind == StepKind::kUpdate) runnable_.push_back(member);
      }
    }
  }

  std::vector<int> Members(int set) const {
    std::vector<int> members;
    for (int replica = 0; replica < options_.replicas; ++replica) {
      for (const int worker : members_[set]) members.push_back(replica * workers_ + worker);
    }
    return members;
  }

  const Schedule& schedule_;
  const SimulateOptions& options_;
  const int workers_;
  const std::vector<std::vector<Step>> steps_;  // [worker]
  std::vector<Rank> ranks_;
  const std::int64_t num_messages_;        // of one replica
  std::vector<std::int64_t> arrival_;      // [replica][message] tick, or nothing
  std::vector<std::vector<int>> members_;  // [set] workers
  std::vector<std::int64_t> heads_;        // [set] ranks that have reached it
  std::vector<int> runnable_;
  Timeline timeline_;
};

}  // namespace

StatusOr<Timeline> Simulate(const Schedule& schedule, const SimulateOptions& options) {
  LYCIA_CHECK_GE(options.replicas, 1);
  if (!options.costs.stages.empty()) LYCIA_CHECK_EQ(static_cast<int>(options.costs.stages.size()), schedule.shape.stages);
  if (!options.permille.empty()) {
    LYCIA_CHECK_EQ(static_cast<int>(options.permille.size()), options.replicas * schedule.shape.workers);
  }
  if (!options.durations.empty()) {
    for (int worker = 0; worker < schedule.shape.workers; ++worker) {
      LYCIA_CHECK_EQ(options.durations.at(worker).size(), schedule.program[worker].size());
    }
  }
  return Simulator(schedule, options).Run();
}

}  // namespace lycia::schedule
