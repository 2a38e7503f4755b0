// From the words of a command line to a proven, simulated schedule: what `lycia schedule` and `lycia schedule compare` share.
#ifndef LYCIA_PARALLEL_SCHEDULE_TIMED_SCHEDULE_H_
#define LYCIA_PARALLEL_SCHEDULE_TIMED_SCHEDULE_H_

#include <string>

#include "parallel/schedule/costs.h"
#include "parallel/schedule/passes.h"
#include "parallel/schedule/schedule.h"
#include "parallel/schedule/simulate.h"
#include "runtime/core/status.h"

namespace lycia::schedule {

struct CostFlags {
  std::string cost = "F=1,B=2";  // --cost, see ParseCosts
  std::string latency = "0";     // --latency, --transmit, --sync, --update: in the costs' unit
  std::string transmit = "0";
  std::string sync = "0";
  std::string update = "0";
};

struct TimingOptions {
  Costs costs;
  bool complete = false;  // with loads, messages, gradient sums and updates, not compute alone
  GradientSyncMode gradient_sync = GradientSyncMode::kLazy;
  int max_activations = 0;  // most that a worker may keep, in stages of D; 0 = no limit
};

// gradient_sync: "lazy", "eager" or "eager-opt"; empty: lazy where a sync or an update costs something, otherwise compute alone.
// InvalidArgument names the flag.
StatusOr<TimingOptions> ParseTimingFlags(const CostFlags& costs, const std::string& gradient_sync, int max_activations);

struct TimedSchedule {
  Schedule schedule;
  TickCosts ticks;
  Timeline timeline;
};

// Verifies, completes and simulates a schedule of compute instructions. InvalidArgument: what Verify says, with the place marked; costs for
// another number of stages; more activations than allowed.
StatusOr<TimedSchedule> TimeSchedule(Schedule schedule, const TimingOptions& options);

}  // namespace lycia::schedule

#endif  // LYCIA_PARALLEL_SCHEDULE_TIMED_SCHEDULE_H_
