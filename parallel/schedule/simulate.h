// When everything happens: an exact event simulation in whole ticks.
//
// A worker runs its program in order, on one clock:
//   compute       starts when the worker is free and its message is there: takes Ticks() of it. Paired instructions (paired_with_next)
//   start
//                 together when all their messages are there, run one after the other, and all outputs leave at the end of the block.
//   send          takes no time. The message leaves when the sender's one egress link is free (in the order of the program), occupies it
//                 for `transmit` and arrives `latency` later; between stages on one worker it arrives at once. Sends never block.
//   receive       waits for its message; takes no time.
//   SYNC{s}       takes no time. The reductions that a worker has joined run one after the other beside its compute: each starts when its
//                 last member has joined and all members are done with the one before, and ends `sync` later, at all members at once.
//   UPDATE{s}     waits until the reduction of s has ended, then takes update / (number of sets that the worker joins), rounded down.
//   UPDATE        waits until all reductions of the worker have ended, then takes `update`; nothing where the sets have updates of their
//                 own, which have then done the work.
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

  // Data-parallel copies of all workers, which run the same programs; a reduction is a rendezvous of its members in all of them. In all
  // results and in `permille`, worker w of copy r is number r * workers + w.
  int replicas = 1;
  std::vector<std::int32_t> permille = {};  // [number] compute takes so many thousandths of its ticks, rounded down; empty: 1000
  bool keep_spans = true;                   // false: leave Timeline::spans empty
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
  std::int64_t events = 0;                   // instructions executed
};

// Fails where workers wait for each other, and names them. The schedule must pass Verify with completed = false.
StatusOr<Timeline> Simulate(const Schedule& schedule, const SimulateOptions& options = {});

// How long an instruction of this worker occupies it once it need not wait: nothing but compute and updates takes time. A whole stage of
// a micro-batch costs TickCosts::stages, or 1 / chunks of the common costs; a part 1 / parts of that, rounded down.
std::int64_t Ticks(const Schedule& schedule, const TickCosts& costs, int worker, const Instruction& instruction);

// Idle time over makespan, idle = makespan - work, over all workers.
double BubbleRatio(const Timeline& timeline);
// The same when each worker's clock runs only while it is active: what is left if no barrier ends the step (zero-bubble paper).
double SpanBubbleRatio(const Timeline& timeline);
// Makespan in the user's units.
double MakespanUnits(const Timeline& timeline);

// Most activations that each worker keeps at once, in program order, in units of one stage of D: +1/chunks with a forward (the first of
// its parts), back after the backward, or after the weight gradient where the backward is split (all parts of it).
std::vector<double> PeakActivations(const Schedule& schedule);

// Copies of the model over all workers together.
double WeightsCopies(const Schedule& schedule);

// The smallest divisor for ToTicks with which this schedule's costs are whole.
int TickDivisor(const Schedule& schedule);

}  // namespace lycia::schedule

#endif  // LYCIA_PARALLEL_SCHEDULE_SIMULATE_H_
