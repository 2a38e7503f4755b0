#include "parallel/schedule/list_schedule.h"

#include <algorithm>
#include <cstdint>
#include <functional>
#include <limits>
#include <queue>
#include <tuple>
#include <utility>

#include "parallel/schedule/generators.h"
#include "runtime/core/check.h"

namespace lycia::schedule {
namespace {

using Time = std::int64_t;
constexpr Time kNever = std::numeric_limits<Time>::max();

// One stage of one pipe, on its worker. Its micro-batches come in order, forwards and backwards, because every stage before it works on
// them in order; so the next of each kind is all there is to choose from.
struct Unit {
  int pipe = 0;
  int stage = 0;
  int worker = 0;
  int quota = 1;
  Time forward = 0, backward = 0, weight = 0;  // durations; backward is I where it is split
  std::vector<Time> forward_arrival;           // [micro-batch of the pipe]
  std::vector<Time> backward_arrival;
  int forwards = 0, backwards = 0, weights = 0;  // started
  int kept = 0;                                  // activations
};

class ListScheduler {
 public:
  ListScheduler(Schedule empty, const ListOptions& options)
      : schedule_(std::move(empty)),
        options_(options),
        stages_(schedule_.shape.stages),
        micro_batches_(schedule_.shape.pipes),
        units_of_(schedule_.shape.workers),
        free_(schedule_.shape.workers, 0),
        egress_free_(schedule_.shape.workers, 0),
        kept_(schedule_.shape.workers, 0),
        in_group_(schedule_.shape.workers, -1) {
    for (int m = 0; m < schedule_.shape.micro_batches; ++m) micro_batches_[schedule_.pipe_of_micro_batch[m]].push_back(m);
    for (int pipe = 0; pipe < schedule_.shape.pipes; ++pipe) {
      for (int stage = 0; stage < stages_; ++stage) AddUnit(pipe, stage);
    }
    WeighKeys();
  }

  std::optional<Schedule> Run() {
    for (int worker = 0; worker < schedule_.shape.workers; ++worker) events_.emplace(0, worker);
    while (!events_.empty()) {
      const auto [now, worker] = events_.top();
      events_.pop();
      if (free_[worker] <= now) Dispatch(worker, now);
    }
    for (const Unit& unit : units_) {
      const int done = options_.split ? unit.weights : unit.backwards;
      if (done == Count(unit)) continue;
      LYCIA_CHECK_GT(options_.worker_cap, 0) << "static quotas cannot deadlock ";
      return std::nullopt;
    }
    return std::move(schedule_);
  }

 private:
  void AddUnit(int pipe, int stage) {
    const TickCosts& all = options_.costs;
    const bool own = !all.stages.empty();
    const StageTicks& costs = own ? all.stages[stage] : all;
    const int share = own ? 1 : schedule_.shape.chunks;
    const std::size_t count = micro_batches_[pipe].size();
    Unit unit{.pipe = pipe, .stage = stage, .worker = schedule_.worker_of[pipe][stage], .quota = options_.quotas[pipe][stage]};
    LYCIA_CHECK_GE(unit.quota, options_.forward_group);
    unit.forward = costs.forward / share;
    unit.backward = (options_.split ? costs.input : costs.backward) / share;
    unit.weight = costs.weight / share;
    unit.forward_arrival.assign(count, stage == 0 ? 0 : kNever);
    unit.backward_arrival.assign(count, kNever);
    units_of_[unit.worker].push_back(static_cast<int>(units_.size()));
    units_.push_back(std::move(unit));
  }

  // What a stage and a micro-batch count in the keys: slots, or time.
  void WeighKeys() {
    forward_key_.resize(stages_);
    backward_key_.resize(stages_);
    for (int stage = 0; stage < stages_; ++stage) {
      forward_key_[stage] = stage;
      backward_key_[stage] = 2 * stages_ - 1 - stage;
    }
    if (options_.key != KeyRule::kCost) return;
    Time busiest = 0;
    for (const auto& units : units_of_) {
      Time work = 0;
      for (const int unit : units) work += units_[unit].forward + units_[unit].backward;
      busiest = std::max(busiest, work);
    }
    micro_batch_key_ = busiest / schedule_.shape.pipes;
    const auto hop = [&](int stage, int next) {
      return units_[stage].worker == units_[next].worker ? 0 : options_.costs.latency + options_.costs.transmit;
    };
    Time path = 0;
    for (int stage = 0; stage < stages_; ++stage) {
      forward_key_[stage] = path;
      path += units_[stage].forward + (stage + 1 < stages_ ? hop(stage, stage + 1) : 0);
    }
    for (int stage = stages_ - 1; stage >= 0; --stage) {
      backward_key_[stage] = path;
      path += units_[stage].backward + (stage > 0 ? hop(stage, stage - 1) : 0);
    }
  }

  // Smallest first: (key, forward after backward, stage, unit).
  using Key = std::tuple<Time, bool, int, int>;
  Key ForwardKey(const Unit& unit, int index) const {
    const Time after_all = options_.key == KeyRule::kBackwardFirst ? kNever / 2 : 0;
    return {after_all + micro_batch_key_ * unit.forwards + forward_key_[unit.stage], true, unit.stage, index};
  }
  Key BackwardKey(const Unit& unit, int micro_batch, int index) const {
    return {micro_batch_key_ * micro_batch + backward_key_[unit.stage], false, unit.stage, index};
  }

  int Count(const Unit& unit) const { return static_cast<int>(unit.forward_arrival.size()); }

