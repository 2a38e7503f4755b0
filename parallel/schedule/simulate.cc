#include "parallel/schedule/simulate.h"

#include <algorithm>
#include <deque>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "parallel/schedule/messages.h"
#include "parallel/schedule/program_text.h"
#include "runtime/core/check.h"

namespace lycia::schedule {
namespace {

class Simulator {
 public:
  Simulator(const Schedule& schedule, const SimulateOptions& options)
      : schedule_(schedule),
        options_(options),
        max_parts_(MaxParts(schedule)),
        arrival_(NumMessages(schedule.shape, max_parts_), -1),
        clock_(schedule.shape.workers, 0),
        egress_free_(schedule.shape.workers, 0),
        syncs_(schedule.shape.workers),
        sync_free_(schedule.shape.workers, 0) {
    for (const auto& program : schedule.program) {
      at_.push_back({static_cast<int>(at_.size()), 0});
      timeline_.spans.emplace_back(program.size());
      for (const Instruction& instruction : program) explicit_messages_ = explicit_messages_ || IsSend(instruction.op);
    }
    timeline_.ticks_per_unit = options.costs.ticks_per_unit;
    timeline_.work.assign(schedule.shape.workers, 0);
    timeline_.active.assign(schedule.shape.workers, {-1, 0});
  }

  StatusOr<Timeline> Run() {
    for (bool progress = true; progress;) {
      progress = false;
      for (Place& place : at_) {
        while (place.index < Size(place) && Step(place)) progress = true;
      }
    }
    for (Place& place : at_) {
      if (place.index < Size(place)) {
        return InvalidArgument("schedule ", schedule_.name, ", worker ", place.worker, ", instruction ", place.index, " (",
                               ToString(schedule_, At(place)), "): deadlock in the simulation\n", ProgramText(schedule_, at_));
      }
    }
    for (Interval& active : timeline_.active) active.start = std::max<std::int64_t>(active.start, 0);
    return std::move(timeline_);
  }

 private:
  int Size(const Place& place) const { return static_cast<int>(schedule_.program[place.worker].size()); }
  const Instruction& At(const Place& place) const { return schedule_.program[place.worker][place.index]; }

  std::int64_t Duration(const Place& place) const {
    const Instruction& instruction = At(place);
    if (!options_.durations.empty()) return options_.durations[place.worker][place.index];
    const TickCosts& all = options_.costs;
    if (instruction.op == Op::kUpdate) return all.update;
    if (!IsCompute(instruction.op)) return 0;
    const bool own = !all.stages.empty();
    const StageTicks& costs = own ? all.stages[instruction.stage] : all;
    const std::int64_t cost = instruction.op == Op::kForward         ? costs.forward
                              : instruction.op == Op::kBackward      ? costs.backward
                              : instruction.op == Op::kBackwardInput ? costs.input
                                                                     : costs.weight;
    return cost / (own ? instruction.parts : schedule_.shape.chunks * instruction.parts);
  }

  // Arrival of a message, or nothing while it is not known.
  std::optional<std::int64_t> Arrival(const Message& message) const {
    const std::int64_t arrival = arrival_[MessageIndex(schedule_.shape, max_parts_, message)];
    return arrival < 0 ? std::nullopt : std::optional(arrival);
  }

  void Send(int worker, const Message& message, std::int64_t now) {
    std::int64_t& arrival = arrival_[MessageIndex(schedule_.shape, max_parts_, message)];
    arrival = now;
    if (ReceiverOf(schedule_, message) == worker) return;
    egress_free_[worker] = std::max(now, egress_free_[worker]) + options_.costs.transmit;
    arrival = egress_free_[worker] + options_.costs.latency;
  }

  void Record(const Place& place, Interval span) {
    timeline_.spans[place.worker][place.index] = span;
    timeline_.makespan = std::max(timeline_.makespan, span.end);
    if (!IsCompute(At(place).op)) return;
    timeline_.work[place.worker] += span.end - span.start;
    Interval& active = timeline_.active[place.worker];
    active = {active.start < 0 ? span.start : active.start, span.end};
  }

  // Runs the instruction at `place`, with those it is paired with, and moves on; false: it cannot know its start yet.
  bool Step(Place& place) {
    const Op op = At(place).op;
    std::int64_t& clock = clock_[place.worker];
    if (op == Op::kGradientSync) {
      syncs_[place.worker].push_back({place, clock});
      ++place.index;
      FinishSyncs();
      return true;
    }
    if (op == Op::kUpdate && !syncs_[place.worker].empty()) return false;
    std::int64_t start = op == Op::kUpdate ? std::max(clock, sync_free_[place.worker]) : clock;
    if (IsReceive(op)) {
      const auto arrival = Arrival(MessageOf(At(place)));
      if (!arrival) return false;
      Record(place, {clock, std::max(clock, *arrival) + Duration(place)});
      clock = std::max(clock, *arrival) + Duration(place);
      ++place.index;
      return true;
    }
    Place last = place;  // of the paired block
    while (At(last).paired_with_next && last.index + 1 < Size(last)) ++last.index;
    for (Place each = place; each.index <= last.index; ++each.index) {
      const auto message = Consumes(schedule_.shape, At(each));
      if (!message) continue;
      const auto arrival = Arrival(*message);
      if (!arrival) return false;
      start = std::max(start, *arrival);
    }
    clock = start;
    for (Place each = place; each.index <= last.index; ++each.index) {
      Record(each, {clock, clock + Duration(each)});
      clock += Duration(each);
    }
    for (; place.index <= last.index; ++place.index) {
      const auto made = Produces(schedule_.shape, At(place));
      if (made && !explicit_messages_) Send(place.worker, *made, clock);
      if (IsSend(At(place).op)) Send(place.worker, MessageOf(At(place)), clock);
    }
    return true;
  }

