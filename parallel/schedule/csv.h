// A schedule as CSV, torch's grammar with a pipe index: one row per worker, cells `p<pipe>.<stage><F|B|I|W><micro-batch>` in issue order,
// compute instructions only; part k of a divided backward as `p0.3B5/k`.
//
//   p0.0F0,p0.0B0        gives and takes a schedule of two workers
//   p0.1F0,p0.1B0
#ifndef LYCIA_PARALLEL_SCHEDULE_CSV_H_
#define LYCIA_PARALLEL_SCHEDULE_CSV_H_

#include <string>
#include <string_view>

#include "parallel/schedule/schedule.h"
#include "runtime/core/status.h"

namespace lycia::schedule {

std::string RenderCsv(const Schedule& schedule);

// The schedule with that program, named "csv"; its shape and placement are what the cells say, so that pipes without any micro-batch
// are not seen. Empty cells (idle time) and blanks around cells are ignored. Errors (InvalidArgument) name line and cell: bad grammar, a
// stage on two workers, a micro-batch in two pipes, a number missing. Order and completeness are Verify's to judge.
StatusOr<Schedule> ParseCsv(std::string_view text);

}  // namespace lycia::schedule

#endif  // LYCIA_PARALLEL_SCHEDULE_CSV_H_