  bool MayForward(const Unit& unit, int index) const {
    const int group = std::min(options_.forward_group, Count(unit) - unit.forwards);
    if (group == 0 || unit.kept + group > unit.quota) return false;
    if (options_.worker_cap > 0 && kept_[unit.worker] + group > options_.worker_cap) return false;
    if (options_.credits == 0 || unit.stage + 1 == stages_) return true;
    return units_[index + 1].forwards > unit.forwards + group - 1 - options_.credits;
  }
  bool MayBackward(const Unit& unit, int index) const {
    if (unit.backwards == unit.forwards) return false;
    return options_.credits == 0 || unit.stage == 0 || units_[index - 1].backwards > unit.backwards - options_.credits;
  }

  // Starts what the worker should do now, if anything.
  void Dispatch(int worker, Time now) {
    if (const int index = in_group_[worker]; index >= 0) {
      if (units_[index].forward_arrival[units_[index].forwards] <= now) Forward(index, now);
      return;
    }
    std::optional<Key> best, weight;
    Time next_arrival = kNever;
    for (const int index : units_of_[worker]) {
      const Unit& unit = units_[index];
      const auto consider = [&](Time arrival, const Key& key) {
        if (arrival > now) next_arrival = std::min(next_arrival, arrival);
        if (arrival <= now && (!best || key < *best)) best = key;
      };
      if (MayForward(unit, index)) consider(unit.forward_arrival[unit.forwards], ForwardKey(unit, index));
      if (MayBackward(unit, index)) consider(unit.backward_arrival[unit.backwards], BackwardKey(unit, unit.backwards, index));
      if (!options_.split || unit.weights == unit.backwards) continue;
      const Key key = BackwardKey(unit, unit.weights, index);
      if (!weight || key < *weight) weight = key;
    }
    if (best) {
      const auto [key, forward, stage, index] = *best;
      forward ? Forward(index, now) : Backward(index, now);
    } else if (weight) {
      const int index = std::get<3>(*weight);
      const Time patience = units_[index].weight * options_.patience / 4;
      if (next_arrival == kNever || next_arrival > now + patience) Weight(index, now);
    }
  }

  void Forward(int index, Time now) {
    Unit& unit = units_[index];
    const int m = unit.forwards++;
    const Time end = Issue(Op::kForward, unit, m, now, unit.forward);
    Keep(unit, 1);
    if (unit.stage + 1 < stages_) {
      units_[index + 1].forward_arrival[m] = Arrival(unit, units_[index + 1], end);
    } else {
      unit.backward_arrival[m] = end;
    }
    if (unit.stage > 0) Wake(units_[index - 1], now);
    in_group_[unit.worker] = unit.forwards % options_.forward_group != 0 && unit.forwards < Count(unit) ? index : -1;
  }

  void Backward(int index, Time now) {
    Unit& unit = units_[index];
    const int m = unit.backwards++;
    const Time end = Issue(options_.split ? Op::kBackwardInput : Op::kBackward, unit, m, now, unit.backward);
    if (!options_.split) Keep(unit, -1);
    if (unit.stage > 0) units_[index - 1].backward_arrival[m] = Arrival(unit, units_[index - 1], end);
    if (unit.stage + 1 < stages_) Wake(units_[index + 1], now);
  }

  void Weight(int index, Time now) {
    Unit& unit = units_[index];
    Issue(Op::kBackwardWeight, unit, unit.weights++, now, unit.weight);
    Keep(unit, -1);
  }

  // Returns when it ends.
  Time Issue(Op op, const Unit& unit, int micro_batch, Time now, Time duration) {
    schedule_.program[unit.worker].push_back(Compute(op, unit.pipe, unit.stage, micro_batches_[unit.pipe][micro_batch]));
    free_[unit.worker] = now + duration;
    events_.emplace(free_[unit.worker], unit.worker);
    return free_[unit.worker];
  }

  // When what `from` makes at `end` is at `to`.
  Time Arrival(const Unit& from, const Unit& to, Time end) {
    if (from.worker == to.worker) return end;
    Time& egress = egress_free_[from.worker];
    egress = std::max(end, egress) + options_.costs.transmit;
    events_.emplace(egress + options_.costs.latency, to.worker);
    return egress + options_.costs.latency;
  }

  // A message of this unit was taken, so that it may be allowed to make the next.
  void Wake(const Unit& unit, Time now) {
    if (options_.credits > 0) events_.emplace(now, unit.worker);
  }

  void Keep(Unit& unit, int change) {
    unit.kept += change;
    kept_[unit.worker] += change;
  }

  Schedule schedule_;
  const ListOptions& options_;
  const int stages_;
  std::vector<std::vector<int>> micro_batches_;  // [pipe][its m-th] -> number over all pipes
  std::vector<Unit> units_;                      // [pipe * stages + stage]
  std::vector<std::vector<int>> units_of_;       // [worker]
  std::vector<Time> free_;                       // [worker] end of its last instruction
  std::vector<Time> egress_free_;                // [worker]
  std::vector<int> kept_;                        // [worker] activations
  std::vector<int> in_group_;                    // [worker] unit whose group of forwards is under way, or -1
  Time micro_batch_key_ = 2;
  std::vector<Time> forward_key_, backward_key_;                                                         // [stage]
  std::priority_queue<std::pair<Time, int>, std::vector<std::pair<Time, int>>, std::greater<>> events_;  // (when, worker)
};

}  // namespace

std::optional<Schedule> ListSchedule(Schedule empty, const ListOptions& options) { return ListScheduler(std::move(empty), options).Run(); }

}  // namespace lycia::schedule