  void FinishSyncs() {
    for (bool progress = true; progress;) {
      progress = false;
      for (int set = 0; set < static_cast<int>(schedule_.sync_sets.size()); ++set) {
        const auto members = WorkersOfSyncSet(schedule_, schedule_.sync_sets[set]);
        std::int64_t start = 0;
        bool all = true;
        for (const int worker : members) {
          all = all && !syncs_[worker].empty() && At(syncs_[worker].front().place).sync_set == set;
          if (all) start = std::max({start, syncs_[worker].front().issued, sync_free_[worker]});
        }
        if (!all) continue;
        progress = true;
        for (const int worker : members) {
          const Place place = syncs_[worker].front().place;
          const std::int64_t cost = options_.durations.empty() ? options_.costs.sync : Duration(place);
          Record(place, {start, start + cost});
          sync_free_[worker] = start + cost;
          syncs_[worker].pop_front();
        }
      }
    }
  }

  struct Joined {
    Place place;
    std::int64_t issued;
  };

  const Schedule& schedule_;
  const SimulateOptions& options_;
  const int max_parts_;
  bool explicit_messages_ = false;
  std::vector<std::int64_t> arrival_;      // [message] tick, -1 = not sent
  std::vector<std::int64_t> clock_;        // [worker] end of its last instruction
  std::vector<std::int64_t> egress_free_;  // [worker]
  std::vector<std::deque<Joined>> syncs_;  // [worker] sets joined and not done
  std::vector<std::int64_t> sync_free_;    // [worker] end of its last set
  std::vector<Place> at_;
  Timeline timeline_;
};

}  // namespace

StatusOr<Timeline> Simulate(const Schedule& schedule, const SimulateOptions& options) {
  if (!options.costs.stages.empty()) LYCIA_CHECK_EQ(static_cast<int>(options.costs.stages.size()), schedule.shape.stages);
  if (!options.durations.empty()) {
    for (int worker = 0; worker < schedule.shape.workers; ++worker) {
      LYCIA_CHECK_EQ(options.durations.at(worker).size(), schedule.program[worker].size());
    }
  }
  return Simulator(schedule, options).Run();
}

double BubbleRatio(const Timeline& timeline) {
  std::int64_t work = 0;
  for (const std::int64_t ticks : timeline.work) work += ticks;
  const double all = static_cast<double>(timeline.makespan) * static_cast<double>(timeline.work.size());
  return all > 0 ? (all - static_cast<double>(work)) / all : 0;
}

double SpanBubbleRatio(const Timeline& timeline) {
  std::int64_t work = 0, active = 0;
  for (const std::int64_t ticks : timeline.work) work += ticks;
  for (const Interval& interval : timeline.active) active += interval.end - interval.start;
  return active > 0 ? static_cast<double>(active - work) / static_cast<double>(active) : 0;
}

double MakespanUnits(const Timeline& timeline) {
  return static_cast<double>(timeline.makespan) / static_cast<double>(timeline.ticks_per_unit);
}

std::vector<double> PeakActivations(const Schedule& schedule) {
  std::vector<double> peaks;
  for (const auto& program : schedule.program) {
    std::map<std::pair<int, int>, std::size_t> last_uses;  // (stage, micro-batch)
    for (std::size_t i = 0; i < program.size(); ++i) {
      if (IsCompute(program[i].op)) last_uses[{program[i].stage, program[i].micro_batch}] = i;
    }
    int kept = 0, peak = 0;
    for (std::size_t i = 0; i < program.size(); ++i) {
      if (!IsCompute(program[i].op)) continue;
      kept += program[i].op == Op::kForward;
      peak = std::max(peak, kept);
      kept -= last_uses.at({program[i].stage, program[i].micro_batch}) == i;
    }
    peaks.push_back(static_cast<double>(peak) / schedule.shape.chunks);
  }
  return peaks;
}

double WeightsCopies(const Schedule& schedule) {
  std::set<std::pair<int, int>> held;  // (worker, stage): pipes that share a stage on a worker share its weights
  for (const auto& worker_of : schedule.worker_of) {
    for (int stage = 0; stage < schedule.shape.stages; ++stage) held.emplace(worker_of[stage], stage);
  }
  return static_cast<double>(held.size()) / schedule.shape.stages;
}

int TickDivisor(const Schedule& schedule) { return 2 * schedule.shape.chunks * MaxParts(schedule); }

}  // namespace lycia::schedule
