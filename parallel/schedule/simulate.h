// When everything happens: an exact event simulation in whole ticks.
//
// Workers run their programs in order. A compute instruction starts when its worker is free and its message has arrived; a message
// leaves when its sender's one egress link is free (first come, first served), occupies it for `transmit` and arrives `latency` later;
// between stages on one worker it arrives at once. Sends never block. Gradient synchronisation runs beside compute: a worker's sets one
// after the other, each from the arrival of its last member; the update waits for all of the worker's sets.
// Paired instructions (paired_with_next) start together when all their messages are there, run one after the other, and both outputs
// leave at the end of the block.
// Compute-only and completed schedules give the same times, because an implicit message is sent at the end of its maker.
#ifndef LYCIA_PARALLEL_SCHEDULE_SIMULATE_H_
#define LYCIA_PARALLEL_SCHEDULE_SIMULATE_H_

#include <cstdint>
#include <vector>

#include "parallel/schedule/costs.h"
#include "parallel/schedule/schedule.h"
#include "runtime/core/status.h"

namespace lycia::schedule {

struct SimulateOptions {
  TickCosts costs;
  std::vector<std::vector<std::int64_t>> durations = {};  // [worker][index] measured, as they are, of every instruction; empty: the above
};

struct Interval {
  std::int64_t start = 0;
  std::int64_t end = 0;
  bool operator==(const Interval&) const = default;
};

struct Timeline {
  std::int64_t ticks_per_unit = 1;
  std::vector<std::vector<Interval>> spans;  // [worker][index of its program]; of a receive: the wait; of a sync: the reduction itself
  std::int64_t makespan = 0;                 // until everything has ended ("flush")
  std::vector<std::int64_t> work;            // [worker] compute ticks
  std::vector<Interval> active;              // [worker] from its first compute to the end of its last
};

// Fails where workers wait for each other, and names them. The schedule must pass Verify with completed = false.
StatusOr<Timeline> Simulate(const Schedule& schedule, const SimulateOptions& options = {});

// Idle time over makespan, idle = makespan - work, over all workers.
double BubbleRatio(const Timeline& timeline);
// The same when each worker's clock runs only while it is active: what is left if no barrier ends the step (zero-bubble paper).
double SpanBubbleRatio(const Timeline& timeline);
// Makespan in the user's units.
double MakespanUnits(const Timeline& timeline);

// Most activations that each worker keeps at once, in program order, in units of one stage of D: +1/chunks with a forward, back after
// the backward, or after the weight gradient where the backward is split (all parts of it).
std::vector<double> PeakActivations(const Schedule& schedule);

// Copies of the model over all workers together.
double WeightsCopies(const Schedule& schedule);

// The smallest divisor for ToTicks with which this schedule's costs are whole.
int TickDivisor(const Schedule& schedule);

}  // namespace lycia::schedule

#endif  // LYCIA_PARALLEL_SCHEDULE_SIMULATE_H_
