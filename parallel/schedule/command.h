// `lycia schedule`: a schedule as text, CSV, SVG or JSON. Flags are read in launch/; this is the command as a pure function.
#ifndef LYCIA_PARALLEL_SCHEDULE_COMMAND_H_
#define LYCIA_PARALLEL_SCHEDULE_COMMAND_H_

#include <string>

#include "runtime/core/status.h"

namespace lycia::schedule {

struct ScheduleCommandArgs {
  std::string name;              // --name=chimera
  int stages = 0;                // --stages=D
  int micro_batches = 0;         // --micro-batches=N
  int pipes = 0;                 // [--pipes=2]; 0 = not given, the schedule's own
  std::string cost = "F=1,B=2";  // [--cost=F=1,B=2], see ParseCosts
  std::string latency = "0";     // [--latency=0], in the costs' unit
  std::string format = "text";   // --format=text|csv|svg|json
};

// What the command prints, ending in a newline; InvalidArgument (exit code 2) names the flag, its value and what would do.
StatusOr<std::string> ScheduleCommand(const ScheduleCommandArgs& args);

}  // namespace lycia::schedule

#endif  // LYCIA_PARALLEL_SCHEDULE_COMMAND_H_
