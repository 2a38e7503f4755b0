// `lycia schedule`: a schedule as text, CSV, SVG, JSON or a Chrome trace. Flags are read in launch/; this is the command as a pure
// function.
#ifndef LYCIA_PARALLEL_SCHEDULE_COMMAND_H_
#define LYCIA_PARALLEL_SCHEDULE_COMMAND_H_

#include <string>

#include "runtime/core/status.h"

namespace lycia::schedule {

struct ScheduleCommandArgs {
  std::string name;              // --name=chimera
  int stages = 0;                // --stages=D: workers, and stages of a copy of the model on one chunk each
  int micro_batches = 0;         // --micro-batches=N
  int pipes = 0;                 // [--pipes=2]; 0 = not given, the schedule's own
  int chunks = 0;                // [--chunks=2] stages per worker and pipe; 0 = not given
  int max_activations = 0;       // [--max-activations=A] per worker, in stages of D; 0 = not given
  std::string cost = "F=1,B=2";  // [--cost=F=1,B=2], see ParseCosts
  std::string latency = "0";     // [--latency=0], in the costs' unit, as all below
  std::string transmit = "0";    // [--transmit=0]
  std::string sync = "0";        // [--sync=0]
  std::string update = "0";      // [--update=0]
  std::string gradient_sync;     // [--gradient-sync=lazy|eager|eager-opt]; empty = lazy where sync or update cost something, or none
  std::string from;              // [--from=FILE] instead of name, stages, micro_batches, pipes and chunks; used in messages
  std::string csv;               // the content of that file
  std::string format = "text";   // --format=text|csv|svg|json|trace
};

// What the command prints, ending in a newline; InvalidArgument (exit code 2) names the flag, its value and what would do.
StatusOr<std::string> ScheduleCommand(const ScheduleCommandArgs& args);

}  // namespace lycia::schedule

#endif  // LYCIA_PARALLEL_SCHEDULE_COMMAND_H_
