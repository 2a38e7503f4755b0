// `lycia schedule compare`: several schedules of the same model side by side, as a table, JSON, or pictures on one time axis.
#ifndef LYCIA_PARALLEL_SCHEDULE_COMPARE_H_
#define LYCIA_PARALLEL_SCHEDULE_COMPARE_H_

#include <string>

#include "runtime/core/status.h"

namespace lycia::schedule {

struct CompareArgs {
  int stages = 0;             // --stages=D
  std::string micro_batches;  // --micro-batches=8,16,32
  std::string schedules;      // [--schedules=1f1b,chimera]; empty: all of the table
  int max_activations = 0;    // as in ScheduleCommandArgs, like all below
  std::string cost = "F=1,B=2";
  std::string latency = "0";
  std::string transmit = "0";
  std::string sync = "0";
  std::string update = "0";
  std::string gradient_sync;
  std::string from;  // [--from=FILE] one more schedule, compared where it has that number of micro-batches
  std::string csv;
  std::string format = "table";  // --format=table|json|svg
};

// What the command prints. Schedules that cannot take the sizes are listed with the reason; the best of each column is marked.
StatusOr<std::string> CompareCommand(const CompareArgs& args);

}  // namespace lycia::schedule

#endif  // LYCIA_PARALLEL_SCHEDULE_COMPARE_H_
