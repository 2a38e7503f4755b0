// Programs as the simulator's loop reads them: everything that does not depend on time or on the replica, looked up once.
#ifndef LYCIA_PARALLEL_SCHEDULE_SIMULATE_STEPS_H_
#define LYCIA_PARALLEL_SCHEDULE_SIMULATE_STEPS_H_

#include <cstdint>
#include <vector>

#include "parallel/schedule/schedule.h"
#include "parallel/schedule/simulate.h"

namespace lycia::schedule {

inline constexpr std::int64_t kNothing = -1;

enum class StepKind : std::uint8_t { kCompute, kReceive, kSend, kSync, kUpdate };

// An instruction as the loop needs it; the same for all replicas.
struct Step {
  std::int64_t ticks = 0;
  std::int64_t needs = kNothing;  // number of the message that it waits for
  std::int64_t makes = kNothing;  // of the message that leaves behind it
  std::int32_t receiver = 0;      // worker that `makes` goes to
  std::int32_t set = -1;          // sync and update; of an update of all: -1
  std::int32_t join = -1;         // which of the worker's joins a set's update waits for; -1: none
  StepKind kind = StepKind::kCompute;
  bool paired = false;
  bool compute = false;  // counts as work; a load does not
};

// One for each instruction of each worker. Messages are numbered by MessageIndex with MaxParts(schedule).
std::vector<std::vector<Step>> Steps(const Schedule& schedule, const SimulateOptions& options);

}  // namespace lycia::schedule

#endif  // LYCIA_PARALLEL_SCHEDULE_SIMULATE_STEPS_H_
