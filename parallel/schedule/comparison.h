// What `lycia schedule compare` compares: schedules at one number of micro-batches, and the columns of its table.
#ifndef LYCIA_PARALLEL_SCHEDULE_COMPARISON_H_
#define LYCIA_PARALLEL_SCHEDULE_COMPARISON_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "parallel/schedule/schedule.h"
#include "parallel/schedule/timed_schedule.h"
#include "runtime/core/status.h"

namespace lycia::schedule {

// Messages between workers, over all micro-batches; each part of a divided instruction sends its own.
std::int64_t CountMessages(const Schedule& schedule);

// One schedule at one number of micro-batches: its numbers, or why it cannot be.
struct ComparedSchedule {
  std::string name;
  Status status;
  std::optional<TimedSchedule> timed;
  double makespan = 0, bubble = 0, span_bubble = 0, weights = 0, messages = 0;  // messages: of a micro-batch, on average
  std::vector<double> peaks;                                                    // [worker]
  std::vector<double> slack;                                                    // [stage] in units, on its last holder
};

// The schedule measured; a failure of its generation, or of TimeSchedule, becomes its status.
ComparedSchedule Compared(std::string name, StatusOr<Schedule> schedule, const TimingOptions& options);

struct Column {
  const char* title;
  const char* key;  // in JSON
  double (*value)(const ComparedSchedule&);
  std::string (*text)(const ComparedSchedule&);
  bool more_is_better = false;
};

const std::vector<Column>& Columns();

// All schedules at one number of micro-batches.
struct ComparisonRound {
  int micro_batches = 0;
  std::vector<ComparedSchedule> entries;

  // Whether an entry's value is as good as any, and not all are alike.
  bool IsBest(const Column& column, const ComparedSchedule& entry) const;
};

}  // namespace lycia::schedule

#endif  // LYCIA_PARALLEL_SCHEDULE_COMPARISON_H_
