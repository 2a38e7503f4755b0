// What one reads off a schedule or its timeline; see simulate.h.
#include <algorithm>
#include <cstdint>
#include <vector>

#include "parallel/schedule/activations.h"
#include "parallel/schedule/simulate.h"

namespace lycia::schedule {

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
  const std::vector<Lifetime> lifetimes = Lifetimes(schedule);
  std::vector<double> peaks;
  for (const auto& program : schedule.program) {
    int kept = 0, peak = 0;
    for (std::size_t begin = 0; begin < program.size();) {
      const std::size_t end = BlockEnd(program, begin);
      int given_back = 0;
      for (std::size_t i = begin; i < end; ++i) {
        if (!IsCompute(program[i].op)) continue;
        const Lifetime& lifetime = lifetimes[ActivationIndex(schedule.shape, program[i])];
        kept += lifetime.first == static_cast<int>(i);
        given_back += lifetime.last == static_cast<int>(i);
      }
      peak = std::max(peak, kept);
      kept -= given_back;
      begin = end;
    }
    peaks.push_back(static_cast<double>(peak) / schedule.shape.chunks);
  }
  return peaks;
}

double WeightsCopies(const Schedule& schedule) {
  std::vector<std::int64_t> held;  // (worker, stage): pipes that share a stage on a worker share its weights
  for (const auto& worker_of : schedule.worker_of) {
    for (int stage = 0; stage < schedule.shape.stages; ++stage) {
      held.push_back(std::int64_t{worker_of[stage]} * schedule.shape.stages + stage);
    }
  }
  std::sort(held.begin(), held.end());
  held.erase(std::unique(held.begin(), held.end()), held.end());
  return static_cast<double>(held.size()) / schedule.shape.stages;
}

int TickDivisor(const Schedule& schedule) { return 2 * schedule.shape.chunks * MaxParts(schedule); }

}  // namespace lycia::schedule
